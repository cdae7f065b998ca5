"""Metrics of an attempt, from its scores files or its log. Nothing is ever guessed."""

from __future__ import annotations

import math

import pytest

from workflow.metrics import MetricError, read_metric, read_scores

VAL, TEST = "val_scores.json", "test_scores.json"


def from_scores(name: str, text: str, stage: str = "train", file: str = VAL) -> float:
    return read_metric(name, stage, {file: text}, [])


def field(key: str, raw: str) -> str:
    """JSON with a value as it is written."""
    return f'{{"{key}": {raw}}}'


def from_lines(name: str, *lines: str) -> float:
    return read_metric(name, "train", {}, lines)


def why_not_scores(name: str, text: str) -> str:
    with pytest.raises(MetricError) as caught:
        from_scores(name, text)
    return str(caught.value)


def why_not_lines(name: str, *lines: str) -> str:
    with pytest.raises(MetricError) as caught:
        from_lines(name, *lines)
    return str(caught.value)


# -- the scores file -------------------------------------------------------------------------------------------------

SCORES = '{"mse": 0.25, "rmse": 0.5, "pcc": -0.75, "scc": 1.2e-05, "r2": 1e3, "n": 7}'


@pytest.mark.parametrize(
    ("name", "value"), [("mse", 0.25), ("rmse", 0.5), ("pcc", -0.75), ("scc", 1.2e-05), ("r2", 1000.0), ("n", 7.0)]
)
def test_metric_by_its_name_in_the_scores_file(name: str, value: float) -> None:
    assert from_scores(name, SCORES) == value


def test_val_loss_is_the_mse_of_the_scores_file() -> None:
    assert from_scores("val_loss", SCORES) == 0.25


def test_a_val_loss_of_its_own_goes_before_mse() -> None:
    assert from_scores("val_loss", '{"mse": 0.25, "val_loss": 0.3}') == 0.3


def test_scores_file_goes_before_the_log() -> None:
    assert read_metric("pcc", "train", {VAL: SCORES}, ["IMPROVE_RESULT pcc: 0.1"]) == -0.75


def test_log_serves_a_metric_that_the_scores_file_lacks() -> None:
    assert read_metric("auc", "train", {VAL: SCORES}, ["IMPROVE_RESULT auc: 0.9"]) == 0.9


@pytest.mark.parametrize("other", [TEST, "scores.json", "my_val_scores.json"])
def test_scores_of_another_file_do_not_count(other: str) -> None:
    with pytest.raises(MetricError, match="no metric 'mse'"):
        read_metric("mse", "train", {other: SCORES}, [])


def test_infer_reads_the_test_scores() -> None:
    assert from_scores("mse", SCORES, "infer", TEST) == 0.25
    assert read_scores("infer", {TEST: '{"mse": 1}', VAL: '{"mse": 2}'}) == {"mse": 1.0}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_score_that_is_not_finite_is_no_result(value: str) -> None:
    assert "metric 'mse' is" in why_not_scores("mse", field("mse", value))


@pytest.mark.parametrize("value", ['"0.5"', "true", "false", "null", "[0.5]", '{"value": 0.5}', '""'])
@pytest.mark.parametrize("name", ["mse", "val_loss"])
def test_a_score_that_is_no_number_is_no_result(name: str, value: str) -> None:
    message = why_not_scores(name, field("mse", value))
    assert "'mse' in val_scores.json is " in message
    assert "not a number" in message


def test_a_malformed_score_is_not_replaced_by_the_log() -> None:
    with pytest.raises(MetricError, match="'mse' in val_scores"):
        read_metric("mse", "train", {VAL: '{"mse": "x"}'}, ["IMPROVE_RESULT mse: 0.5"])


def test_a_val_loss_that_is_null_is_not_replaced_by_mse() -> None:
    assert "'val_loss' in val_scores.json is None" in why_not_scores("val_loss", '{"val_loss": null, "mse": 0.5}')


def test_nested_scores_are_not_searched() -> None:
    assert "no metric 'mse'" in why_not_scores("mse", '{"val": {"mse": 0.5}}')


@pytest.mark.parametrize("text", ["", "garbage", '{"mse": 0.5', "{'mse': 0.5}", '{"mse": .5}', "[" * 100_000, "\0"])
def test_a_scores_file_that_is_no_json(text: str) -> None:
    assert why_not_scores("mse", text).startswith("val_scores.json is not JSON: ")


@pytest.mark.parametrize("text", ["[]", "0.5", "null", '"mse"', '[{"mse": 0.5}]', "true"])
def test_a_scores_file_that_is_no_dictionary(text: str) -> None:
    assert why_not_scores("mse", text) == "val_scores.json holds no dictionary"


@pytest.mark.parametrize("digits", [400, 4000, 5000])
@pytest.mark.parametrize("key", ["mse", "other"])
def test_a_score_that_no_float_can_hold_is_no_result(key: str, digits: int) -> None:
    assert why_not_scores("mse", field(key, "9" * digits))


@pytest.mark.parametrize("value", ["9" * 400, "1e999", "NaN", '"x"', "null"])
def test_another_score_that_is_no_number_is_no_harm(value: str) -> None:
    assert from_scores("mse", f'{{"mse": 0.5, "other": {value}}}') == 0.5


def test_read_scores_keeps_the_numbers_only() -> None:
    text = '{"mse": 1, "pcc": 0.5, "bad": NaN, "flag": true, "text": "1", "none": null, "list": [1]}'
    scores = read_scores("train", {VAL: text})
    assert math.isnan(scores.pop("bad"))
    assert scores == {"mse": 1.0, "pcc": 0.5}


def test_read_scores_without_a_file() -> None:
    assert read_scores("train", {}) == {}
    assert read_scores("preprocess", {VAL: SCORES}) == {}


# -- IMPROVE_RESULT lines --------------------------------------------------------------------------------------------

NUMBERS = [
    ("0.00123", 0.00123),
    ("1.2e-05", 1.2e-05),
    ("1.2E+05", 1.2e05),
    ("1e-7", 1e-7),
    ("-0.5", -0.5),
    ("+0.5", 0.5),
    ("5", 5.0),
    ("5.", 5.0),
    (".5", 0.5),
    ("-3.25e-10", -3.25e-10),
]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_numbers_with_signs_and_exponents(text: str, value: float) -> None:
    assert from_lines("val_loss", f"IMPROVE_RESULT val_loss:\t{text}") == value


@pytest.mark.parametrize(
    "line",
    [
        "IMPROVE_RESULT val_loss:\t0.5",
        "IMPROVE_RESULT val_loss: 0.5",
        "IMPROVE_RESULT val_loss:0.5",
        "IMPROVE_RESULT val_loss 0.5",
        "IMPROVE_RESULT val_loss\t0.5",
        "IMPROVE_RESULT val_loss = 0.5",
        "IMPROVE_RESULT: val_loss: 0.5",
        "IMPROVE_RESULT 0.5",
        "IMPROVE_RESULT\t0.5",
        "IMPROVE_RESULT: 0.5",
        "IMPROVE_RESULT:0.5",
        "IMPROVE_RESULT val_loss:\t0.5   ",
        "IMPROVE_RESULT val_loss:\t0.5\r",
        "  IMPROVE_RESULT val_loss: 0.5",
        "2025-01-01 INFO IMPROVE_RESULT val_loss: 0.5",
        "[rank 0]\tIMPROVE_RESULT val_loss: 0.5",
    ],
)
def test_forms_of_the_line(line: str) -> None:
    assert from_lines("val_loss", line) == 0.5


@pytest.mark.parametrize("name", ["pcc", "mse", "val_r2"])
def test_a_line_without_label_counts_for_val_loss_only(name: str) -> None:
    assert "no metric" in why_not_lines(name, "IMPROVE_RESULT 0.5")


def test_the_last_line_counts() -> None:
    lines = [f"IMPROVE_RESULT val_loss: 0.{n}" for n in (9, 5, 7)]
    assert from_lines("val_loss", *lines) == 0.7


def test_the_last_line_of_its_label_counts() -> None:
    lines = ["IMPROVE_RESULT pcc: 0.1", "IMPROVE_RESULT val_loss: 0.2", "IMPROVE_RESULT pcc: 0.3", "IMPROVE_RESULT 0.4"]
    assert from_lines("pcc", *lines) == 0.3
    assert from_lines("val_loss", *lines) == 0.4
    assert from_lines("val_loss", *lines[:3]) == 0.2


@pytest.mark.parametrize(
    "label", ["val_r2", "val_loss_2", "my_val_loss", "val", "loss", "val_loss.0", "VAL_LOSS", "e5"]
)
def test_labels_are_compared_whole(label: str) -> None:
    line = f"IMPROVE_RESULT {label}: 0.25"
    assert from_lines(label, line) == 0.25
    assert "no metric 'val_loss'" in why_not_lines("val_loss", line)


def test_digits_of_a_label_are_no_result() -> None:
    assert from_lines("val_r2", "IMPROVE_RESULT val_r2: 0.75") == 0.75
    assert from_lines("val_r2", "IMPROVE_RESULT val_r2 0.75") == 0.75


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "Infinity", "-Infinity", "+INF"])
@pytest.mark.parametrize("label", ["val_loss: ", ""])
def test_nan_and_infinity_are_read_and_are_no_result(label: str, text: str) -> None:
    assert "metric 'val_loss' is " in why_not_lines("val_loss", f"IMPROVE_RESULT {label}{text}")


MALFORMED = ["0.5x", "abc", "1.2 -05", "0,5", "0.5 0.6", "1e", "--0.5", "0x10", "1_000", "0.5%", "()", "٣", ""]


@pytest.mark.parametrize("text", MALFORMED)
@pytest.mark.parametrize("name", ["val_loss", "pcc"])
def test_a_malformed_last_line_is_an_error_and_not_the_line_before(name: str, text: str) -> None:
    message = why_not_lines(name, f"IMPROVE_RESULT {name}: 0.5", f"IMPROVE_RESULT {name}: {text}")
    assert name in message
    assert "not a number" in message


@pytest.mark.parametrize("text", [text for text in MALFORMED if text])
def test_a_malformed_line_of_another_label_is_no_harm(text: str) -> None:
    assert from_lines("val_loss", "IMPROVE_RESULT val_loss: 0.5", f"IMPROVE_RESULT pcc: {text}") == 0.5


def test_an_empty_line_of_another_label_is_no_harm() -> None:
    assert from_lines("val_loss", "IMPROVE_RESULT val_loss: 0.5", "IMPROVE_RESULT pcc:") == 0.5


@pytest.mark.parametrize(
    "line",
    [
        "writing IMPROVE_RESULTS.csv",
        "NOT_IMPROVE_RESULT val_loss: 0.1",
        "MY-IMPROVE_RESULT_FILE=/tmp/x",
        "export XIMPROVE_RESULT=1",
    ],
)
def test_a_line_that_only_holds_the_word_is_no_result_line(line: str) -> None:
    assert from_lines("val_loss", "IMPROVE_RESULT val_loss: 0.5", line) == 0.5
    assert "no metric" in why_not_lines("val_loss", line)


@pytest.mark.parametrize(
    "line",
    [
        "  0%|    | 0/9\r 50%|##  | 5/9\rIMPROVE_RESULT val_loss: 0.5",
        "100%|####| 9/9\rIMPROVE_RESULT val_loss: 0.5\r",
        "IMPROVE_RESULT val_loss: 0.5\r100%|####| 9/9",
        "IMPROVE_RESULT val_loss: 0.9\rIMPROVE_RESULT val_loss: 0.5",
        "IMPROVE_RESULT val_loss: 0.9\rIMPROVE_RESULT val_loss: 0.5\r",
        "IMPROVE_RESULT pcc: 0.9\rIMPROVE_RESULT val_loss: 0.5\r100%|####|\r",
    ],
)
def test_a_progress_bar_that_overwrites_its_line(line: str) -> None:
    assert from_lines("val_loss", line) == 0.5


def test_missing_metric_says_where_it_was_looked_for() -> None:
    message = why_not_lines("pcc")
    assert "no metric 'pcc'" in message
    assert "val_scores.json" in message
    assert "IMPROVE_RESULT" in message
