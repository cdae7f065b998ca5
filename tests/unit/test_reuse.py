"""What is taken over of earlier runs, and what decides about it: what is bound, too, by its contents."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from workflow import reuse as module
from workflow.journal import Journal
from workflow.reuse import Memo, Source, read_sources
from workflow.rundir import RunDir
from workflow.runtimes import Bind
from workflow.trial import FIRST_RERUN, Outcome, Trial


def test_reruns_of_earlier_runs_are_reused_as_its_trials_are(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    searched, again = Trial(0, 0, {"x": 1}), Trial(FIRST_RERUN, FIRST_RERUN, {"x": 1, "seed": 5}, parents=(0,))
    journal = Journal(run.journal)
    journal.append(
        {"type": "inputs", "digest": "same"},
        {"type": "asked", "trial": searched.to_json()},
        {"type": "finals", "reruns": [again.to_json()]},
        *({"type": "attempt", "trial": t.id, "attempt": 2} for t in (searched, again)),
        *({"type": "outcome", "outcome": Outcome(t.id, 2, "ok", 0.5).to_json()} for t in (searched, again)),
    )
    journal.close()
    for trial in (searched, again):
        run.trial_attempt(trial.id, 2).mkdir(parents=True)
    memo = Memo((str(tmp_path),), "same")
    found = memo.find(Trial(FIRST_RERUN + 7, 7, {"x": 1, "seed": 5}))
    assert found is not None
    assert (found.trial_id, found.source) == (FIRST_RERUN + 7, str(tmp_path / "reruns/0000/attempt-2"))
    assert found.evidence.endswith("re-run 0")
    assert memo.find(Trial(3, 3, {"x": 1, "seed": 6})) is None
    assert memo.find(Trial(3, 3, {"x": 1})) is not None


@pytest.mark.parametrize("inputs, reused", [("before", [0, 1, 4]), ("after", [2, 3]), ("never", [])])
def test_results_are_reused_by_what_they_came_from(tmp_path: Path, inputs: str, reused: list[int]) -> None:
    """Also where a resume has changed it in mid-run; trial 1 ended after that and had begun before, 3 was reused."""
    run, trials = RunDir(tmp_path), [Trial(n, n, {"x": n}) for n in range(5)]

    def ended(number: int, attempt: int = 1) -> dict[str, object]:
        source = "" if attempt else str(tmp_path)
        return {"type": "outcome", "outcome": Outcome(number, attempt, "ok", 0.5, source=source).to_json()}

    journal = Journal(run.journal)
    journal.append(
        *({"type": "asked", "trial": trial.to_json()} for trial in trials),
        {"type": "inputs", "digest": "before"},
        *({"type": "attempt", "trial": number, "attempt": 1} for number in (0, 1)),
        ended(0),
        {"type": "inputs", "digest": "after"},
        {"type": "attempt", "trial": 2, "attempt": 1},
        ended(1), ended(2), ended(3, attempt=0),
        {"type": "inputs", "digest": "before"},
        {"type": "attempt", "trial": 4, "attempt": 1},
        ended(4),
    )  # fmt: skip
    journal.close()
    for trial in trials:
        run.trial_attempt(trial.id, 1).mkdir(parents=True)
    memo = Memo((str(tmp_path),), inputs)
    assert [trial.id for trial in trials if memo.find(trial) is not None] == reused
    assert bool(memo.different) == (not reused)


def read(path: Path, *written: Path) -> Source:
    return read_sources([Bind(str(path), "/inside")], written)[str(path)]


def test_contents_count_and_times_do_not(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "table.csv").write_text("1,2\n")
    before = read(source)
    assert before.whole and read(source / "table.csv").whole
    os.utime(source / "table.csv", ns=(1, 1))
    assert read(source) == before
    (source / "table.csv").write_text("1,3\n")
    assert read(source) != before


def test_what_the_campaign_writes_does_not_count(tmp_path: Path) -> None:
    before = read(tmp_path, tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal").touch()
    assert read(tmp_path, tmp_path / "run") == before


def test_a_large_source_counts_by_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 2)
    for number in range(2):
        (tmp_path / f"{number}").touch()
    assert read(tmp_path).whole
    (tmp_path / "2").touch()
    large = read(tmp_path)
    assert large == (str(tmp_path.stat().st_mtime_ns), False)
    (tmp_path / "2").write_text("changed")
    assert read(tmp_path) == large


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [a_socket, os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_file_has_no_contents(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x")
    assert read(tmp_path / "x").whole and read(tmp_path).whole


def test_what_cannot_be_read_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert read(tmp_path) == (str(tmp_path.stat().st_mtime_ns), False)
    assert read(tmp_path / "gone") == ("No such file or directory", False)
