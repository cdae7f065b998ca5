"""The smallest experiment file, changes to it, and what is told where it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow.config.experiment import Experiment
from workflow.config.load import load_experiment
from workflow.config.strict import parse_overrides
from workflow.errors import InputError

TEMPLATE = "$WORKFLOW_HOME/model_template"
SPACE = [{"name": "x", "type": "float", "lower": 0, "upper": 1}, {"name": "n", "type": "int", "lower": 1, "upper": 9}]
MINIMAL: dict[str, Any] = {"model": {"scripts": TEMPLATE}, "space": SPACE}


def write(directory: Path, data: object, name: str = "try.yaml") -> Path:
    path = directory / name
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def load(directory: Path, *overrides: str, **changes: Any) -> Experiment:
    """The minimal experiment with ``changes`` to its top-level keys."""
    return load_experiment(write(directory, {**MINIMAL, **changes}), parse_overrides(overrides))


def refusal(directory: Path, *overrides: str, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(directory, *overrides, **changes)
    return str(caught.value).replace(f"{directory}/", "")


def refusal_of_text(directory: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load_experiment(write(directory, text), {})
    return str(caught.value).replace(f"{directory}/", "")


REFERENCE_DEFAULTS = {
    "NUM_ITERATIONS": 5,
    "POPULATION_SIZE": 16,
    "GA_STRATEGY": "mu_plus_lambda",
    "OFFSPRING_PROPORTION": 0.5,
    "MUT_PROB": 0.8,
    "CX_PROB": 0.2,
    "MUT_INDPB": 0.5,
    "CX_INDPB": 0.5,
    "TOURNSIZE": 4,
    "SEED": 1,
}
OTHER_VALUES = {
    "NUM_ITERATIONS": 7,
    "POPULATION_SIZE": 12,
    "GA_STRATEGY": "simple",
    "OFFSPRING_PROPORTION": 0.25,
    "MUT_PROB": 0.6,
    "CX_PROB": 0.1,
    "MUT_INDPB": 0.4,
    "CX_INDPB": 0.3,
    "TOURNSIZE": 2,
    "SEED": 99,
}


def readable(name: str) -> str:
    return "strategy" if name == "GA_STRATEGY" else name.lower()


def fidelity(**changes: Any) -> dict[str, Any]:
    return {"strategy": "async", "fidelity": {"parameter": "epochs", "min": 10, "max": 150, **changes}}


BOTH = ["val_loss min", "walltime min"]
