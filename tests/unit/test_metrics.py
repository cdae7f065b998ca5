"""Metrics of an attempt, and what its result file means for the trial. Nothing is ever guessed."""

from __future__ import annotations

import json
import math
import signal
from typing import Any

import pytest

from workflow.metrics import MetricError, read_metric, read_scores
from workflow.outcomes import judge, last_line
from workflow.trial import Outcome

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


# -- judging a result file -------------------------------------------------------------------------------------------


def result(**changes: Any) -> dict[str, Any]:
    """A result.json as the supervisor writes it."""
    return {
        "version": 2,
        "title": "trial 7",
        "ended_by": "exit",
        "exit_code": 0,
        "started": 100.0,
        "ended": 160.5,
        "host": "node1",
        "gpu": None,
        "pid": 1,
        "peak_memory": 2**30,
        "memory_limit": 2**34,
        "oom_kills": 0,
        "scores": {VAL: '{"mse": 0.25, "pcc": 0.5}'},
        "result_lines": [],
        "log_tail": "epoch 1\nBoom: it broke\n\n",
        **changes,
    }


def verdict(metric: str | None = "val_loss", stage: str = "train", **changes: Any) -> Outcome:
    return judge(json.loads(json.dumps(result(**changes))), stage, [] if metric is None else [metric], 7, 2)


def test_a_good_trial() -> None:
    assert verdict() == Outcome(
        trial_id=7, attempt=2, kind="ok", value=0.25, metrics={"mse": 0.25, "pcc": 0.5}, started=100.0, ended=160.5,
        gpu_seconds=0.0, host="node1", gpu=None, peak_memory=2**30, evidence="", cause="",
    )  # fmt: skip


def test_gpu_seconds_are_counted_on_a_gpu() -> None:
    outcome = verdict(gpu="3")
    assert (outcome.gpu, outcome.gpu_seconds, outcome.seconds) == ("3", 60.5, 60.5)


@pytest.mark.parametrize("code", [1, 2, 3, 124, 125, 134, 139, 150, 255, -signal.SIGSEGV, -signal.SIGFPE, -40])
def test_a_failing_exit_code_is_the_models_fault(code: int) -> None:
    """The signal of a crash is named."""
    names = {134: " (SIGABRT)", 139: " (SIGSEGV)", -signal.SIGSEGV: " (SIGSEGV)", -signal.SIGFPE: " (SIGFPE)"}
    outcome = verdict(exit_code=code)
    assert (outcome.kind, outcome.cause, outcome.value, outcome.metrics) == ("failed", "model", None, {})
    assert outcome.evidence == f"exit code {code}{names.get(code, '')}; last line: Boom: it broke"


FROM_OUTSIDE = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize("number", FROM_OUTSIDE, ids=lambda number: number.name)
@pytest.mark.parametrize("by_shell", [False, True])
def test_a_signal_from_outside_loses_the_attempt_only(number: signal.Signals, by_shell: bool) -> None:
    outcome = verdict(exit_code=128 + number if by_shell else -number)
    assert (outcome.kind, outcome.cause, outcome.value) == ("lost", "infrastructure", None)
    assert number.name in outcome.evidence


def test_a_kill_at_the_end_of_the_block_is_the_walltimes() -> None:
    outcome = verdict(exit_code=-15, block_ends=True)
    assert (outcome.kind, outcome.cause) == ("lost", "walltime")
    assert outcome.evidence == "killed by SIGTERM at the end of its block"


@pytest.mark.parametrize(("code", "reason"), [(126, "not executable"), (127, "not found")])
def test_a_command_that_did_not_run_is_the_set_ups_fault(code: int, reason: str) -> None:
    outcome = verdict(exit_code=code)
    assert (outcome.kind, outcome.cause) == ("lost", "setup")
    assert reason in outcome.evidence
    assert "Boom: it broke" in outcome.evidence


def test_a_command_that_cannot_start_is_the_set_ups_fault() -> None:
    outcome = verdict(ended_by="cannot start 'apptainer': no such file", exit_code=None)
    assert (outcome.kind, outcome.cause) == ("lost", "setup")
    assert outcome.evidence == "cannot start 'apptainer': no such file"


def test_a_timeout_is_the_models_fault_even_with_scores() -> None:
    outcome = verdict(ended_by="timeout after 60 s", exit_code=None)
    assert (outcome.kind, outcome.cause, outcome.value, outcome.metrics) == ("failed", "model", None, {})
    assert outcome.evidence == "timeout after 60 s; last line: Boom: it broke"


@pytest.mark.parametrize("code", [-9, 137])
def test_a_kill_without_a_sign_of_a_shortage_is_the_infrastructures(code: int) -> None:
    outcome = verdict(exit_code=code)
    assert (outcome.kind, outcome.cause) == ("lost", "infrastructure")
    assert "killed by SIGKILL from outside; its memory was 1 of 16 GiB, no sign of a shortage" in outcome.evidence


@pytest.mark.parametrize("code", [-9, 137])
@pytest.mark.parametrize(
    ("signs", "evidence"),
    [
        ({"oom_kills": 1}, "the kernel killed 1 processes for it; memory was 1 of 16 GiB"),
        ({"peak_memory": 15 * 2**30}, "killed by SIGKILL with memory of 15 of 16 GiB"),
    ],
)
def test_a_kill_with_a_sign_of_a_shortage_is_the_models(code: int, signs: dict[str, Any], evidence: str) -> None:
    outcome = verdict(exit_code=code, **signs)
    assert (outcome.kind, outcome.cause) == ("failed", "model")
    assert outcome.evidence.startswith(f"out of memory: {evidence}")


@pytest.mark.parametrize("code", [-9, 137])
def test_a_kill_from_outside_is_not_blamed_on_an_earlier_lack_of_gpu_memory(code: int) -> None:
    """Such an error is raised: the process ends by its own exit code, and a model may catch it and go on."""
    assert verdict(exit_code=code, log_tail="CUDA out of memory: a smaller batch\n").kind == "lost"


@pytest.mark.parametrize(
    "said",
    [
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 20.00 MiB",
        "RuntimeError: CUDA error: out of memory",
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate",
        "MemoryError",
    ],
)
def test_a_model_that_says_it_had_too_little_memory(said: str) -> None:
    assert verdict(exit_code=1, log_tail=f"epoch 1\n{said}\n").evidence.startswith("out of memory: the log says")
    assert verdict(exit_code=0, log_tail=f"{said}\nretrying with a smaller batch\n").kind == "ok"


@pytest.mark.parametrize("said", ["no memory of this", "ValueError: out of range", "MyMemoryErrors: 5"])
def test_a_model_that_speaks_of_other_things(said: str) -> None:
    assert verdict(exit_code=1, log_tail=said).evidence == f"exit code 1; last line: {said}"


def test_a_stall_is_the_models_fault() -> None:
    outcome = verdict(ended_by="stalled: no output for 600 s", exit_code=None)
    assert (outcome.kind, outcome.cause) == ("failed", "model")


def test_an_attempt_that_never_started_is_deferred() -> None:
    outcome = verdict(ended_by="stopped before it started: the campaign asked for it", exit_code=None)
    assert (outcome.kind, outcome.cause) == ("deferred", "")


@pytest.mark.parametrize("why", ["its worker died", "the controller has ended", "signal TERM, by its worker's side"])
def test_a_stopped_attempt_is_lost_even_with_scores(why: str) -> None:
    outcome = verdict(ended_by=f"stopped: {why}", exit_code=None)
    assert (outcome.kind, outcome.cause, outcome.value) == ("lost", "infrastructure", None)
    assert why in outcome.evidence


def test_an_attempt_that_was_stopped_early_is_data_with_its_last_value() -> None:
    found = result(ended_by="stopped: hopeless: val_loss 0.91 at best by step 12", exit_code=None, gpu="0")
    outcome = judge(found, "train", ["val_loss"], 7, 2, ((11, 0.91), (12, 0.95)))
    assert (outcome.kind, outcome.cause, outcome.value, outcome.final) == ("stopped", "", None, True)
    assert outcome.evidence == "stopped early: val_loss 0.91 at best by step 12"
    assert outcome.metrics == {"val_loss": 0.95}
    assert outcome.curve == ((11, 0.91), (12, 0.95))
    assert outcome.gpu_seconds == 60.5


def test_a_good_trial_keeps_its_curve_beside_its_scores() -> None:
    outcome = judge(result(), "train", ["val_loss"], 7, 2, ((1, 0.9),))
    assert (outcome.kind, outcome.value, outcome.curve) == ("ok", 0.25, ((1, 0.9),))
    assert outcome.metrics == {"mse": 0.25, "pcc": 0.5}


def several(*objectives: str, **changes: Any) -> Outcome:
    return judge(result(**changes), "train", objectives, 7, 2)


def test_further_objectives_are_among_the_metrics() -> None:
    outcome = several("pcc", "val_loss", "size", "walltime", "peak_memory", result_lines=["IMPROVE_RESULT size: 7"])
    assert (outcome.kind, outcome.value) == ("ok", 0.5)
    measured = {"walltime": 60.5, "peak_memory": 2.0**30}
    assert outcome.metrics == {"mse": 0.25, "pcc": 0.5, "val_loss": 0.25, "size": 7.0, **measured}


def test_what_is_measured_counts_whatever_a_model_writes() -> None:
    outcome = several("walltime", "peak_memory", scores={VAL: '{"walltime": 1, "peak_memory": 2}'})
    assert (outcome.value, outcome.metrics["peak_memory"]) == (60.5, 2.0**30)


@pytest.mark.parametrize(
    ("metric", "changes", "words"),
    [
        ("size", {}, "no metric 'size': neither val_scores.json nor an IMPROVE_RESULT line"),
        ("size", {"scores": {VAL: '{"mse": 0.25, "size": NaN}'}}, "metric 'size' is nan"),
        ("size", {"result_lines": ["IMPROVE_RESULT size: small"]}, "'size' has 'small', not a number"),
        ("peak_memory", {"peak_memory": 0}, "no metric 'peak_memory': the host does not tell it"),
    ],
)
def test_a_trial_without_a_further_objective_fails_and_names_it(metric: str, changes: Any, words: str) -> None:
    outcome = several("val_loss", metric, **changes)
    assert (outcome.kind, outcome.cause, outcome.value, outcome.metrics) == ("failed", "model", None, {})
    assert words in outcome.evidence


def test_a_trial_of_several_objectives_that_was_stopped_early_has_the_last_value_of_the_first() -> None:
    found = result(ended_by="stopped: hopeless: val_loss 0.91", exit_code=None)
    outcome = judge(found, "train", ["val_loss", "walltime"], 7, 2, ((11, 0.91),))
    assert (outcome.kind, outcome.value, outcome.metrics) == ("stopped", None, {"val_loss": 0.91})


def test_scores_of_a_failed_exit_do_not_count() -> None:
    assert verdict(exit_code=1).value is None


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": {}},
        {"scores": {VAL: "{"}},
        {"scores": {VAL: "[]"}},
        {"scores": {VAL: ""}},
        {"scores": {VAL: '{"mse": NaN}'}},
        {"scores": {VAL: '{"mse": "0.5"}'}},
        {"scores": {VAL: '{"mse": null}'}},
        {"scores": {VAL: field("mse", "9" * 400)}},
        {"scores": {TEST: '{"mse": 0.5}'}},
        {"scores": {}, "result_lines": ["IMPROVE_RESULT val_loss: nan"]},
        {"scores": {}, "result_lines": ["IMPROVE_RESULT val_loss: 0.5", "IMPROVE_RESULT val_loss: ?"]},
        {"scores": {}, "result_lines": ["IMPROVE_RESULT pcc: 0.5"]},
    ],
)
def test_exit_code_zero_without_a_metric_is_a_failed_trial(changes: dict[str, Any]) -> None:
    outcome = verdict(**changes)
    assert (outcome.kind, outcome.cause, outcome.value) == ("failed", "model", None)
    assert outcome.evidence


def test_metric_from_the_log_of_a_good_trial() -> None:
    outcome = verdict(scores={}, result_lines=["IMPROVE_RESULT val_loss:\t1.2e-05"])
    assert (outcome.kind, outcome.value, outcome.metrics) == ("ok", 1.2e-05, {})


@pytest.mark.parametrize(("stage", "metrics"), [("preprocess", {}), ("infer", {"mse": 4.0})])
def test_stages_without_an_objective(stage: str, metrics: dict[str, float]) -> None:
    outcome = verdict(None, stage, scores={TEST: '{"mse": 4}'})
    assert (outcome.kind, outcome.value, outcome.metrics) == ("ok", None, metrics)


def test_infer_with_garbage_scores_failed() -> None:
    assert verdict(None, "infer", scores={TEST: "garbage"}).kind == "failed"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "(the log is empty)"),
        ("\n \n", "(the log is empty)"),
        ("a\nb", "b"),
        ("a\n  b  \n\n", "b"),
        ("10%\r100%\n", "100%"),
        ("x" * 1000, "x" * 297 + "..."),
    ],
)
def test_last_line_of_a_log(text: str, line: str) -> None:
    assert last_line(text) == line


def test_names_of_scores_that_no_terminal_should_see_are_left_out() -> None:
    scores = json.dumps({"mse": 0.5, "\x1b[31mred": 1, "a\nb": 2, "\ud800": 3})
    assert verdict(scores={VAL: scores}).metrics == {"mse": 0.5}
