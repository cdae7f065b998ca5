"""Conditions and constraints between entries: which are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.test_space_file import NAN, refusal, related
from workflow.space_file import parse_space


def test_a_chain_of_a_thousand_conditions() -> None:
    entries = [{"name": f"x{n}", "type": "logical", "condition": {f"x{n + 1}": True}} for n in range(1000)]
    space = parse_space([*entries, {"name": "x1000", "type": "logical"}], "s")
    assert len(space.params(next(space.draws(np.random.default_rng(1))))) >= 1


REFUSED_RELATIONS: list[tuple[str, dict[str, Any], str, str, str]] = [
    # name, keys added, key of the problem, what the message says, remedy
    ("momentum", {"default": 1}, "default", "1 is not in the space", "a number from 0.0 to 0.99"),
    ("momentum", {"default": "0.5"}, "default", "'0.5' is not in the space", "write a number"),
    ("momentum", {"default": None}, "default", "None is not in the space", "write a number"),
    ("momentum", {"default": NAN}, "default", "nan is not in the space", "write a number"),
    ("momentum", {"default": 10**400}, "default", "is not in the space", "write a number"),
    ("momentum", {"default": True}, "default", "True is not in the space", "write a number"),
    ("layers", {"default": 2.5}, "default", "2.5 is not in the space", "a whole number from 1 to 9"),
    ("nesterov", {"default": 1}, "default", "1 is not in the space", "true or false"),
    ("batch", {"default": 48}, "default", "48 is not in the space", "one of 16, 32, 64"),
    ("optimizer", {"default": ["SGD"]}, "default", "['SGD'] is not in", "one of 'Adam', 'SGD'"),
    ("momentum", {"condition": "SGD"}, "condition", "'SGD' is a string, not a dictionary", "write {"),
    ("momentum", {"condition": None}, "condition", "None is a null, not a dictionary", "write {"),
    ("momentum", {"condition": {"optimiser": "SGD"}}, "condition", "'optimiser' is no hyperparameter",
     "did you mean 'optimizer'?"),
    ("momentum", {"condition": {"momentum": 0.5}}, "condition", "this parameter itself", "another"),
    ("layers", {"condition": {"momentum": 0.5}}, "condition", "'momentum' is a float", "a constraint"),
    ("momentum", {"condition": {"optimizer": "sgd"}}, "condition: optimizer",
     "'sgd' is never its value", "one of 'Adam', 'SGD', 'RMSprop'"),
    ("momentum", {"condition": {"layers": [1, 10]}}, "condition: layers", "10 is never its value",
     "a whole number from 1 to 9"),
    ("momentum", {"condition": {"nesterov": 1}}, "condition: nesterov", "1 is never its value",
     "true or false"),
    ("momentum", {"condition": {"batch": [{}]}}, "condition: batch", "{} is never its value", "one of"),
    ("momentum", {"condition": {"optimizer": []}}, "condition: optimizer", "is an empty list",
     "give at least one value"),
    ("momentum", {"constraint": 5}, "constraint", "5 is a number, not a string", "in quotes"),
    ("momentum", {"constraint": ["layers > 1", None]}, "constraint 2", "None is a null", "in quotes"),
    ("momentum", {"constraint": "layer > 1"}, "constraint", "'layer > 1': character 1: 'layer' is no",
     "did you mean 'layers'?"),
    ("momentum", {"constraint": ["layers > 1", "layers >"]}, "constraint 2",
     "'layers >': character 9: ends too early", "use names"),
    ("momentum", {"constraint": "optimizer > 3"}, "constraint", "character 11: > cannot compare", "kind"),
    ("momentum", {"constraint": "batch > 'x'"}, "constraint", "a number with a string", "kind"),
    ("momentum", {"constraint": "epochs == 'x'"}, "constraint", "a number with a string", "kind"),
    ("momentum", {"constraint": "momentum > 1"}, "constraint", "'momentum > 1' is met by no", "loosen"),
    ("momentum", {"constraint": "1 / 0 > 0"}, "constraint", "is met by none of 10,000 random", "defaults"),
    ("momentum", {"default": 0.5, "constraint": "momentum > 0.6"}, "constraint",
     "'momentum > 0.6' is not met by the default configuration", "change a default"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "keys", "key", "what", "remedy"), REFUSED_RELATIONS)
def test_refusal_of_what_relates_entries(name: str, keys: dict[str, Any], key: str, what: str, remedy: str) -> None:
    problem, _, hint = refusal(related(**{name: keys})).partition("\n    -> ")
    number = 1 + [entry["name"] for entry in related()].index(name)
    assert problem.startswith(f"dir/space.json: entry {number} '{name}': {key}: ")
    assert what in problem
    assert remedy in hint
    assert "\n" not in hint, "one problem gives one refusal"


def test_conditions_in_a_circle_are_refused_at_each_of_them() -> None:
    changes = {
        "optimizer": {"condition": {"layers": 1}},
        "momentum": {"condition": {"optimizer": "SGD"}},
        "nesterov": {"condition": {"optimizer": "SGD"}},
        "layers": {"condition": {"nesterov": True, "batch": 16}},
    }
    problems = [line for line in refusal(related(**changes)).splitlines() if not line.startswith("    -> ")]
    assert [problem.partition(": depends on itself: ")[::2] for problem in problems] == [
        ("dir/space.json: entry 1 'optimizer': condition", "optimizer -> layers -> nesterov -> optimizer"),
        ("dir/space.json: entry 3 'nesterov': condition", "nesterov -> optimizer -> layers -> nesterov"),
        ("dir/space.json: entry 4 'layers': condition", "layers -> nesterov -> optimizer -> layers"),
    ]


def test_constraints_that_exclude_each_other_are_refused() -> None:
    changes = {"layers": {"constraint": ["layers < 3", "layers > 7"]}}
    assert "dir/space.json: all the constraints together are met by none of" in refusal(related(**changes))


def test_defaults_that_no_allowed_configuration_has_are_refused() -> None:
    changes = {"layers": {"constraint": ["layers * batch < 17", "layers >= batch / 32"], "default": 2}}
    assert "entry 4 'layers': constraint 1: 'layers * batch < 17' is not met by the default" in refusal(
        related(**changes)
    )
    changes = {"layers": {"constraint": ["nesterov or layers < 2", "not nesterov or layers < 2"], "default": 2}}
    assert "no configuration with these defaults meets all the constraints" in refusal(related(**changes))


def test_relations_with_entries_that_cannot_be_read_are_no_further_problems() -> None:
    changes = {
        "optimizer": {"values": 5},
        "momentum": {"condition": {"optimizer": "SGD"}, "constraint": "optimizer == 'SGD' or optimizer > 5"},
        "layers": {"condition": {"optimiser": 1}, "constraint": "layers <"},
    }
    problems = [line for line in refusal(related(**changes)).splitlines() if not line.startswith("    -> ")]
    places = [": ".join(problem.split(": ")[1:3]) for problem in problems]
    assert places == ["entry 1 'optimizer': values", "entry 4 'layers': condition", "entry 4 'layers': constraint"]
