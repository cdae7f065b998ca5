"""Results of earlier runs in place of new trainings, where everything that decides about a result is the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from workflow.config.experiment import Experiment
from workflow.errors import InputError, Problems
from workflow.journal import Follower
from workflow.provenance import files_digest, holds_more_files, model_digest
from workflow.rundir import RunDir
from workflow.runtimes import Bind, Options
from workflow.stages import PATH_NAMES
from workflow.state import Inputs, Record, State
from workflow.trial import Outcome, Params, Trial, spoken

Key = str

REUSED = 0
"""The attempt of an outcome that was taken from an earlier run."""

MOST_FILES = 2000
"""Files of a bind's source up to which it is known by its contents; it may be a whole file system."""


class Memo:
    """Successful outcomes of earlier runs by all that decides about them."""

    def __init__(self, runs: tuple[str, ...], digest: str | None) -> None:
        """``digest`` is that of this run's inputs. Raises InputError for a directory that is no run."""
        self._found: dict[Key, Outcome] = {}
        self.different: list[str] = []
        """Runs with another model, data or arguments: nothing of theirs can be reused."""
        for run in map(RunDir, map(Path, runs)):
            past = _past(run)
            if digest is None or digest not in past.digests:
                self.different.append(str(run.path))
            else:
                self._take(run, past, digest)

    def __len__(self) -> int:
        return len(self._found)

    def find(self, trial: Trial) -> Outcome | None:
        """The outcome for a new trial, with where it came from; None if there is none, or its files are gone."""
        known = self._found.get(_key(trial.params, trial.fidelity))
        if known is None or not Path(known.source).is_dir():
            return None
        return replace(known, trial_id=trial.id)

    def _take(self, run: RunDir, past: _Past, digest: str) -> None:
        for trial in (*past.state.trials.values(), *past.state.reruns.values()):
            outcome = past.state.outcome_of(trial.id)
            if outcome is None or outcome.kind != "ok" or past.digest_of(outcome) != digest:
                continue
            source = outcome.source or str(run.trial_attempt(trial.id, outcome.attempt))
            evidence = f"reused from {run.path}, {spoken(trial.id)}"
            reused = Outcome(trial.id, REUSED, "ok", outcome.value, outcome.metrics, evidence=evidence, source=source)
            self._found.setdefault(_key(trial.params, trial.fidelity), reused)


class _Past:
    """What a run's journal comes to, and the digest of each attempt's inputs: they may change where it is resumed."""

    def __init__(self) -> None:
        self.state = State()
        self.digests: set[str] = set()
        self._began: dict[tuple[int | str, int], str | None] = {}

    def apply(self, record: Record) -> None:
        self.state.apply(record)
        digest = self.state.inputs.digest
        if digest is not None:
            self.digests.add(digest)
        if record["type"] == "attempt":
            self._began[record["trial"], record["attempt"]] = digest
        elif record["type"] == "outcome" and record["outcome"]["attempt"] == REUSED:
            self._began[record["outcome"]["trial_id"], REUSED] = digest

    def digest_of(self, outcome: Outcome) -> str | None:
        """None where the record of its beginning is gone."""
        return self._began.get((outcome.trial_id, outcome.attempt))


@dataclass(frozen=True)
class Reuse:
    """What may take the place of a campaign's trainings.

    ``inputs`` stand for all that decides about their results beside the hyperparameters; ``sources`` are those of
    binds.
    """

    inputs: Inputs
    memo: Memo
    sources: Mapping[str, Source]
    wanted: bool

    @property
    def notes(self) -> list[str]:
        """What the user should know about the earlier runs; nothing where none was to be reused."""
        if not self.wanted:
            return []
        coarse = [path for path, source in self.sources.items() if not source.whole]
        why = f"cannot be read, or holds more than {MOST_FILES} files: for reuse its modification time stands for them"
        other = "a run with another model, data or arguments: its results are not reused"
        return [*(f"bind {path}: {why}" for path in coarse), *(f"{run}: {other}" for run in self.memo.different)]


def reuse_of(
    experiment: Experiment, record: Mapping[str, Any], site: Options, data: Iterable[Path], written: list[Path],
    binds: Iterable[Bind],
) -> Reuse:  # fmt: skip
    """As ``inputs_of``, with the sources of ``binds`` and the experiment's earlier runs read."""
    sources = read_sources(binds, written)
    inputs = inputs_of(experiment, record, site, data, written, sources)
    return Reuse(inputs, Memo(experiment.reuse, inputs.digest), sources, bool(experiment.reuse))


class Source(NamedTuple):
    """What the source of a bind is known by: its contents if it is known ``whole``, else its modification time."""

    known_by: str
    whole: bool


def read_sources(binds: Iterable[Bind], written: Iterable[Path]) -> dict[str, Source]:
    """The sources of binds, but for what the campaign has ``written`` there.

    Devices and sockets have no contents; what cannot be read, or holds too much, isn't known whole.
    """
    return {bind.host: _read_source(Path(bind.host), [*written]) for bind in binds}


def _read_source(path: Path, written: list[Path]) -> Source:
    with contextlib.suppress(OSError):
        if os.access(path, os.R_OK) and not holds_more_files(path, MOST_FILES, written):
            return Source(files_digest([path], written), whole=True)
    try:
        return Source(str(path.stat().st_mtime_ns), whole=False)
    except OSError as error:
        return Source(str(error.strerror), whole=False)


def inputs_of(
    experiment: Experiment, record: Mapping[str, Any], site: Options, data: Iterable[Path], written: Iterable[Path],
    sources: Mapping[str, Source],
) -> Inputs:  # fmt: skip
    """What decides about a training beside its hyperparameters.

    These are the model (``record`` holds its provenance), what it and the ``site`` add to its calls, the files at
    ``data`` but for those that the campaign has ``written``, the ``sources`` of all binds, the arguments of preprocess
    and train, and the objectives.
    """
    args = {
        stage: {name: value for name, value in settings.args.items() if name not in PATH_NAMES}
        for stage, settings in experiment.stages.items() if stage != "infer"
    }  # fmt: skip
    config_file = experiment.stages["train"].config_file
    added = [[options.extra_args, dict(options.env), options.binds] for options in (experiment.model.options, site)]
    try:
        read = files_digest(data, written)
    except OSError:
        return Inputs()
    parts: list[object] = [read, args, config_file, vars(experiment.objective), added]
    parts += [vars(objective) for objective in experiment.objectives[1:]]
    parts += [sources] if sources else []  # without binds the digest is that of older runs
    model = model_digest(record)
    return Inputs(None if model is None else _digest([model, *parts]), _digest(parts))


def _digest(parts: list[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _key(params: Params, fidelity: float | None) -> Key:
    """Hyperparameters but paths, which differ from run to run."""
    kept = {name: value for name, value in params.items() if name not in PATH_NAMES}
    return json.dumps([sorted(kept.items()), fidelity])


def _past(run: RunDir) -> _Past:
    try:
        return Follower(run.journal, _Past).look()
    except OSError as error:
        what = f"{run.path} is no run that can be read ({error.strerror})"
        problems = Problems("reuse")
        problems.add("", what, "name the directories of earlier runs")
        raise InputError(problems.text()) from error
