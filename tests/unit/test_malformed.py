"""1,000 malformed spaces, experiments, sites and command lines, made from valid ones by one fault each.

Each must end with exit code 2 and a message that names what is wrong, before anything starts, and none with a
traceback. A fault is a function that spoils a valid case and says what the message has to name.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow.run import main

TOTAL = 10_000 if os.environ.get("WORKFLOW_FULL") == "1" else 1_000
NAN, INF = float("nan"), float("inf")
Entry = dict[str, Any]


# -- valid input -----------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """What a call is given: three files, more files by their names, and more options.

    The ``*_text`` replace a file's content where data cannot express the fault. ``expected`` must all be in the
    message.
    """

    space: Any
    experiment: Any
    site: Any
    inline: bool = False
    space_text: str | bytes | None = None
    experiment_text: str | bytes | None = None
    site_text: str | bytes | None = None
    files: dict[str, str | bytes] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def argv(self, directory: Path) -> list[str]:
        """Write the files; the command line that reads them."""
        experiment = self.experiment
        if isinstance(experiment, dict) and "space" not in experiment:
            experiment = {**experiment, "space": self.space if self.inline else "space.json"}
        _write(directory / "space.json", self.space_text, lambda: json.dumps(self.space))
        _write(directory / "experiment.yaml", self.experiment_text, lambda: _yaml(experiment))
        _write(directory / "site.yaml", self.site_text, lambda: _yaml(self.site))
        for name, content in self.files.items():
            _write(directory / name, content, str)
        given = ["--site", "site.yaml", "--experiment", "experiment.yaml", "--dry-run"]
        return given + self.options


def _yaml(data: object) -> str:
    return yaml.safe_dump(data, sort_keys=False)


def _write(path: Path, content: str | bytes | None, otherwise: Callable[[], str]) -> None:
    content = otherwise() if content is None else content
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


ELEMENTS: dict[str, list[Any]] = {
    "int": [8, 16, 32, 64],
    "float": [0.1, 0.25, 0.5],
    "string": ["Adam", "SGD", "RMSprop"],
    "logical": [True, False],
}


def valid_entry(rng: random.Random, kind: str) -> Entry:
    if kind == "constant":
        return {"type": kind, "value": rng.choice(["text", "1000 500 100", 150, 0.5, True])}
    if kind in ("int", "float"):
        entry = {"type": kind, "lower": rng.randint(1, 5), "upper": rng.randint(6, 50)}
        extra = {"use_log_scale": rng.random() < 0.5, "sigma": rng.choice([0.5, 1, "0.000495"])}
    elif kind in ("categorical", "ordered"):
        element_type = rng.choice(sorted(ELEMENTS))
        entry = {"type": kind, "element_type": element_type, "values": list(ELEMENTS[element_type])}
        extra = {"sigma": rng.choice([0.5, 1, 2])} if kind == "ordered" else {}
    else:
        entry, extra = {"type": kind}, {}
    return {**entry, **{key: value for key, value in extra.items() if rng.random() < 0.5}}


KINDS = ["constant", "int", "float", "logical", "categorical", "ordered"]


def valid_space(rng: random.Random) -> list[Entry]:
    """All six types in any order, some twice."""
    kinds = KINDS + rng.choices(KINDS, k=rng.randint(0, 3))
    rng.shuffle(kinds)
    return [{"name": f"p{number}", **valid_entry(rng, kind)} for number, kind in enumerate(kinds)]


def valid_case(rng: random.Random) -> Case:
    stages = {
        "preprocess": {"args": {"ml_data_outdir": "{data_dir}/ml"}, "timeout": "30m"},
        "train": {"args": {"seed": 0, "layers": [64, 32]}, "timeout": rng.choice([60, "90s", "1h30m"])},
        "infer": {"gpu_arg": True, "timeout": "1d"},
    }
    search = {"strategy": "mu_plus_lambda", "num_iterations": 3, "population_size": rng.randint(4, 20), "seed": 7}
    if rng.random() < 0.3:
        search = {"strategy": "simple", "NUM_ITERATIONS": 2, "POPULATION_SIZE": 4}
    experiment = {
        "name": "case",
        "model": {"scripts": "$WORKFLOW_HOME/model_template", "runtime": "none", "contract": "improve"},
        "stages": stages,
        "objective": {"metric": "val_loss", "mode": "min"},
        "search": search,
        "max_attempts": 2,
    }
    site = {"name": "here", "scheduler": rng.choice(["threads", "local"]), "gpus": 2, "workers": 2, "grace": 1.5}
    return Case(valid_space(rng), experiment, site, inline=rng.random() < 0.3)


# -- faults ----------------------------------------------------------------------------------------------------------

Fault = Callable[[random.Random, Case], None]
FAULTS: list[Fault] = []


def fault(function: Fault) -> Fault:
    FAULTS.append(function)
    return function


def pick(rng: random.Random, case: Case, *kinds: str) -> Entry:
    """An entry of one of the types; the message must name its number and its name."""
    entry = rng.choice([e for e in case.space if e["type"] in (kinds or KINDS)])
    case.expected += [f"entry {case.space.index(entry) + 1} {entry['name']!r}", "space"]
    return entry


def spoil(rng: random.Random, case: Case, key: str, wrong: list[Any]) -> None:
    """Set a dotted key of the experiment to something wrong; the message must name the key."""
    *sections, last = key.split(".")
    target = case.experiment
    for section in sections:
        target = target.setdefault(section, {})
    target[last] = rng.choice(wrong)
    case.expected += ["experiment.yaml", key]


def spoil_site(rng: random.Random, case: Case, key: str, wrong: list[Any]) -> None:
    case.site[key] = rng.choice(wrong)
    case.expected += ["site.yaml", key]


def misspell(rng: random.Random, word: str) -> str:
    at = rng.randrange(len(word))
    return rng.choice([word[:at] + word[at + 1 :] or "q", word[:at] + "q" + word[at:], word.title() + "X"])


WORDS = ["x", "", "1", "three", "\N{SNOWMAN}"]
NOT_SCALAR: list[Any] = [[], [1], {}, {"a": 1}]

# -- faults of the space


@fault
def unknown_type(rng: random.Random, case: Case) -> None:
    pick(rng, case)["type"] = rng.choice(["integer", "Float", "bool", "", 5, None, True, ["int"], {}, "int "])
    case.expected += ["type", "known: constant, int"]


@fault
def missing_name(rng: random.Random, case: Case) -> None:
    entry = rng.choice(case.space)
    del entry["name"]
    case.expected += [f"entry {case.space.index(entry) + 1}: name", "is missing"]


REQUIRED = {
    "constant": ["value"],
    "int": ["lower", "upper"],
    "float": ["lower", "upper"],
    "categorical": ["values", "element_type"],
    "ordered": ["values", "element_type"],
}


@fault
def missing_key(rng: random.Random, case: Case) -> None:
    entry = pick(rng, case, *REQUIRED)
    key = rng.choice(["type", *REQUIRED[entry["type"]]])
    del entry[key]
    case.expected += [f"{key}: is missing"]


@fault
def misspelt_key(rng: random.Random, case: Case) -> None:
    entry = pick(rng, case, *REQUIRED)
    key = rng.choice(REQUIRED[entry["type"]])
    entry[misspell(rng, key)] = entry.pop(key)
    case.expected += [f"{key}: is missing"]


@fault
def bound_of_wrong_type(rng: random.Random, case: Case) -> None:
    key = rng.choice(["lower", "upper"])
    pick(rng, case, "int", "float")[key] = rng.choice([*WORDS, *NOT_SCALAR, None, True, False])
    case.expected += [key, "not a number"]


@fault
def bound_that_is_not_finite(rng: random.Random, case: Case) -> None:
    key = rng.choice(["lower", "upper"])
    pick(rng, case, "int", "float")[key] = rng.choice([NAN, INF, -INF, 10**400, -(10**400)])
    case.expected += [key, "not finite"]


@fault
def bounds_the_wrong_way_round(rng: random.Random, case: Case) -> None:
    entry = pick(rng, case, "int", "float")
    entry["lower"], entry["upper"] = entry["upper"], entry["lower"]
    case.expected += ["lower", str(entry["lower"]), str(entry["upper"])]


@fault
def log_scale_from_zero_or_below(rng: random.Random, case: Case) -> None:
    entry = pick(rng, case, "int", "float")
    entry |= {"lower": rng.choice([0, 0.0, -1, -1000]), "use_log_scale": True}
    case.expected += ["use_log_scale", "lower"]


@fault
def log_scale_that_is_not_logical(rng: random.Random, case: Case) -> None:
    pick(rng, case, "int", "float")["use_log_scale"] = rng.choice([*WORDS, *NOT_SCALAR, None, 0, 1, "true"])
    case.expected += ["use_log_scale"]


@fault
def sigma_that_is_no_size(rng: random.Random, case: Case) -> None:
    wrong = ["x", "", "1,5", "nan", "inf", "-1", -1, -0.001, NAN, INF, 10**400, None, True, *NOT_SCALAR]
    pick(rng, case, "int", "float", "ordered")["sigma"] = rng.choice(wrong)
    case.expected += ["sigma"]


@fault
def int_bound_that_is_no_int(rng: random.Random, case: Case) -> None:
    key = rng.choice(["lower", "upper"])
    pick(rng, case, "int")[key] = rng.choice([0.5, 1e-9, 2.25, 2**63, -(2**63), 1e300])
    case.expected += [key]


@fault
def element_of_wrong_type(rng: random.Random, case: Case) -> None:
    wrong = {"int": ["1", 1.5, True], "float": ["1", True], "string": [1, 0.5, True], "logical": [0, 1, "true"]}
    entry = pick(rng, case, "categorical", "ordered")
    at = rng.randrange(len(entry["values"]))
    entry["values"][at] = rng.choice([*wrong[entry["element_type"]], None, [], {}])
    case.expected += [f"values element {at + 1}", entry["element_type"]]


@fault
def element_that_is_not_finite(rng: random.Random, case: Case) -> None:
    entry = pick(rng, case, "categorical", "ordered")
    entry |= {"element_type": "float", "values": [1.0, rng.choice([NAN, INF, -INF, 10**400])]}
    case.expected += ["values element 2", "not finite"]


@fault
def values_that_are_no_list(rng: random.Random, case: Case) -> None:
    pick(rng, case, "categorical", "ordered")["values"] = rng.choice([[], {}, "abc", 5, None, True])
    case.expected += ["values", "list"]


@fault
def unknown_element_type(rng: random.Random, case: Case) -> None:
    pick(rng, case, "categorical", "ordered")["element_type"] = rng.choice(
        ["str", "integer", "Int", "", None, 5, True, ["int"], {}]
    )
    case.expected += ["element_type", "known: int, float, string, logical"]


@fault
def name_that_is_taken(rng: random.Random, case: Case) -> None:
    first, second = sorted(rng.sample(range(len(case.space)), 2))
    case.space[second]["name"] = name = case.space[first]["name"]
    case.expected += [f"entry {second + 1} {name!r}", f"first in entry {first + 1}"]


@fault
def name_that_is_no_option(rng: random.Random, case: Case) -> None:
    entry = rng.choice(case.space)
    entry["name"] = rng.choice(["", "a b", "--x", "1x", "ä", "a=b", "a\0", "\ud800", "x\n", 5, None, True, [], {}])
    case.expected += [f"entry {case.space.index(entry) + 1}", "name"]


@fault
def constant_that_is_no_scalar(rng: random.Random, case: Case) -> None:
    pick(rng, case, "constant")["value"] = rng.choice([None, [], [1], {}, {"a": 1}, NAN, INF, 10**400])
    case.expected += ["value"]


@fault
def text_that_no_command_line_can_carry(rng: random.Random, case: Case) -> None:
    text = rng.choice(["a\0b", "\0", "\ud800", "x\udfff"])
    entry = pick(rng, case, "constant", "categorical", "ordered")
    if entry["type"] == "constant":
        entry["value"] = text
    else:
        entry |= {"element_type": "string", "values": ["ok", text]}
    case.expected += ["value"]


@fault
def default_outside_the_space(rng: random.Random, case: Case) -> None:
    entry = pick(rng, case, "int", "float", "logical", "categorical", "ordered")
    entry["default"] = rng.choice([-99, 10**400, NAN, INF, None, "zzz", "6", [], {"a": 1}, [entry["name"]], 0.123])
    case.expected += ["default: ", "is not in the space"]


@fault
def condition_that_cannot_be_met(rng: random.Random, case: Case) -> None:
    parent = pick(rng, case, "int", "logical", "categorical", "ordered")
    case.expected = ["space"]
    child = pick(rng, case, *(kind for kind in KINDS if kind != parent["type"]))
    wrong = rng.choice([-99, "zzz", None, [], [-99], ["zzz", None], 0.123, {}, [[1]]])
    child["condition"] = {parent["name"]: wrong}
    case.expected += [f"condition: {parent['name']}: ", "is never its value|is an empty list"]


@fault
def condition_on_no_hyperparameter(rng: random.Random, case: Case) -> None:
    entry = pick(rng, case)
    wrong = rng.choice([{"zzz": 1}, {"": 1}, {entry["name"]: 1}, {entry["name"] + "x": []}, [], "p0", 5, None, True])
    entry["condition"] = wrong
    case.expected += ["condition: "]


@fault
def conditions_in_a_circle(rng: random.Random, case: Case) -> None:
    circle = rng.sample([entry for entry in case.space if entry["type"] not in ("float", "constant")], 3)
    values = {"int": 6, "logical": True}
    for child, parent in zip(circle, [*circle[1:], circle[0]], strict=True):
        child["condition"] = {parent["name"]: values.get(parent["type"], parent.get("values", [0])[0])}
        case.expected += [f"entry {case.space.index(child) + 1} {child['name']!r}: condition: depends on itself"]


NO_EXPRESSIONS = [
    "", "p0 <", "(1 < 2", "1 < 2)", "1 = 1", "2 ** 3 > 1", "zzz > 1", "p0.x > 1", "__import__('os')", "f(1) > 1",
    "[1] < 2", "lambda: 1", "1 if 1 else 1", "1 < 'a'", "'a", "1 +", "1", "'a' < 'b'", "1 < true", "not 1", "(" * 99,
    "1 < " + "9" * 600, "\0", "1 < 2 and", "in (1)", "1 in 1", "p0; p1", "1 < 2 or \N{SNOWMAN}",
]  # fmt: skip


@fault
def constraint_that_is_no_expression(rng: random.Random, case: Case) -> None:
    text = rng.choice(NO_EXPRESSIONS)
    pick(rng, case)["constraint"] = rng.choice([text, [text], ["1 < 2", text]])
    case.expected += ["constraint", ": character "]


@fault
def constraint_that_is_no_text(rng: random.Random, case: Case) -> None:
    wrong = rng.choice([5, None, True, {}, 0.5, {"a": "1 < 2"}, [5], ["1 < 2", None], [["1 < 2"]]])
    pick(rng, case)["constraint"] = wrong
    case.expected += ["constraint", "not a string"]


@fault
def constraint_that_nothing_meets(rng: random.Random, case: Case) -> None:
    entry = pick(rng, case, "int", "float")
    name = entry["name"]
    entry["constraint"] = rng.choice([f"{name} > 99", f"{name} < {name}", f"1 / 0 > {name}", f"{name} in (-1, 99)"])
    case.expected += ["constraint", "is met by no"]


@fault
def entry_that_is_no_dictionary(rng: random.Random, case: Case) -> None:
    at = rng.randrange(len(case.space) + 1)
    case.space.insert(at, rng.choice(["x", "", 5, 0.5, None, True, [], ["name"]]))
    case.expected += [f"entry {at + 1}", "not a dictionary"]


@fault
def space_that_is_no_list(rng: random.Random, case: Case) -> None:
    case.inline = False
    case.space = rng.choice([{}, {"p0": case.space[0]}, "space", 5, None, True, []])
    case.expected += ["space.json", "list"]


@fault
def key_given_twice_in_an_entry(rng: random.Random, case: Case) -> None:
    case.inline = False
    at = rng.randrange(len(case.space))
    texts = [json.dumps(entry) for entry in case.space]
    key = rng.choice(list(case.space[at]))
    texts[at] = texts[at][:-1] + f', "{key}": {json.dumps(case.space[at][key])}}}'
    case.space_text = f"[{', '.join(texts)}]"
    case.expected += [f"entry {at + 1}", f"{key}: is given more than once"]


@fault
def json_cut_off(rng: random.Random, case: Case) -> None:
    case.inline = False
    text = json.dumps(case.space, indent=rng.choice([None, 2]))
    case.space_text = text[: rng.randrange(len(text))]
    case.expected += ["space.json: line ", " column ", "not JSON"]


@fault
def json_with_a_character_missing(rng: random.Random, case: Case) -> None:
    case.inline = False
    text = json.dumps(case.space)
    at = rng.choice([i for i, character in enumerate(text) if character in '{}[]:"'])
    case.space_text = text[:at] + text[at + 1 :]
    case.expected += ["space.json: line ", " column ", "not JSON"]


@fault
def json_with_something_else_in_it(rng: random.Random, case: Case) -> None:
    case.inline = False
    text = json.dumps(case.space)
    at = rng.choice([i for i, character in enumerate(text) if character in "{[,"])
    extra = rng.choice(["// comment\n", "#", "'", "x", "\\", "\0", "\x1b", ",,", "{", "None", "-", "\N{SNOWMAN}"])
    case.space_text = text[: at + 1] + extra + text[at + 1 :]
    case.expected += ["space.json: line ", " column ", "not JSON"]


@fault
def space_beyond_what_can_be_read(rng: random.Random, case: Case) -> None:
    case.inline = False
    depth = rng.choice([5_000, 50_000])
    number = '[{"name": "x", "type": "int", "lower": 1, "upper": %s}]'
    case.space_text = rng.choice(["[" * depth, '[{"a":' * depth, "[" * depth + "]" * depth, number % ("9" * depth)])
    case.expected += ["space.json"]


def garbage(rng: random.Random) -> bytes:
    """Bytes that are not UTF-8."""
    return b"\xff" + rng.randbytes(rng.randint(0, 500))


@fault
def space_that_is_no_text(rng: random.Random, case: Case) -> None:
    case.inline = False
    case.space_text = rng.choice([garbage(rng), "[]".encode("utf-16"), b"[\xe4]", b"\x80\x04\x95pickle"])
    case.expected += ["space.json", "UTF-8"]


@fault
def space_that_is_empty(rng: random.Random, case: Case) -> None:
    case.inline = False
    case.space_text = rng.choice(["", " ", "\n\n", "\t", "\ufeff", "\0"])
    case.expected += ["space.json: line ", " column "]


LONG = "n" * 300
LONG_PATH = "n/" * 3000


@fault
def space_that_is_not_there(rng: random.Random, case: Case) -> None:
    case.experiment["space"] = rng.choice(["none.json", "../none.json", "/no/none.json", "x/none.json"])
    case.expected += ["none.json: cannot be read"]


@fault
def space_that_is_no_file(rng: random.Random, case: Case) -> None:
    case.experiment["space"] = rng.choice([".", "..", "/", "experiment.yaml/x", LONG, LONG_PATH])
    case.expected += ["cannot be read", "path of the hyperparameter space"]


@fault
def space_that_is_no_file_name(rng: random.Random, case: Case) -> None:
    spoil(rng, case, "space", [None, "", "a\0b", "$NOT_SET_HERE/space.json", "${NOT_SET_HERE}", "~no-such-user/s.json"])


@fault
def space_in_place_that_is_no_list(rng: random.Random, case: Case) -> None:
    spoil(rng, case, "space", [[], {}, {"name": "x", "type": "logical"}, 5, 0.5, True])


# -- faults of the experiment

SECTIONS = {
    "": ["name", "model", "stages", "objective", "search", "max_attempts"],
    "model": ["image", "scripts", "runtime", "contract", "data_dir"],
    "stages": ["preprocess", "train", "infer"],
    "stages.preprocess": ["args", "timeout"],
    "stages.train": ["args", "timeout", "config_file"],
    "stages.infer": ["args", "timeout", "gpu_arg"],
    "objective": ["metric", "mode"],
    "search": ["strategy", "num_iterations", "mut_prob", "tournsize", "reevaluate", "initial_population"],
}


@fault
def unknown_key(rng: random.Random, case: Case) -> None:
    section = rng.choice(list(SECTIONS))
    key = misspell(rng, rng.choice(SECTIONS[section]))
    dotted = f"{section}.{key}".lstrip(".")
    spoil(rng, case, dotted, [None, 1, "x", {}, []])
    case.expected += ["is not a known key", f"known: {SECTIONS[section][0]}" if section != "search" else "known: "]


@fault
def key_of_another_stage(rng: random.Random, case: Case) -> None:
    spoil(rng, case, *rng.choice([
        ("stages.preprocess.gpu_arg", [True]), ("stages.train.gpu_arg", [False]), ("stages.infer.config_file", ["x"]),
        ("stages.preprocess.config_file", ["x"]), ("model.args", [{}]), ("stages.scripts", ["x"]),
    ]))  # fmt: skip
    case.expected += ["is not a known key"]


@fault
def wrong_stage_name(rng: random.Random, case: Case) -> None:
    spoil(rng, case, f"stages.{rng.choice(['trian', 'Train', 'test', 'inference', 'preproces', 'train_', '1'])}", [{}])
    case.expected += ["known: preprocess, train, infer"]


@fault
def section_that_is_none(rng: random.Random, case: Case) -> None:
    section = rng.choice([key for key in SECTIONS if key])
    spoil(rng, case, section, [5, "text", [1], True, [], 0.5])
    case.expected += ["not a section"]


@fault
def bad_timeout(rng: random.Random, case: Case) -> None:
    wrong = ["", "soon", "-5m", "1y", "1h 30m", "m", "1m30", "5 m", "h1", 0, -1, 0.0, NAN, INF, True, *NOT_SCALAR]
    spoil(rng, case, f"stages.{rng.choice(['preprocess', 'train', 'infer'])}.timeout", wrong)


@fault
def bad_switch(rng: random.Random, case: Case) -> None:
    key = rng.choice(["stages.infer.gpu_arg", "search.reevaluate"])
    spoil(rng, case, key, [*WORDS, *NOT_SCALAR, 0, 1, "true", 0.5])


@fault
def bad_choice(rng: random.Random, case: Case) -> None:
    key = rng.choice(["model.runtime", "model.contract", "objective.mode", "search.strategy"])
    spoil(rng, case, key, [*WORDS, *NOT_SCALAR, 5, True, "none ", "Improve", "minimise", "mu+lambda"])


@fault
def bad_metric(rng: random.Random, case: Case) -> None:
    spoil(rng, case, "objective.metric", ["a b", "1x", "--x", "a/b", "ä b", "x:", 5, 0.5, True, *NOT_SCALAR, "a\0"])


@fault
def bad_name(rng: random.Random, case: Case) -> None:
    wrong = ["a/b", "..", ".", "/", "a\0", "\ud800", "a\nb", "a:b", "$(x)", "*", " ", *NOT_SCALAR, True]
    spoil(rng, case, "name", wrong)


@fault
def bad_count(rng: random.Random, case: Case) -> None:
    keys = ["num_iterations", "population_size", "tournsize", "evaluations"]
    wrong = [0, -1, 1.5, NAN, INF, "x", "", "1.5", True, 10**400, 1e300, *NOT_SCALAR]
    key = rng.choice(keys)
    case.experiment["search"].pop(key.upper(), None)
    spoil(rng, case, f"search.{key}", wrong)


@fault
def bad_seed_or_attempts(rng: random.Random, case: Case) -> None:
    spoil(rng, case, rng.choice(["search.seed", "max_attempts"]), [-1, 1.5, NAN, "x", True, 10**400, *NOT_SCALAR])


@fault
def bad_proportion(rng: random.Random, case: Case) -> None:
    key = rng.choice(["offspring_proportion", "mut_prob", "cx_prob", "mut_indpb", "cx_indpb"])
    spoil(rng, case, f"search.{key}", [-0.1, 1.1, 50, NAN, INF, "x", "", True, *NOT_SCALAR])


@fault
def search_that_does_not_add_up(rng: random.Random, case: Case) -> None:
    wrong = rng.choice([
        {"mut_prob": 0.8, "cx_prob": 0.3}, {"mut_prob": 1.0, "cx_prob": 0.01},
        {"offspring_proportion": 0.0}, {"offspring_proportion": 1.0}, {"population_size": 1},
        {"population_size": 3, "offspring_proportion": 0.3}, {"evaluations": 5},
    ])  # fmt: skip
    case.experiment["search"] = {"strategy": "mu_plus_lambda", **wrong}
    case.expected += ["experiment.yaml: search."]


@fault
def alias_beside_its_name(rng: random.Random, case: Case) -> None:
    key, value = rng.choice([("num_iterations", 3), ("population_size", 8), ("seed", 1), ("tournsize", 2)])
    case.experiment["search"] = {key: value, key.upper(): value}
    case.expected += ["experiment.yaml", f"search.{key.upper()}"]


@fault
def space_is_missing(rng: random.Random, case: Case) -> None:
    del case.experiment[rng.choice(["name", "max_attempts", "objective"])]
    case.experiment_text = _yaml(case.experiment)
    case.expected += ["experiment.yaml: space: is missing"]


@fault
def model_that_is_not_there(rng: random.Random, case: Case) -> None:
    key = rng.choice(["scripts", "data_dir", "image"])
    if key == "image":
        case.experiment["model"] = {"runtime": "apptainer"}
    wrong = ["nowhere", "/nowhere/at/all", "space.json/x", LONG, LONG_PATH, "", "a\0b", "~no-such-user/x", []]
    spoil(rng, case, f"model.{key}", wrong)


@fault
def model_without_a_place(rng: random.Random, case: Case) -> None:
    case.experiment["model"], key = rng.choice([
        ({}, "scripts"), ({"runtime": "none"}, "scripts"), ({"contract": "candle"}, "scripts"),
        ({"runtime": "apptainer"}, "image"), ({"runtime": "apptainer", "scripts": "."}, "image"),
        ({"runtime": "none", "image": "x.sif"}, "scripts"),
    ])  # fmt: skip
    case.expected += ["experiment.yaml", f"model.{key}: is missing"]


@fault
def scripts_that_lack_one(rng: random.Random, case: Case) -> None:
    case.experiment["model"]["scripts"] = "."
    case.expected += ["experiment.yaml", "model.scripts", "train.sh"]


@fault
def variable_that_is_not_set(rng: random.Random, case: Case) -> None:
    key = rng.choice(["model.scripts", "model.image", "model.data_dir", "search.initial_population"])
    spoil(rng, case, key, ["$NOT_SET_HERE", "${NOT_SET_HERE}/x", "x/$NOT_SET_HERE/y"])
    case.expected += ["NOT_SET_HERE"]


@fault
def argument_that_is_no_option(rng: random.Random, case: Case) -> None:
    stage = rng.choice(["preprocess", "train", "infer"])
    name = rng.choice(["--seed", "-s", "a b", "", "1st", "a=b", "ä b", "a/b"])
    case.experiment["stages"][stage] = {"args": {name: 1}}
    case.expected += ["experiment.yaml", f"stages.{stage}.args.{name}"]


@fault
def argument_that_is_no_scalar(rng: random.Random, case: Case) -> None:
    wrong = [None, {}, {"a": 1}, [[1]], [None], [{}], NAN, INF, [1, NAN], "a\0b", ["\ud800"]]
    spoil(rng, case, f"stages.{rng.choice(['preprocess', 'train', 'infer'])}.args.x", wrong)


TEMPLATES = ["{nope}", "{", "}", "{}", "{trial", "{Trial}", "{0}", "a{{}b", "${HOME}", "{trial!r}"]


@fault
def unknown_placeholder_in_an_argument(rng: random.Random, case: Case) -> None:
    spoil(rng, case, f"stages.{rng.choice(['preprocess', 'train', 'infer'])}.args.x", TEMPLATES)
    case.expected += ["{trial}, {run}, {data_dir}"]


@fault
def unknown_placeholder_in_a_constant(rng: random.Random, case: Case) -> None:
    entry = next(entry for entry in case.space if entry["type"] == "constant")
    entry["value"] = rng.choice(TEMPLATES)
    case.expected += ["experiment.yaml", f"space: {entry['name']}", "{trial}, {run}, {data_dir}"]


@fault
def path_that_was_not_filled_in(rng: random.Random, case: Case) -> None:
    name = rng.choice(["train_ml_data_dir", "val_ml_data_dir", "test_ml_data_dir", "input_dir"])
    case.space.append({"name": name, "type": "constant", "value": rng.choice(["<path>", "<train_data_dir>", "<>"])})
    del case.experiment["stages"]["preprocess"]
    case.expected += ["experiment.yaml", f"space: {name}", "not filled in"]


@fault
def constants_too_long_for_a_command_line(rng: random.Random, case: Case) -> None:
    case.space.append({"name": "long", "type": "constant", "value": "x" * rng.randint(100_001, 150_000)})
    case.expected += ["experiment.yaml: space", "characters"]


# -- faults of initial populations


@fault
def initial_population_that_is_not_there(rng: random.Random, case: Case) -> None:
    file = rng.choice(["none.csv", "/no/none.csv", "space.json/none.csv", f"{LONG}none.csv", f"{LONG_PATH}none.csv"])
    case.experiment["search"]["initial_population"] = file
    case.expected += ["none.csv: cannot be read"]


@fault
def initial_population_that_is_no_file_name(rng: random.Random, case: Case) -> None:
    spoil(rng, case, "search.initial_population", ["", "a\0b", "~no-such-user/x.csv", [], {}, True, "$NOT_SET_HERE/x"])


@fault
def initial_value_outside_the_space(rng: random.Random, case: Case) -> None:
    varying = [entry for entry in case.space if entry["type"] != "constant"]
    wrong = rng.choice(varying)
    good = {"int": 6, "float": 6, "logical": "true"}
    row = [str(good[e["type"]] if e["type"] in good else e["values"][0]) for e in varying]
    row[varying.index(wrong)] = rng.choice(["zzz", "", "-99999", "nan", "6.5.1", "inf"])
    case.files["initial.csv"] = "\n".join([",".join(e["name"] for e in varying), ",".join(row)])
    case.experiment["search"]["initial_population"] = "initial.csv"
    case.expected += ["initial.csv", f"line 2: {wrong['name']}"]


@fault
def initial_population_that_is_no_table(rng: random.Random, case: Case) -> None:
    case.files["initial.csv"] = rng.choice(
        [b"", b"\n", garbage(rng), b"a,b\n1,2\n", b"\0\0", b'p0\n"' + b"x" * 200_000]
    )
    case.experiment["search"]["initial_population"] = "initial.csv"
    case.expected += ["initial.csv"]


# -- faults of YAML, in the experiment or the site


def append_yaml(rng: random.Random, case: Case, *texts: str | bytes) -> None:
    """Put one of the texts at the end of the experiment or the site."""
    file = rng.choice(["experiment", "site"])
    content = {**case.experiment, "space": case.space} if file == "experiment" else case.site
    text = rng.choice(texts)
    setattr(case, f"{file}_text", _yaml(content).encode() + (text if isinstance(text, bytes) else text.encode()))
    case.expected += [f"{file}.yaml"]


@fault
def broken_yaml(rng: random.Random, case: Case) -> None:
    append_yaml(
        rng, case, "x: [1, 2\n", "x: {a: 1\n", "x: 'a\n", 'x: "a\n', "x: a: b\n", "\tx: 1\n", "- x\n", "x\n",
        "x: *nope\n", "x: &a\n&b: 1\n", "x: @\n", "x: `\n", "x: !<\n", "x: %\n  - [\n", "x: ]\n", "---\nname: y\n",
        "x: !foo 1\n", '"\\q": 1\n', "x: |\n a\nb\n", "? x\n? y\n: :\n-\n",
    )  # fmt: skip
    case.expected += ["line "]


@fault
def yaml_tags(rng: random.Random, case: Case) -> None:
    append_yaml(
        rng, case, "x: !!python/object/apply:os.system ['true']\n", "x: !!python/name:os.system\n", 'x: !!int ""\n',
        "x: !!int a\n", 'x: !!float ""\n', "x: !!float a\n", "x: !!bool maybe\n", "x: !!map [1]\n", "x: !!map a\n",
        "x: !!seq a\n", "x: !!binary '***'\n", "x: !!binary \N{SNOWMAN}\n", "x: !!str [1]\n", "x: !!omap [1]\n",
        "x: =\n", "x: !!set [1]\n", "x: !!null [1]\n", "x: !!int {}\n",
    )  # fmt: skip


@fault
def yaml_key_that_is_no_string(rng: random.Random, case: Case) -> None:
    append_yaml(
        rng, case, "1: x\n", "null: x\n", "yes: x\n", "? [a]\n: x\n", "? {a: 1}\n: x\n", "1.5: x\n", "2020-01-01: x\n"
    )


@fault
def yaml_key_given_twice(rng: random.Random, case: Case) -> None:
    append_yaml(rng, case, "name: again\n")
    case.expected += ["line ", "'name' is given twice"]


@fault
def yaml_with_control_characters(rng: random.Random, case: Case) -> None:
    append_yaml(rng, case, "x: \0\n", "x: \x1b[0m\n", "\x07\n", b"x: \xff\n", b"x: \xc3\n", b"\xfe\xff\x00a")


@fault
def yaml_that_refers_to_itself(rng: random.Random, case: Case) -> None:
    append_yaml(rng, case, "x: &x [*x]\n", "x: &x {x: *x}\n", "x: &x [[*x], {y: *x}]\n")


@fault
def yaml_that_refers_to_itself_in_known_keys(rng: random.Random, case: Case) -> None:
    key = rng.choice(["search", "objective", "model", "stages", "max_attempts", "name"])
    case.experiment["space"] = "space.json"
    case.experiment.pop(key)
    case.experiment_text = _yaml(case.experiment) + f"{key}: &x {rng.choice(['[*x]', '{a: *x}', '[[*x]]'])}\n"
    case.expected += ["experiment.yaml"]


@fault
def yaml_of_a_billion_laughs(rng: random.Random, case: Case) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    append_yaml(rng, case, "\n".join(lines) + "\n")
    case.expected += ["a29"]


@fault
def yaml_nested_too_deeply(rng: random.Random, case: Case) -> None:
    depth = rng.choice([300, 1100])
    append_yaml(rng, case, "x: " + "[" * depth, "x: " + "[" * depth + "]" * depth, "x: " + "{a: " * depth + "}" * depth)


@fault
def file_that_is_no_yaml_dictionary(rng: random.Random, case: Case) -> None:
    file = rng.choice(["experiment", "site"])
    content = [
        b"",
        b"\n",
        b"# only a comment\n",
        b"text",
        b"5",
        b"null",
        b"[]",
        b"- name: x\n",
        b"---\n",
        b"...\n",
        garbage(rng),
    ]
    setattr(case, f"{file}_text", rng.choice(content))
    case.expected += [f"{file}.yaml"]


HUGE = [
    "0x" + "f" * 5000,
    "9" * 5000,
    "0b" + "1" * 20_000,
    "1e999",
    "-" + "9" * 400,
    ".inf",
    ".nan",
    "-.inf",
    "0x" + "f" * 300,
]


@fault
def huge_numbers(rng: random.Random, case: Case) -> None:
    section, key = rng.choice([
        ("search", "num_iterations"), ("search", "seed"), ("search", "mut_prob"), ("search", "population_size"),
        ("objective", "mode"), ("model", "runtime"),
    ])  # fmt: skip
    case.experiment["space"] = "space.json"
    case.experiment[section] = {key: "HUGE"}
    case.experiment_text = _yaml(case.experiment).replace("HUGE", rng.choice(HUGE))
    case.expected += ["experiment.yaml", f"{section}.{key}|line "]


@fault
def huge_numbers_in_a_space_in_place(rng: random.Random, case: Case) -> None:
    entry = rng.choice([entry for entry in case.space if entry["type"] in ("int", "float")])
    entry[rng.choice(["lower", "upper"])] = "HUGE"
    text = _yaml({**case.experiment, "space": case.space})
    case.experiment_text = text.replace("HUGE", rng.choice(["0x" + "f" * 5000, "0b" + "1" * 20_000, "0x" + "f" * 300]))
    case.expected += ["experiment.yaml", f"space: entry {case.space.index(entry) + 1} {entry['name']!r}|line "]


@fault
def huge_numbers_as_text(rng: random.Random, case: Case) -> None:
    key = rng.choice(["name", "model.runtime", "model.scripts", "objective.metric", "search.strategy"])
    section, _, last = key.rpartition(".")
    (case.experiment[section] if section else case.experiment)[last] = "HUGE"
    case.experiment["space"] = "space.json"
    case.experiment_text = _yaml(case.experiment).replace("HUGE", rng.choice(["0x" + "f" * 5000, "0b" + "1" * 20_000]))
    case.expected += ["experiment.yaml", f"{key}|line "]


# -- faults of the site


@fault
def unknown_site_key(rng: random.Random, case: Case) -> None:
    spoil_site(
        rng, case, misspell(rng, rng.choice(["name", "scheduler", "workers", "gpus", "grace"])), [1, None, "x", []]
    )
    case.expected += ["is not a known key", "known: "]


@fault
def bad_scheduler(rng: random.Random, case: Case) -> None:
    spoil_site(rng, case, "scheduler", [*WORDS, *NOT_SCALAR, None, 5, True, "Local", "slurmm", "thread"])


@fault
def missing_scheduler(rng: random.Random, case: Case) -> None:
    del case.site["scheduler"]
    if rng.random() < 0.5:
        case.site.pop(rng.choice(list(case.site)))
    case.expected += ["site.yaml", "scheduler: is missing"]


@fault
def bad_workers(rng: random.Random, case: Case) -> None:
    spoil_site(rng, case, "workers", [0, -1, 1.5, 3, 1000, 10**400, NAN, INF, "x", "", True, False, *NOT_SCALAR])


@fault
def bad_gpus(rng: random.Random, case: Case) -> None:
    wrong = [
        -1,
        1.5,
        NAN,
        10**400,
        "x",
        "",
        True,
        False,
        {},
        {"a": 1},
        [None],
        [[]],
        [1.5],
        [True],
        ["0", 0],
        ["", "1"],
    ]
    spoil_site(rng, case, "gpus", wrong)


@fault
def bad_vendor(rng: random.Random, case: Case) -> None:
    spoil_site(rng, case, "gpu_vendor", ["x", "", "Nvidia", "cuda", 5, True, *NOT_SCALAR])


@fault
def bad_seconds(rng: random.Random, case: Case) -> None:
    key = rng.choice(["grace", "poll", "patience", "heartbeat_period", "heartbeat_threshold"])
    spoil_site(rng, case, key, [-1, NAN, INF, -INF, "x", "", "5s", True, 10**400, *NOT_SCALAR])


@fault
def bad_site_text(rng: random.Random, case: Case) -> None:
    spoil_site(rng, case, rng.choice(["name", "address", "container_command"]), [[], {}, [1], True, "a\0b", "\ud800"])


# -- faults of the command line


@fault
def site_that_is_not_there(rng: random.Random, case: Case) -> None:
    name = rng.choice(
        ["nowhere", "Local", "none.yaml", "/no/site.yaml", ".", "", "..", "space.json/x", LONG, "a b", "/no/x"]
    )
    case.options += ["--site", name]
    case.expected += [name]


@fault
def experiment_that_is_not_there(rng: random.Random, case: Case) -> None:
    name = rng.choice(["none.yaml", "/no/experiment.yaml", ".", "space.json/x", LONG, "a b"])
    case.options += ["--experiment", name]
    case.expected += [name, "cannot be read"]


@fault
def setting_that_is_no_pair(rng: random.Random, case: Case) -> None:
    setting = rng.choice(["x", "", "=", "=1", "a b=1", "search.=1", ".seed=1", "search..seed=1", "a/b=1"])
    case.options += [f"--set={setting}"]
    case.expected += ["--set", setting]


@fault
def setting_with_broken_yaml(rng: random.Random, case: Case) -> None:
    key = rng.choice(["search.seed", "site.workers", "name", "model.scripts"])
    value = rng.choice(
        ["[", "{", "'", '"', "*x", "a: b: c", "!foo 1", "!!int ''", "!!bool x", "!!map [1]", "@", "[" * 1500]
    )
    case.options += ["--set", f"{key}={value}"]
    case.expected += ["--set", key]


@fault
def setting_of_an_unknown_key(rng: random.Random, case: Case) -> None:
    key = rng.choice(["sed", "search.sed", "stages.trian", "stages.train.arg", "model.dir", "site", "site.worker"])
    case.options += ["--set", f"{key}=1"]
    case.expected += [f"{key.removeprefix('site.')}: is not a known key"]


@fault
def setting_below_a_value(rng: random.Random, case: Case) -> None:
    key = rng.choice(["name.x", "search.seed.x", "site.workers.x", "max_attempts.a.b", "stages.train.args.layers.x"])
    case.experiment["search"]["seed"] = 1
    case.options += ["--set", f"{key}=1"]
    case.expected += ["--set", key.removeprefix("site.")]


@fault
def setting_with_a_wrong_value(rng: random.Random, case: Case) -> None:
    setting = rng.choice([
        "search.population_size=many", "search.population_size=[1]", "search.seed=-1", "search.strategy=best",
        "stages.train.timeout=soon", "model.scripts=nowhere", "model.runtime=docker", "objective.mode=best", "name=a/b",
        "search=5", "stages.train.args.x={a: 1}", "space=none.json", "space=[]", "max_attempts=0",
        "site.workers=0", "site.gpus=-1", "site.scheduler=slurmm", "site.grace=x", "site.workers=9",
    ])  # fmt: skip
    case.options += ["--set", setting]
    case.expected += [setting.partition("=")[0].removeprefix("site.")]


@fault
def options_that_do_not_go_together(rng: random.Random, case: Case) -> None:
    options, expected = rng.choice([
        (["--resume", "."], "--experiment"), (["--resume", ".", "--output", "x"], "--experiment"),
        (["--output", "."], "--output"), (["--output", "space.json"], "--output space.json"),
    ])  # fmt: skip
    case.options += options
    case.expected += [expected]


# -- the tests -------------------------------------------------------------------------------------------------------

EACH = -(-TOTAL // len(FAULTS))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    return tmp_path


def made(function: Fault, number: int) -> Case:
    rng = random.Random(f"{function.__name__} {number}")
    case = valid_case(rng)
    function(rng, case)
    return case


def complaint(code: object, error: str, case: Case) -> str:
    """What is wrong with an answer; empty if it is right. Of expected texts with '|' one is enough."""
    if code != 2:
        return f"exit code {code}"
    if "Traceback" in error:
        return "a traceback"
    lacking = [text for text in case.expected if not any(part in error for part in text.split("|"))]
    return f"the message lacks {lacking}: {error[:500]}" if lacking else ""


def answer(case: Case, directory: Path, capsys: pytest.CaptureFixture[str]) -> str:
    try:
        code: object = main(case.argv(directory))
    except Exception as error:
        capsys.readouterr()
        return f"{type(error).__name__}: {str(error)[:300]}"
    return complaint(code, capsys.readouterr().err, case)


def test_valid_cases_are_accepted(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(60):
        case = valid_case(random.Random(number))
        assert main(case.argv(directory)) == 0, capsys.readouterr().err


def test_there_are_a_thousand_malformed_cases() -> None:
    texts = {repr(made(function, number)) for function in FAULTS for number in range(EACH)}
    assert EACH * len(FAULTS) >= TOTAL
    assert len(texts) >= 0.97 * TOTAL


@pytest.mark.parametrize("function", FAULTS, ids=lambda function: function.__name__)
def test_malformed_input_ends_with_code_2_and_names_the_place(
    function: Fault, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {}
    for number in range(EACH):
        if problem := answer(made(function, number), directory, capsys):
            wrong[number] = problem
    assert not wrong, "\n".join(f"case {number}: {problem}" for number, problem in wrong.items())


def test_nothing_is_left_behind_by_a_refusal(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = made(bad_timeout, 0)
    argv = [option for option in case.argv(directory) if option != "--dry-run"]
    assert main(argv) == 2
    assert sorted(path.name for path in directory.iterdir()) == ["experiment.yaml", "site.yaml", "space.json"]


@pytest.mark.parametrize("function", [json_cut_off, broken_yaml, missing_key, space_that_is_no_text])
def test_malformed_input_of_a_real_process(function: Fault, directory: Path) -> None:
    case = made(function, 0)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "workflow.run", *case.argv(directory)], cwd=directory, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": root}, timeout=60,
    )  # fmt: skip
    assert complaint(done.returncode, done.stderr, case) == ""
    assert done.stdout == ""
