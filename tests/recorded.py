"""Runs as their files have them, without the time that a campaign takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from workflow.journal import Journal, campaign_record
from workflow.trial import Outcome, Trial

Records = Sequence[Mapping[str, Any]]


def recorded(directory: Path, space: list[dict[str, Any]], records: Records, **experiment: Any) -> Path:
    """The directory of a run whose journal holds these records, and whose experiment has these keys."""
    directory.mkdir(parents=True)
    (directory / "space.json").write_text(json.dumps(space))
    (directory / "experiment.yaml").write_text(
        yaml.safe_dump({"objective": {"metric": "val_loss", "mode": "min"}, **experiment})
    )
    journal = Journal(directory / "journal.jsonl")
    journal.append(campaign_record({}, {}), *records)
    journal.close()
    return directory


def asked(trial: Trial) -> dict[str, Any]:
    return {"type": "asked", "trial": trial.to_json()}


def begun(trial_id: int, attempt: int = 1) -> dict[str, Any]:
    return {"type": "attempt", "trial": trial_id, "attempt": attempt}


def ended(outcome: Outcome) -> dict[str, Any]:
    return {"type": "outcome", "outcome": outcome.to_json()}


def retracted(*trial_ids: int) -> dict[str, Any]:
    return {"type": "retracted", "trials": list(trial_ids), "signature": "s", "reason": "all fail alike"}


def finals(*reruns: Trial) -> dict[str, Any]:
    return {"type": "finals", "reruns": [trial.to_json() for trial in reruns]}
