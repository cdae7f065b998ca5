"""Records of a journal, for tests that write or fold some of their own."""

from __future__ import annotations

from typing import Any

from workflow.journal import campaign_record
from workflow.state import Record
from workflow.trial import Outcome, Trial

FINGERPRINT = {"search": {"seed": 1}, "space": [{"name": "x"}]}


def trial(number: int, **keys: Any) -> Trial:
    return Trial(number, number, {"x": 0.1 + 0.2, "name": 'ä "quoted"\n', "flag": True, "layers": 3}, 1, (0, 2), **keys)


def asked(number: int) -> Record:
    return {"type": "asked", "trial": trial(number).to_json()}


def attempt(number: int | str, count: int = 1) -> Record:
    return {"type": "attempt", "trial": number, "attempt": count}


def outcome(number: int, kind: str = "ok", count: int = 1, **keys: Any) -> Record:
    keys = {"value": 1e-05 if kind == "ok" else None, "metrics": {"mse": 0.5}, **keys}
    return {"type": "outcome", "outcome": Outcome(number, count, kind, **keys).to_json()}


def lost(number: int, count: int, cause: str = "infrastructure") -> Record:
    return outcome(number, "lost", count, cause=cause)


def stage(name: str, count: int, kind: str = "ok", number: int = -1) -> Record:
    return {"type": "stage", "stage": name, "outcome": Outcome(number, count, kind).to_json()}


HEADER = campaign_record(FINGERPRINT, {"host": "here"})
