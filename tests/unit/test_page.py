"""Reports of all kinds of runs, as text."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RESULT, ROOT
from tests.synthetic import run_of, write_run
from workflow.errors import InputError
from workflow.report.__main__ import main
from workflow.report.figures import KIND_NAMES
from workflow.report.history import Controller, Run, load_run
from workflow.report.page import page
from workflow.trial import FIRST_RERUN, Objective, Outcome, Trial

HOSTILE = "</script><script>alert(1)</script>\"'&<img src=x onerror=alert(2)>\0\u202e\ud800\N{GRINNING FACE}"
TABLES = ROOT / "tests" / "data" / "halloffame"


class Text(HTMLParser):
    """The elements of a page, and its text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.parts: list[str] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in ("meta", "br"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag, "elements are nested"

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._inside):
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).replace("\N{NO-BREAK SPACE}", " ").split())


def shown(*runs: Run) -> str:
    """The text of a report."""
    return Text(page(runs)).text


def charts(html: str) -> set[str]:
    return set(re.findall(r'data-chart="(\w+)"', html))


def ok(number: int, value: float, **keys: Any) -> Outcome:
    return Outcome(number, 1, "ok", value, **{"started": 100.0 + number, "ended": 110.0 + number, "host": "n1", **keys})


ALL = {"history", "generations", "parallel", "slices", "importance", "pairs", "timeline"}


def test_a_report_has_every_section(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", 120, search={"strategy": "async", "seed": 1}))
    html = page([run])
    text = Text(html).text
    assert charts(html) == ALL
    assert "strategy async" in text and "Complete." in text
    assert f"trials/{run.best.trial_id:04d}/attempt-1/command.sh" in text if run.best else False
    assert "4 attempts failed: exit code 1: CUDA out of memory" in text and "Remedy: choose a smaller" in text
    assert "search.seed 1" in text and "learning_rate float lower: 1e-06, upper: 0.1" in text


def test_the_same_run_gives_the_same_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 60)
    assert page([load_run(run)]) == page([load_run(run)])


def test_a_report_is_well_formed_and_loads_nothing(tmp_path: Path) -> None:
    html = page([load_run(write_run(tmp_path / "run", 30))])
    elements = Text(html)
    assert not {"link", "img", "iframe", "object"} & set(elements.tags) and "src" not in elements.attributes
    assert "default-src &#x27;none&#x27;" in html and not re.search(r"url\(|@import|fetch\(|XMLHttp", html)
    assert set(re.findall(r"https?://[^\"' ]*", html)) == {"http://www.w3.org/2000/svg"}  # a name, no address


# -- runs of all kinds -----------------------------------------------------------------------------------------------


def failed(number: int, **keys: Any) -> Outcome:
    return Outcome(number, 1, "failed", **{"started": 100.0, "ended": 101.0, "evidence": "exit code 1", **keys})


CATEGORICAL = [{"name": "c", "type": "categorical", "element_type": "string", "values": ["a", "b"]}]


@pytest.mark.parametrize(
    ("run", "drawn", "said"),
    [
        (run_of(), set(), "No trial has succeeded, so there is no winner."),
        (run_of(), set(), "Nothing has been spent yet."),
        (run_of(failed(0), failed(1)), {"timeline"}, "2 attempts failed: exit code 1"),
        (run_of(ok(0, 1.0)), ALL - {"importance", "pairs"}, "need at least 20 successful trials; there are 1."),
        (run_of(*(ok(i, 0.5) for i in range(30))), ALL - {"importance", "pairs"}, "The results are the same"),
        (run_of(ok(0, math.nan)), {"timeline"}, "No trial has a result yet"),
        (run_of(*(ok(i, 1.0, started=None, ended=None) for i in range(2))), ALL - {"importance", "pairs", "timeline"},
         "No attempt has started yet."),
        (run_of(*(ok(i, i) for i in range(25)), space=CATEGORICAL, params={i: {"c": "ab"[i % 2]} for i in range(25)}),
         ALL - {"importance", "pairs"}, "it is not to be believed, so no importance is shown"),
        (run_of(*(ok(i, i) for i in range(25)), space=CATEGORICAL, params={i: {"c": "a"} for i in range(25)}),
         ALL - {"importance", "pairs"}, "The same in all successful trials, so without a share: c."),
        (run_of(ok(0, 1.0), space=[{"name": "c", "type": "constant", "value": 1}]),
         {"history", "generations", "timeline"},
         "No hyperparameter varies."),
        (run_of(*(ok(i, i, metrics={"b": -i}) for i in range(3)), objectives=(Objective("a"), Objective("b"))),
         (ALL | {"pareto"}) - {"importance", "pairs"}, "3 trials that no other one beats in everything (a min, b min)"),
        (run_of(ok(0, 1.0), objectives=(Objective("a"), Objective("b"))), ALL - {"importance", "pairs"},
         "No trial has a result for all objectives (a min, b min)."),
    ],
)  # fmt: skip
def test_every_run_has_a_report(run: Run, drawn: set[str], said: str) -> None:
    html = page([run])
    assert charts(html) == drawn and said in Text(html).text


def test_a_run_that_was_interrupted_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 10)
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (run / "journal.jsonl").write_bytes(b"".join(lines[:12]) + lines[12][:20])
    text = shown(load_run(run))
    assert "Not complete: it is running still, or was interrupted, its last record of 2023-11-14" in text
    assert "trials had not ended" in text


@pytest.mark.parametrize(
    ("table", "trials"),
    [(TABLES / "graphdrp-ccle-medium.csv", 40), (ROOT / "scripts/bench/tables/igtd-ccle-large.csv", 440)],
    ids=["medium", "large"],
)
def test_tables_of_the_reference_are_reported(table: Path, trials: int) -> None:
    run = load_run(table)
    html = page([run])
    text = Text(html).text
    assert len(run.outcomes) == trials and charts(html) >= {"history", "generations", "parallel", "slices", "pairs"}
    assert "Read from a table" in text and "The table does not tell when its trials ran." in text
    assert "A table does not tell the command" in text


def test_the_winner_is_shown_with_what_it_had_on_the_test_set() -> None:
    run = run_of(ok(0, 2.0), ok(1, 0.5, metrics={"mse": 0.5, "r2": 0.8}))
    infer = Outcome(1, 1, "ok", None, {"mse": 0.6, "r2": 0.6}, started=300.0, ended=301.0)
    run.state.apply({"type": "stage", "at": 0.0, "stage": "infer", "outcome": infer.to_json()})
    text = shown(run)
    assert "mse 0.5000 0.6000 r2 0.8000 0.6000" in text and "mse +20.0 %, r2 -25.0 %" in text
    assert "bash /run/trials/0001/attempt-1/command.sh" in text


def test_finalists_are_shown_with_their_reruns() -> None:
    run = run_of(ok(0, 0.5), ok(1, 0.4))
    reruns = [Trial(FIRST_RERUN + i, FIRST_RERUN + i, {"seed": i}, parents=(i // 2,)) for i in range(4)]
    run.state.apply({"type": "finals", "at": 0.0, "reruns": [trial.to_json() for trial in reruns]})
    before = shown(run)
    assert "The finalists have not all been trained again yet" in before and "best val_loss 0.4000 trial 1" in before
    ended = [ok(trial.id, value) for trial, value in zip(reruns, (0.5, 0.6, 0.7, 0.9), strict=True)]
    for outcome in ended:
        run.state.apply({"type": "outcome", "at": 0.0, "outcome": outcome.to_json()})
    text = shown(replace(run, attempts=[*run.attempts, *ended]))
    assert "0 0.5000 0.5500 0.07071 2 0 1 0.4000 0.8000 0.1414 2 0" in text
    assert "better than the winner's mean by 0.1500" in text and "Hyperparameters of trial 0" in text
    assert "re-runs of finalists 4 " in text and "winner's val_loss 0.5000 trial 0; mean of its re-runs 0.5500" in text


def test_logs_and_scripts_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 12)
    winner = load_run(run).best
    assert winner is not None
    for number, name, text in (
        (11, "model.log", f"line\nRuntimeError: {HOSTILE}"),
        (winner.trial_id, "command.sh", "exec train.sh"),
    ):
        directory = run / "trials" / f"{number:04d}" / "attempt-1"
        directory.mkdir(parents=True)
        (directory / name).write_text(text, errors="replace")
    html = page([load_run(run)])
    text = Text(html).text
    assert "The end of the log of trial 11, attempt 1 line RuntimeError: </script>" in text and "exec train.sh" in text
    assert "alert(2)>" not in html


def test_where_logs_lie_elsewhere_their_ends_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 12)
    directory = run / "trials" / "0011" / "attempt-1"
    directory.mkdir(parents=True)
    (directory / "result.json").write_text(json.dumps({**RESULT, "log_tail": "Killed"}))
    assert "attempt 1 Killed" in shown(load_run(run))


# -- what others have written ----------------------------------------------------------------------------------------


def hostile_run() -> Run:
    values = {i: {HOSTILE: (HOSTILE, "x" * 5000, "a")[i % 3]} for i in range(30)}
    run = run_of(
        *(ok(i, i % 7, host=HOSTILE, gpu=HOSTILE) for i in range(29)), failed(29, evidence=HOSTILE, host=HOSTILE),
        params=values, objectives=(Objective(HOSTILE),), experiment={"name": HOSTILE, HOSTILE: [HOSTILE]},
        site={"name": HOSTILE}, controllers=[Controller(90.0, 200.0, {"command": HOSTILE, "workers": HOSTILE})],
    )  # fmt: skip
    return replace(run, varying=(HOSTILE, "x"))


def test_no_text_gets_out_of_its_place() -> None:
    clean, hostile = run_of(*(ok(i, i % 7) for i in range(29)), failed(29)), hostile_run()
    elements = Text(page([hostile]))
    assert elements.tags.count("script") == Text(page([clean])).tags.count("script") == 2
    assert not {"img", "b"} & set(elements.tags) and not [name for name in elements.attributes if name.startswith("on")]
    assert not {"\0", "\u202e", "\ud800"} & set(page([hostile]))
    assert max(map(len, re.findall("x+", page([hostile])))) <= 300


def test_the_script_is_the_one_that_the_policy_allows() -> None:
    """What is not the page's own script does not run, even if it got in."""
    html = page([hostile_run()])
    (allowed,) = re.findall(r"script-src &#x27;sha256-(.*?)&#x27;", html)
    script = html.rpartition("<script>")[2].partition("</script>")[0]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == allowed


def test_every_colour_that_is_used_is_defined() -> None:
    style = (ROOT / "workflow" / "report" / "assets" / "report.css").read_text()
    assert set(re.findall(r"var\((--\w+)\)", style)) == set(re.findall(r"(--\w+):", style))
    assert set(KIND_NAMES) <= set(re.findall(r"\.(\w+) {", style))


# -- several runs ----------------------------------------------------------------------------------------------------


def test_runs_are_compared() -> None:
    first = run_of(ok(0, 1.0), name="first", experiment={"search": {"seed": 1, "strategy": "async"}})
    second = run_of(ok(0, 0.5), failed(1), name="second", experiment={"search": {"seed": 2, "strategy": "async"}})
    html = page([first, second])
    text = Text(html).text
    assert "comparison" in charts(html) and "first async 1 0 1 " in text and "second async 2 1 0.5000 " in text
    assert "search.seed 1 2" in text and "search.strategy async async" not in text
    assert "All that follows is of first." in text


def test_runs_of_different_objectives_are_not_compared() -> None:
    with pytest.raises(InputError, match=r"searched for r2 max, /run for val_loss min\n    -> compare"):
        page([run_of(ok(0, 1.0)), run_of(ok(0, 1.0), objectives=(Objective("r2", "max"),))])


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_report_into_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 5)
    command = [sys.executable, "-m", "workflow.report", run, run]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{run}/report.html\n", "")
    assert "Comparison" in Text((run / "report.html").read_text()).text


def test_a_table_is_reported_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "hpo.csv"
    table.write_bytes((TABLES / "graphdrp-ccle-medium.csv").read_bytes())
    assert main([str(table)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/hpo.html\n" and (tmp_path / "hpo.html").stat().st_size > 10_000


def test_bad_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", 2)
    assert main([str(run), "--output", str(tmp_path / "nowhere" / "report.html")]) == 3
    assert "nowhere/report.html: cannot be written (No such file" in capsys.readouterr().err
    assert main([str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("place", ["", ".", "pipe"])
def test_what_is_no_file_is_not_replaced_by_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    run = write_run(tmp_path / "run", 2)
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    assert main([str(run), "--output", place]) == 2
    assert f"--output {place}: is no file" in capsys.readouterr().err
    assert Path("pipe").is_fifo()


def test_a_link_stays_one(tmp_path: Path) -> None:
    run, link = write_run(tmp_path / "run", 2), tmp_path / "link.html"
    link.symlink_to(tmp_path / "report.html")
    assert main([str(run), "--output", str(link)]) == 0
    assert link.is_symlink() and (tmp_path / "report.html").is_file()


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 5)
    lines = (run / "journal.jsonl").read_text().splitlines()
    (run / "journal.jsonl").write_text("\n".join([*lines[:-1], lines[-1].replace("1", "2"), ""]))
    assert main([str(run)]) == 0
    assert "1 line of its journal cannot be read and had to be left out." in (run / "report.html").read_text()


def test_a_journal_without_a_valid_line_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", 5)
    (run / "journal.jsonl").write_text("no journal\n")
    assert main([str(run)]) == 2
    assert "journal.jsonl: holds no valid record" in capsys.readouterr().err


def test_a_journal_that_cannot_be_read_says_what_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", 5)
    (run / "journal.jsonl").unlink()
    assert main([str(run)]) == 2
    assert "journal.jsonl: no such file\n    -> give the directory of a run" in capsys.readouterr().err
    (run / "journal.jsonl").mkdir()
    assert main([str(run)]) == 2
    assert "journal.jsonl: cannot be read (Is a directory)\n    -> check its permissions" in capsys.readouterr().err


def test_a_journal_of_another_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", 5)
    journal = run / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"version":1', '"version":9'))
    assert main([str(run)]) == 2
    assert "has format version 9" in capsys.readouterr().err
