"""Results of earlier runs in place of new trainings, where everything that decides about a result is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from workflow.config import Experiment
from workflow.errors import InputError, Problems
from workflow.journal import State, read_state
from workflow.provenance import files_digest, model_digest
from workflow.rundir import RunDir
from workflow.stages import PATH_NAMES, Options
from workflow.trial import Outcome, Params, Trial

Key = str


class Memo:
    """Successful outcomes of earlier runs by all that decides about them."""

    def __init__(self, runs: tuple[str, ...], inputs: str | None) -> None:
        """``inputs`` is what ``inputs_digest`` says of this run. Raises InputError for a directory that is no run."""
        self._found: dict[Key, Outcome] = {}
        self.different: list[str] = []
        """Runs with another model, data or arguments: nothing of theirs can be reused."""
        for run in map(RunDir, map(Path, runs)):
            state = _state(run)
            if inputs is None or state.inputs != inputs:
                self.different.append(str(run.path))
            else:
                self._take(run, state)

    def __len__(self) -> int:
        return len(self._found)

    def find(self, trial: Trial) -> Outcome | None:
        """The outcome for a new trial, with where it came from; None if there is none, or its files are gone."""
        known = self._found.get(_key(trial.params, trial.fidelity))
        if known is None or not Path(known.source).is_dir():
            return None
        return replace(known, trial_id=trial.id)

    def _take(self, run: RunDir, state: State) -> None:
        for trial in state.trials.values():
            outcome = state.outcomes.get(trial.id)
            if outcome is None or outcome.kind != "ok":
                continue
            source = outcome.source or str(run.trial_attempt(trial.id, outcome.attempt))
            evidence = f"reused from {run.path}, trial {trial.id}"
            reused = Outcome(trial.id, 0, "ok", outcome.value, outcome.metrics, evidence=evidence, source=source)
            self._found.setdefault(_key(trial.params, trial.fidelity), reused)


def inputs_digest(
    experiment: Experiment, record: Mapping[str, Any], site: Options, data: Iterable[Path], written: Iterable[Path]
) -> str | None:
    """A digest of what decides about a training beside its hyperparameters; None where that isn't known.

    These are the model (``record`` holds its provenance), what it and the ``site`` add to its calls, the files at
    ``data`` but for those that the campaign has ``written``, the arguments of preprocess and train, and the metric.
    """
    model = model_digest(record)
    if model is None:
        return None
    args = {
        stage: {name: value for name, value in settings.args.items() if name not in PATH_NAMES}
        for stage, settings in experiment.stages.items() if stage != "infer"
    }  # fmt: skip
    config_file = experiment.stages["train"].config_file
    added = [[options.extra_args, dict(options.env), options.binds] for options in (experiment.model.options, site)]
    parts = [model, files_digest(data, written), args, config_file, vars(experiment.objective), added]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _key(params: Params, fidelity: float | None) -> Key:
    """Hyperparameters but paths, which differ from run to run."""
    kept = {name: value for name, value in params.items() if name not in PATH_NAMES}
    return json.dumps([sorted(kept.items()), fidelity])


def _state(run: RunDir) -> State:
    try:
        return read_state(run.journal)
    except OSError as error:
        what = f"{run.path} is no run that can be read ({error.strerror})"
        problems = Problems("reuse")
        problems.add("", what, "name the directories of earlier runs")
        raise InputError(problems.text()) from error
