"""Whose failure it is: from a supervisor's result to an outcome."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.unit.test_metrics import TEST, VAL, field
from workflow.outcomes import judge, last_line
from workflow.trial import Outcome


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
