"""Values that a training prints: which lines have them, and a log that is read while it is written."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from pathlib import Path

import pytest

from workflow import curves as module
from workflow.curves import BoundedFinder, LineReader, RunningLog, curve_of, default_pattern, quick_finder, thinned
from workflow.errors import printable


def read(*lines: str, metric: str = "val_loss", pattern: str | None = None) -> list[tuple[int, float] | None]:
    reader, found = LineReader(), quick_finder(pattern or default_pattern(metric))(list(map(printable, lines)))
    assert found is not None
    return [reader.read(matches) for matches in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("IMPROVE_RESULT epoch 7 val_loss: 0.512", (7, 0.512)),
        ("IMPROVE_RESULT epoch 7 val_loss:\t1.2e-05", (7, 1.2e-05)),
        ("epoch 7 val_loss 0.512", (7, 0.512)),
        ("epoch 0 val_loss -.5", (0, -0.5)),
        ("epoch 7/150 train_loss 0.1 val_loss 0.512", (7, 0.512)),
        ("Epoch 7/150 - 2s - loss: 0.1 - val_loss: 0.512 - lr: 0.001", (7, 0.512)),
        ("Epoch: [7][10/39]  val_loss=0.512, best val_loss=0.4", (7, 0.512)),
        ("EPOCH 0007 | val_loss = 5.", (7, 5.0)),
        ("{'epoch': 7, 'val_loss': 0.512}", (7, 0.512)),
        ('INFO:root:val_loss: 0.512 ("epoch": 7)', (7, 0.512)),
        ("\x1b[32mepoch\x1b[0m 7 val_loss: \x1b[1m0.512\x1b[0m", (7, 0.512)),
        ("epoch 7 val_loss -inf", (7, -math.inf)),
        ("epoch 7 best_val_loss 0.5", None),
        ("epoch 7 my-val_loss 0.5 val_loss_2 0.5 run/val_loss 0.5", None),
        ("epoch 7 val_loss 0.5s", None),
        ("epoch 7: val_loss improved from 0.6 to 0.5", None),
        ("epochs 7 val_loss 0.5", None),
        ("epoch 7.5 val_loss 0.5", None),
        ("n_epoch 7 val_loss 0.5", None),
        ("val_loss 0.5", None),
        ("epoch 7", None),
        ("", None),
    ],
)
def test_lines_by_the_default_pattern(line: str, expected: tuple[int, float] | None) -> None:
    assert read(line) == [expected]


@pytest.mark.parametrize("line", ["epoch" + " " * 3000, "epoch: [" + " " * 3000, "epoch 1 val_loss" + " " * 3000 + "="])
def test_a_line_of_blanks_takes_no_time(line: str) -> None:
    started = time.process_time()
    assert read(line) == [None]
    assert time.process_time() - started < 1


def test_nan_is_a_value() -> None:
    found = read("epoch 7 val_loss nan")[0]
    assert found is not None and math.isnan(found[1])


def test_the_metric_is_a_name_and_no_pattern() -> None:
    assert read("epoch 1 valxloss 0.5", "epoch 2 val.loss 0.6", metric="val.loss") == [None, (2, 0.6)]


def test_a_value_belongs_to_the_step_that_was_named_last() -> None:
    """As Keras prints them; the result of the whole training replaces the last step's."""
    lines = ("val_loss 9", "Epoch 1/2", "24/24 [====] - val_loss: 0.6", "Epoch 2/2", "24/24 - val_loss: 0.5")
    assert read(*lines, "IMPROVE_RESULT val_loss:\t0.49") == [None, None, (1, 0.6), None, (2, 0.5), (2, 0.49)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [("@3: -> 0.5", (3, 0.5)), ("@3.0: -> 1e3", (3, 1000.0)), ("@x: -> 1", None), ("@3: -> a", None)],
)
def test_a_pattern_of_the_users(line: str, expected: tuple[int, float] | None) -> None:
    assert read(line, pattern=r"@(?P<step>\S+): -> (?P<value>\S+)") == [expected]


# -- a log while it is written ---------------------------------------------------------------------------------------


def line(step: int, value: float) -> str:
    return f"epoch {step} val_loss {value}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.log"


def follow(path: Path) -> RunningLog:
    return RunningLog(path, quick_finder(default_pattern("val_loss")))


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_only_news_are_told(path: Path) -> None:
    log = follow(path)
    assert log.news() == [], "there is no log yet"
    append(path, line(1, 0.9) + "noise\n" + line(2, 0.8))
    assert log.news() == [(1, 0.9), (2, 0.8)]
    assert log.news() == []
    append(path, line(3, 0.7))
    assert log.news() == [(3, 0.7)]
    assert log.curve() == ((1, 0.9), (2, 0.8), (3, 0.7))


def test_half_a_line_is_not_read_before_it_is_whole(path: Path) -> None:
    log = follow(path)
    append(path, line(1, 0.9) + "epoch 2 val_loss 0.1")
    assert log.news() == [(1, 0.9)]
    append(path, "25\nepoch 3 val_lo")
    assert log.news() == [(2, 0.125)]
    append(path, "ss 0.5")
    assert log.news() == []
    assert log.curve() == ((1, 0.9), (2, 0.125), (3, 0.5)), "it has ended, so that is the whole line"


def test_a_progress_bar_ends_its_lines_with_carriage_returns(path: Path) -> None:
    log = follow(path)
    append(path, "epoch 1 val_loss 0.9\repoch 1 val_loss 0.8\repoch 1 val_loss 0.")
    assert log.news() == [(1, 0.9), (1, 0.8)]
    assert log.curve() == ((1, 0.0),)


def test_a_log_that_shrinks_is_read_anew(path: Path) -> None:
    log = follow(path)
    append(path, line(1, 0.9) + line(2, 0.8))
    log.news()
    path.write_text(line(1, 0.7))
    assert log.news() == [(1, 0.7)]
    assert log.curve() == ((1, 0.7),)


def test_a_log_that_vanishes_is_no_news_and_a_new_one_is_read_from_its_start(path: Path) -> None:
    """As of a model that clears its directory: the supervisor puts the log back at the end."""
    log = follow(path)
    append(path, line(1, 0.9))
    log.news()
    path.rename(path.with_name("old"))
    assert log.news() == []
    assert log.curve() == ((1, 0.9),)
    append(path, line(1, 0.9) + line(2, 0.8) + line(3, 0.7))
    assert log.curve() == ((1, 0.9), (2, 0.8), (3, 0.7))


def test_a_long_log_is_read_piece_by_piece(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 50)
    log = follow(path)
    append(path, "".join(line(step, step / 10) for step in range(1, 9)) + "x" * 120 + "\n" + line(9, 0.9))
    assert log.news() == [(1, 0.1), (2, 0.2)]
    assert log.curve() == tuple((step, step / 10) for step in range(1, 10))


def test_what_is_no_text_is_no_value(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\0\n" + line(1, 0.5).encode())
    assert follow(path).news() == [(1, 0.5)]


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_a_line_that_takes_the_users_pattern_years_ends_the_reading_of_its_log(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.1)
    said: list[str] = []
    find = BoundedFinder(r"(?:\w+ ?)+: (?P<step>\d+) (?P<value>\S+)", said.append)
    log, other = RunningLog(path, find), RunningLog(path.with_name("other"), find)
    append(path, "it is: 3 0.5\n")
    assert log.news() == [(3, 0.5)]
    append(path, "a" * 60 + "\nit is: 4 0.25\n")
    assert log.news() == log.news() == []
    append(path, "it is: 5 0.125\n")
    assert log.news() == []
    assert log.curve() == ((3, 0.5),)
    append(other.path, "it is: 4 0.25\n")
    assert other.news() == [(4, 0.25)], "another log is read"
    append(other.path, "a" * 60 + "\n")
    assert other.news() == []
    assert [find(["a" * 60]), find(["it is: 5 0.125"])] == [None, None], "after three it gives up"
    (warning,) = said
    assert warning.startswith("warning: early_stopping.pattern took more than 0.1 s for a line")
    find.close()


def test_a_curve_has_what_was_reported_last_and_is_finite() -> None:
    reports = [(1, 5.0), (2, 4.0), (3, 3.0), (2, 1 / 3), (3, math.nan), (4, math.inf), (5, 0.1)]
    assert curve_of(reports) == ((1, 5.0), (2, 0.333333), (5, 0.1))


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250, 12345])
def test_a_curve_is_thinned_to_its_ends_and_what_lies_evenly_between(count: int) -> None:
    points = [(step, 0.5) for step in range(count)]
    kept = thinned(points)
    assert len(kept) == min(count, 100)
    assert kept[:1] == points[:1] and kept[-1:] == points[-1:]
    gaps = {after[0] - before[0] for before, after in pairwise(kept)}
    assert not gaps or max(gaps) - min(gaps) <= 1
