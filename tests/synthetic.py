"""Runs that never ran: of a few outcomes, or of many trials on many GPUs, quickly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from workflow.journal import Journal, campaign_record
from workflow.report.history import Run
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.state import Record, State
from workflow.trial import Objective, Outcome, Trial

SPACE: list[dict[str, Any]] = [
    {"name": "learning_rate", "type": "float", "lower": 1e-6, "upper": 0.1, "use_log_scale": True},
    {"name": "dropout", "type": "float", "lower": 0.0, "upper": 0.6},
    {"name": "num_layers", "type": "int", "lower": 1, "upper": 12},
    {"name": "batch_size", "type": "ordered", "element_type": "int", "values": [16, 32, 64, 128, 256, 512]},
    {"name": "optimizer", "type": "categorical", "element_type": "string", "values": ["Adam", "SGD", "RMSprop"]},
    {"name": "momentum", "type": "float", "lower": 0.0, "upper": 0.99, "condition": {"optimizer": "SGD"}},
    {"name": "amsgrad", "type": "logical"},
    {"name": "epochs", "type": "constant", "value": 100},
]

START = 1_700_000_000.0


def write_run(directory: Path, trials: int, *, gpus: int = 64, **experiment: Any) -> Path:
    """A run of that many trials, of which one in 30 failed, one in 40 lost an attempt, one in 25 was stopped early.

    Its results depend on learning rate, dropout and optimizer, and a little on chance.
    """
    directory.mkdir(parents=True)
    settings = {"name": "synthetic", "objective": {"metric": "val_loss", "mode": "min"}, **experiment}
    (directory / "experiment.yaml").write_text(yaml.safe_dump(settings))
    (directory / "space.json").write_text(json.dumps(SPACE))
    (directory / "site.yaml").write_text(yaml.safe_dump({"name": "cluster", "scheduler": "slurm"}))
    journal = Journal(directory / "journal.jsonl")
    records = _records(parse_space(SPACE, "space.json"), trials, gpus)
    journal.append(*sorted(records, key=lambda record: record["at"]))
    journal.close()
    return directory


def _records(space: Space, trials: int, gpus: int) -> Iterator[Record]:
    yield {"at": START, **campaign_record({}, {"host": "login1", "workers": gpus, "gpus": [], "command": "run"})}
    rng = np.random.Generator(np.random.PCG64(0))
    free = [START + 20.0] * gpus
    configurations = space.draws(rng)
    for number in range(trials):
        trial = Trial(number, number, space.params(next(configurations)), 1 + number // 100)
        yield {"type": "asked", "at": min(free), "trial": trial.to_json()}
        for attempt in (1, 2) if number % 40 == 7 else (1,):
            gpu = int(np.argmin(free))
            outcome = _outcome(trial, attempt, free[gpu], gpu, rng)
            free[gpu] = (outcome.ended or 0.0) + 3.0
            yield {"type": "attempt", "at": outcome.started, "trial": number, "attempt": attempt}
            yield {"type": "outcome", "at": outcome.ended, "outcome": outcome.to_json()}
    yield {"type": "ended", "at": max(free), "complete": True}


def _outcome(trial: Trial, attempt: int, started: float, gpu: int, rng: np.random.Generator) -> Outcome:
    place = {"host": f"node{gpu // 4 + 1}", "gpu": str(gpu % 4), "started": started}
    seconds, loss = float(rng.gamma(6.0, 60.0)), _loss(trial, rng)
    if trial.id % 40 == 7 and attempt == 1:
        ended = {"ended": started + seconds / 3, "cause": "infrastructure", "evidence": "the worker was lost"}
        return Outcome(trial.id, attempt, "lost", **place, **ended)
    if trial.id % 30 == 11:
        ended = {"ended": started + 9.0, "cause": "model", "evidence": "exit code 1: CUDA out of memory"}
        return Outcome(trial.id, attempt, "failed", **place, **ended)
    if trial.id % 25 == 4:
        return Outcome(trial.id, attempt, "stopped", None, {"val_loss": loss * 2}, ended=started + 40.0, **place)
    return Outcome(trial.id, attempt, "ok", loss, {"val_loss": loss}, ended=started + seconds, **place)


def _loss(trial: Trial, rng: np.random.Generator) -> float:
    rate = math.log10(float(trial.params["learning_rate"])) + 3.0 + (trial.params["optimizer"] == "SGD")
    dropout = float(trial.params["dropout"]) - 0.2
    return 0.3 + 0.03 * rate**2 + 0.8 * dropout**2 + 0.02 * float(rng.exponential())


def run_of(*outcomes: Outcome, space: list[dict[str, Any]] | None = None, **keys: Any) -> Run:
    """A run whose trials had those outcomes; trial i has ``x`` = i, and ``params[i]`` beside it."""
    state = State()
    params, fidelity = keys.pop("params", {}), keys.pop("fidelity", {})
    for number in dict.fromkeys(outcome.trial_id for outcome in outcomes):
        trial = Trial(number, number, {"x": number, **params.get(number, {})}, None, (), fidelity.get(number))
        state.apply({"type": "asked", "at": 0.0, "trial": trial.to_json()})
    for outcome in outcomes:
        state.apply({"type": "outcome", "at": 0.0, "outcome": outcome.to_json()})
    parsed = parse_space(space or [{"name": "x", "type": "int", "lower": 0, "upper": 100}], "space.json")
    names = tuple(parameter.name for parameter in parsed.varying)
    keys = {"path": Path("/run"), "name": "run", "objectives": (Objective(),), "attempts": outcomes, **keys}
    return Run(varying=names, state=state, space=parsed, **keys)
