"""A run with one of everything, for exports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.recorded import asked, begun, ended, retracted
from workflow.trial import Outcome, Params, Trial

SPACE = [
    {"name": "lr", "type": "float", "lower": 1e-6, "upper": 0.1, "use_log_scale": True},
    {"name": "layers", "type": "int", "lower": 1, "upper": 9},
    {"name": "batch", "type": "ordered", "element_type": "int", "values": [16, 32, 64]},
    {"name": "drop", "type": "categorical", "element_type": "float", "values": [0, 0.5]},
    {"name": "kind", "type": "categorical", "element_type": "string", "values": ["SGD", "Adam", ""]},
    {"name": "bias", "type": "logical"},
    {"name": "momentum", "type": "float", "lower": 0, "upper": 1, "condition": {"kind": ["SGD"]}},
    {"name": "epochs", "type": "constant", "value": 7},
]
BEGIN = 1_700_000_000.0


def params(**changes: Any) -> Params:
    return {"lr": 0.001, "layers": 2, "batch": 32, "drop": 0, "kind": "Adam", "bias": True, "epochs": 7, **changes}


def outcome(trial_id: int, kind: Any = "ok", value: float | None = None, **keys: Any) -> Outcome:
    place = {"started": BEGIN + trial_id, "ended": BEGIN + trial_id + 2.5, "host": "n1", "gpu": "0,1"}
    metrics = {} if value is None else {"mse": value}
    return Outcome(trial_id, **{"attempt": 1, "kind": kind, "value": value, "metrics": metrics, **place, **keys})


CURVE = ((1, 0.9), (2, 0.7))
STOPPED = outcome(1, "stopped", metrics={"val_loss": 0.8}, curve=CURVE, evidence="stopped early")
FAILED = outcome(2, "failed", cause="model", evidence='exit code 1: "a, b"', host="", gpu=None)
LOST = outcome(3, "lost", cause="infrastructure", evidence="worker lost", started=None, ended=None)
RECORDS = [
    *(asked(Trial(number, number, params(layers=1 + number), 1)) for number in range(3)),
    asked(Trial(3, 3, params(kind="SGD", momentum=0.9, bias=False), 2, parents=(0, 2))),
    asked(Trial(4, 4, params(), 2)),
    asked(Trial(5, 5, params(), 2)),
    *(begun(number) for number in range(4)),
    ended(outcome(0, "ok", 0.5, curve=CURVE, peak_memory=2**30, gpu_seconds=5.0)),
    ended(FAILED),
    retracted(2),
    begun(2, 2),
    ended(replace(FAILED, attempt=2)),
    ended(STOPPED),
    ended(LOST),
    begun(3, 2),
    ended(outcome(3, "ok", 0.25, attempt=2)),
    begun(4),
]
