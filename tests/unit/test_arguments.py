"""Placeholders in arguments, and the words that values become."""

from __future__ import annotations

from typing import Any

import pytest

from workflow.arguments import Argument, fill, fragile, unfilled, words


@pytest.mark.parametrize(
    ("text", "is_unfilled"),
    [
        ("<train_data_dir>", True), ("<>", True), ("/data/<x>", False), ("<a>/<b>", False), ("a<b", False),
        ("", False), (5, False), ("<a", False),
    ],
)  # fmt: skip
def test_what_counts_as_not_filled_in(text: object, is_unfilled: bool) -> None:
    assert unfilled(text) is is_unfilled


@pytest.mark.parametrize("text", ["{nope}", "{", "}", "{}", "{ trial}", "{trial", "{{}", "${HOME}", "{trial:04d}"])
def test_what_is_no_placeholder_is_an_error_that_lists_the_known(text: str) -> None:
    with pytest.raises(ValueError, match=r"\{trial\}, \{run\}") as caught:
        fill(text, {"trial": "1", "run": "r"})
    assert "'{{' for a brace" in str(caught.value)


@pytest.mark.parametrize("value", [5, 0.5, True, "", "no brace"])
def test_other_values_are_not_touched(value: Any) -> None:
    assert fill(value, {}) is value


def test_a_value_is_filled_in_once() -> None:
    assert fill(("{a}", 5, "x{a}"), {"a": "{a}"}) == ("{a}", 5, "x{a}")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, ["true"]),
        (False, ["false"]),
        (5, ["5"]),
        (-5, ["-5"]),
        (1e-5, ["1e-05"]),
        (0.1, ["0.1"]),
        ("Adam", ["Adam"]),
        ("", [""]),
        ("1000 500 100", ["1000", "500", "100"]),
        ("1e-3 -0.5 +2. .5", ["1e-3", "-0.5", "+2.", ".5"]),
        ("64", ["64"]),
        ("1 2 x", ["1 2 x"]),
        ("a 1", ["a 1"]),
        ("1,2", ["1,2"]),
        ("nan inf", ["nan inf"]),
        ("1_000 2", ["1_000 2"]),
        ("0x10 1", ["0x10 1"]),
        ("٣ ٤", ["٣ ٤"]),
        (" ", [" "]),
        (("a", 1, True, "2 3"), ["a", "1", "true", "2", "3"]),
        ((), []),
    ],
)
def test_words_of_a_value(value: Argument, expected: list[str]) -> None:
    assert words(value) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "white space"), ("a b", "white space"), ("a\n", "white space"), ("*.txt", "wildcard"), ("a?", "wildcard"),
        ("[ab]", "wildcard"), (("ok", "a b"), "white space"),
    ],
)  # fmt: skip
def test_values_that_published_scripts_would_change(value: Argument, reason: str) -> None:
    assert reason in fragile(value)


@pytest.mark.parametrize("value", ["Adam", "1000 500 100", 5, True, "a;b", "$(x)", "-x", ("a", 1)])
def test_values_that_published_scripts_pass_on(value: Argument) -> None:
    assert fragile(value) == ""
