"""Scores and logs that a stage left are those of this attempt."""

from __future__ import annotations

import pytest

from tests.unit.worker.stage_bench import Bench, bash, python


def test_output_is_kept_with_result_lines_and_tail(bench: Bench) -> None:
    code = (
        "import sys\n"
        "for i in range(300): print(f'IMPROVE_RESULT val_loss:\\t{i}')\n"
        "sys.stdout.flush()\n"
        "sys.stdout.buffer.write(b'\\xff\\xfe not text ' + b'x' * 100_000 + b' IMPROVE_RESULT 1\\n')\n"
        "print('y' * 5000 + 'end')\n"
    )
    result = bench.run(*python(code))
    assert len(result["result_lines"]) == 200
    assert result["result_lines"][-1].endswith("IMPROVE_RESULT 1")
    assert "IMPROVE_RESULT val_loss:\t299" in result["result_lines"]
    assert result["log_tail"].endswith("yend\n")
    assert len(result["log_tail"]) == 4000


def leave(bench: Bench, name: str, text: str) -> None:
    bench.directory.mkdir(exist_ok=True)
    (bench.directory / name).write_text(text)


def test_scores_of_this_attempt_are_reported(bench: Bench) -> None:
    others = "echo '{}' > other.json; mkdir x_scores.json; ln -s y_scores.json y_scores.json"
    result = bench.run(*bash(f"echo '{{\"mse\": 0.5}}' > val_scores.json; {others}"))
    assert result["scores"] == {"val_scores.json": '{"mse": 0.5}\n'}


def test_leftover_scores_are_not_reported(bench: Bench) -> None:
    leave(bench, "val_scores.json", '{"mse": 0.1}')
    leave(bench, "test_scores.json", '{"mse": 0.2}')
    assert bench.run(*bash("cat val_scores.json"))["scores"] == {}


@pytest.mark.parametrize(
    "rewrite",
    [
        "echo '{\"mse\": 9}' > val_scores.json",
        "cp val_scores.json copy; mv copy val_scores.json",
        "cp val_scores.json copy; cat copy > val_scores.json",
        "rm val_scores.json; echo '{}' > val_scores.json",
    ],
)
def test_rewritten_scores_are_reported(bench: Bench, rewrite: str) -> None:
    leave(bench, "val_scores.json", '{"mse": 0.1}')
    leave(bench, "test_scores.json", '{"mse": 0.2}')
    result = bench.run(*bash(rewrite))
    assert result["scores"] == {"val_scores.json": (bench.directory / "val_scores.json").read_text()}


def test_result_of_an_earlier_run_is_replaced(bench: Bench) -> None:
    leave(bench, "result.json", '{"ended_by": "exit", "exit_code": 0}')
    leave(bench, "model.log", "IMPROVE_RESULT 5\n")
    result = bench.run(*bash("exit 4"))
    assert (result["exit_code"], result["result_lines"]) == (4, [])
