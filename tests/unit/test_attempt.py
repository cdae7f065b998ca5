"""What is read of an attempt's directory, and what is put into it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from workflow.attempt import Watch, ask_to_stop, beat_of, end_of, has_begun
from workflow.worker.contract import HEARTBEAT, STOP
from workflow.worker.processes import identity


@pytest.mark.parametrize(
    ("data", "size", "text"),
    [
        (b"one\ntwo\n", 100, "one\ntwo\n"),
        (b"one\ntwo\n", 8, "one\ntwo\n"),
        (b"one\ntwo\n", 6, "two\n"),
        (b"one\ntwo\n", 4, "two\n"),
        (b"one long line\n", 5, "line\n"),
        ("ää\nää\nää\n".encode(), 12, "ää\nää\n"),  # of fewer characters than bytes
        (b"10%\r20%\r", 6, "20%\r"),
        (b"one long line", 4, "line"),
        (b"", 4, ""),
    ],
)
def test_the_end_of_a_file_begins_with_a_line(tmp_path: Path, data: bytes, size: int, text: str) -> None:
    (tmp_path / "log").write_bytes(data)
    assert end_of(tmp_path / "log", size) == text


def test_a_file_that_cannot_be_read_has_no_end(tmp_path: Path) -> None:
    assert end_of(tmp_path / "nothing", 10) == end_of(tmp_path, 10) == ""


def test_a_stop_without_a_reason_leaves_that_of_a_hopeless_trial(tmp_path: Path) -> None:
    ask_to_stop(tmp_path)
    assert (tmp_path / STOP).read_text() == ""
    ask_to_stop(tmp_path, "too bad")
    ask_to_stop(tmp_path)
    assert (tmp_path / STOP).read_text() == "too bad"
    ask_to_stop(tmp_path / "gone", "too late")


@pytest.mark.parametrize("text", ["", "{", "[1]", "7"])
def test_a_sign_of_life_that_nobody_can_read_is_one_all_the_same(tmp_path: Path, text: str) -> None:
    assert not has_begun(tmp_path) and beat_of(tmp_path) is None
    (tmp_path / HEARTBEAT).write_text(text)
    os.utime(tmp_path / HEARTBEAT, ns=(5, 5))
    assert has_begun(tmp_path) and beat_of(tmp_path) == (5, {})


def test_an_attempt_may_run_until_it_leaves_a_result_or_its_process_is_gone(tmp_path: Path) -> None:
    lock, here, gone = tmp_path / "lock", tmp_path / "1", tmp_path / "2"
    for directory, started in ((here, {}), (gone, {"started": "long ago"})):
        directory.mkdir()
        process = {**identity(os.getpid()), **started}
        (directory / HEARTBEAT).write_text(json.dumps(process))
    lock.touch()
    watch = Watch(100.0, lock)
    assert list(watch.still_running([here, gone, tmp_path])) == [here]
    (here / "result.json").touch()
    assert list(watch.still_running([here])) == []
