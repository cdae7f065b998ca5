"""The language of constraints: what its texts mean, and which are refused with which position and remedy."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.expressions import LONGEST, Constraint, ExpressionError, Kind, parse_constraint

PARAMS: dict[str, Any] = {
    "epochs": 20, "warmup": 5, "rate": 0.1, "optimizer": "SGD", "nesterov": True, "batch-size": 32, "size": 3,
    "batch": 40, "model.depth": 4, "lambda": 0.5, "zero": 0,
}  # fmt: skip


def kind_of(value: object) -> Kind:
    return "logical" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"


KINDS: dict[str, Kind | None] = {name: kind_of(value) for name, value in PARAMS.items()}


def parse(text: str) -> Constraint:
    return parse_constraint(text, KINDS)


def holds(text: str, **changes: Any) -> bool:
    return parse(text).holds({**PARAMS, **changes})


# -- what an expression means ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("warmup < epochs", True),
        ("epochs < warmup", False),
        ("warmup <= 5", True),
        ("warmup >= 5.0", True),
        ("warmup == 5", True),
        ("warmup != 5", False),
        ("1 < warmup < epochs <= 20", True),
        ("1 < warmup < 5", False),
        ("epochs > warmup < epochs", True),
        ("epochs * warmup <= 100", True),
        ("epochs / 8 == 2.5", True),
        ("epochs // 8 == 2", True),
        ("-epochs // 8 == -3", True),
        ("epochs % 8 == 4", True),
        ("epochs - warmup - 5 == 10", True),
        ("2 + 3 * 4 == 14", True),
        ("(2 + 3) * 4 == 20", True),
        ("100 / 5 / 2 == 10", True),
        ("- - warmup == +5", True),
        ("rate < 1e-3 or rate == .1", True),
        ('optimizer == "SGD"', True),
        ("optimizer == 'Adam'", False),
        ("'SGD' != optimizer", False),
        ("optimizer in ('Adam', 'SGD')", True),
        ("optimizer in ('Adam')", False),
        ("optimizer not in ('Adam', 'RMSprop')", True),
        ("warmup in (1, epochs / 4)", True),
        ("0 < warmup in (4, 5)", True),
        ("nesterov", True),
        ("not nesterov", False),
        ("not not nesterov", True),
        ("nesterov == true", True),
        ("nesterov != False", True),
        ("not nesterov or epochs == 20", True),
        ("not (nesterov or epochs == 20)", False),
        ("nesterov or epochs == 1 and warmup == 1", True),
        ("(nesterov or epochs == 1) and warmup == 1", False),
        ("batch-size == 32", True),
        ("batch - size == 37", True),
        ("batch-1 == 39", True),
        ("model.depth*2 == 8", True),
        ("lambda < 1", True),
        ("  warmup\n <\tepochs ", True),
    ],
)
def test_meaning(text: str, expected: bool) -> None:
    assert holds(text) is expected


@pytest.mark.parametrize(
    "text", ["epochs / zero > 1", "epochs // zero >= 0", "epochs % zero == 0", "1e308 // 1 * size > 0 / zero"]
)
def test_a_division_by_zero_is_not_allowed(text: str) -> None:
    assert not holds(text)


def test_and_and_or_leave_out_what_is_decided() -> None:
    assert holds("zero == 0 or epochs / zero > 1")
    assert not holds("zero != 0 and epochs / zero > 1")


def test_every_element_of_a_list_counts_even_if_an_earlier_one_is_equal() -> None:
    assert not parse("epochs in (epochs, 1 / zero)").holds({"epochs": 1, "zero": 0})


def test_an_int_that_no_float_can_hold_is_not_allowed() -> None:
    assert not holds(f"rate * {'9' * 400} > 0")


def test_a_constraint_does_not_apply_where_one_of_its_names_does_not_exist() -> None:
    constraint = parse("warmup > epochs")
    assert constraint.names == {"warmup", "epochs"}
    assert not constraint.holds({"warmup": 1, "epochs": 2})
    assert constraint.holds({"warmup": 1})


def test_constraints_are_equal_by_their_texts() -> None:
    assert parse("warmup > 1") == parse("warmup > 1")
    assert parse("warmup > 1") != parse("warmup > 2")


NUMBERS = ["epochs", "warmup", "zero", "2", "0.5", "10"]
sums = st.recursive(
    st.sampled_from(NUMBERS),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=5,
)
comparisons = st.one_of(
    st.tuples(sums, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), sums).map(" ".join),
    st.tuples(sums, sums, sums).map(lambda terms: f"{terms[0]} < {terms[1]} <= {terms[2]}"),
    st.tuples(sums, st.sampled_from(["in", "not in"]), sums, sums).map(lambda t: f"{t[0]} {t[1]} ({t[2]}, {t[3]})"),
)
expressions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map("not {}".format),
        inner.map("({})".format),
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(text=expressions, epochs=st.integers(-20, 20), warmup=st.floats(-5, 5, allow_nan=False))
def test_expressions_mean_what_they_mean_in_python(text: str, epochs: int, warmup: float) -> None:
    params = {"epochs": epochs, "warmup": warmup, "zero": 0}
    try:
        expected = bool(eval(text, {}, dict(params)))
    except ArithmeticError:
        expected = False
    names = {name for name in params if name in text}
    kinds: dict[str, Kind | None] = dict.fromkeys(params, "number")
    try:
        constraint = parse_constraint(text, kinds)
    except ExpressionError as error:
        assert len(text) > LONGEST or "nested" in error.what
        return
    assert constraint.names == names
    assert constraint.holds(params) is expected


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position", "what", "remedy"),
    [
        ("", 1, "ends too early", "use names, numbers"),
        ("epochs <", 9, "ends too early", "use names"),
        ("(epochs < 5", 12, "ends too early", "write ')' there"),
        ("epochs < 5)", 11, "')' is not expected", "use names"),
        ("epochs 5", 8, "'5' is not expected", "use names"),
        ("2 warmup < 5", 3, "'warmup' is not expected", "use names"),
        ("epochs = 5", 8, "'=' has no meaning here", "write == to compare"),
        ("epochs ** 2 < 5", 8, "'**' is not expected", "write a product"),
        ("nesterov & nesterov", 10, "'&' has no meaning", "write and"),
        ("!nesterov", 1, "'!' has no meaning", "write not"),
        ("nesterov and or nesterov", 14, "'or' is not expected", "use names"),
        ("optimizer == 'SGD", 14, '"\'" has no meaning', "close the quotes"),
        ("epoch < 5", 1, "'epoch' is no hyperparameter", "did you mean 'epochs'?"),
        ("optimizer == SGD", 14, "'SGD' is no hyperparameter", "put a string in quotes"),
        ("epochs.real < 5", 1, "'epochs.real' is no hyperparameter", "did you mean"),
        ("max(epochs, 2) < 5", 1, "'max' is no hyperparameter", "known: epochs"),
        ("epochs(2) < 5", 7, "'(' is not expected", "use names"),
        ("[1] < 5", 1, "'[' has no meaning", "use names"),
        ("epochs if nesterov else 2", 8, "'if' is not expected", "use names"),
        ("lambda: 1", 7, "':' has no meaning", "use names"),
        ("epochs", 1, "a number where a logical is needed", "write a comparison"),
        ("optimizer", 1, "a string where a logical is needed", "write a comparison"),
        ("epochs + 1", 1, "a number where a logical is needed", "write a comparison"),
        ("epochs < optimizer", 8, "< cannot compare a number with a string", "values of one kind"),
        ("epochs == nesterov", 8, "== cannot compare a number with a logical", "values of one kind"),
        ("optimizer < 'SGD'", 1, "a string where a number is needed", "only numbers have an order"),
        ("nesterov >= true", 1, "a logical where a number is needed", "only numbers have an order"),
        ("epochs in (1, 'two')", 11, "cannot compare a number with a string", "values of one kind"),
        ("epochs in 5", 11, "'5' is not expected", "write '(' there"),
        ("epochs not 5", 12, "'5' is not expected", "write not in"),
        ("optimizer + 'x' == 'SGDx'", 1, "a string where a number is needed", "calculate with numbers"),
        ("epochs + nesterov < 3", 10, "a logical where a number is needed", "calculate with numbers"),
        ("-optimizer == 'x'", 2, "a string where a number is needed", "give a number a sign"),
        ("not epochs", 5, "a number where a logical is needed", "negate a comparison"),
        ("nesterov and epochs", 14, "a number where a logical is needed", "join comparisons by and"),
        ("epochs or nesterov", 1, "a number where a logical is needed", "join comparisons by or"),
        ("(" * 30 + "epochs" + ")" * 30 + " < 5", 22, "is nested too deeply", "leave parentheses"),
        ("epochs < " + "1" * LONGEST, LONGEST + 1, "is longer than 500 characters", "write several constraints"),
    ],
)  # fmt: skip
def test_refusal_tells_position_and_remedy(text: str, position: int, what: str, remedy: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert caught.value.position == position
    assert what in caught.value.what
    assert remedy in caught.value.remedy
    assert str(caught.value) == f"character {position}: {caught.value.what}"


@pytest.mark.parametrize("text", ["in < 5", "not < 5", "1 < and", "in(1, 2) and in < 3"])
def test_a_hyperparameter_called_by_a_word_of_the_language_is_told(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"'(in|not|and)' is a word of constraints") as caught:
        parse_constraint(text, {"in": "number", "not": "number", "and": "number"})
    assert caught.value.remedy.startswith("rename the hyperparameter")


def test_a_hyperparameter_called_by_a_word_leaves_the_word_usable() -> None:
    assert parse_constraint("x in (1, 2)", {"x": "number", "in": "number"}).holds({"x": 2, "in": 5})


def test_a_name_of_unknown_kind_goes_with_everything() -> None:
    for text in ("x < 5", "x == 'a'", "x", "x + 1 < 2", "not x"):
        parse_constraint(text, {"x": None})


PIECES = [
    *NUMBERS,
    "+",
    "-",
    "*",
    "**",
    "/",
    "<",
    "==",
    "=",
    "(",
    ")",
    ",",
    "and",
    "or",
    "not",
    "in",
    "'",
    "[",
    ".",
    "\0",
    "é",
]


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(text=st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=200).map(" ".join)))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        parse(text).holds(PARAMS)
    except ExpressionError as error:
        assert 1 <= error.position <= len(text) + 1
        assert error.remedy


@pytest.mark.parametrize(
    "text",
    [
        "1" + "+1" * ((LONGEST - 10) // 2) + " > 0",
        "warmup" + "*99999999999999999" * 26 + " > 0",
        "1 < 2" + " and 1 < 2" * 49,
        "not " * 19 + "nesterov",
        "1" * (LONGEST - 4) + " > 1",
    ],
)
def test_the_longest_expressions_take_no_time(text: str) -> None:
    assert len(text) <= LONGEST
    before = time.process_time()
    constraint = parse(text)
    for _ in range(100):
        constraint.holds(PARAMS)
    assert time.process_time() - before < 1
