"""The journal: what is appended is what is replayed, whatever happened to the file's end."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.records import FINGERPRINT, HEADER, asked, attempt, lost, outcome, stage, trial
from workflow.errors import InputError, SiteError
from workflow.journal import VERSION, Journal, _seal, differences
from workflow.state import Record, State
from workflow.trial import Outcome

RECORDS: list[Record] = [
    HEADER,
    attempt("preprocess"),
    stage("preprocess", 1),
    asked(0),
    attempt(0),
    asked(1),
    attempt(1),
    outcome(0, started=1.0, ended=4.5, gpu="0", gpu_seconds=3.5, host="node"),
    lost(1, 1),
    attempt(1, 2),
    {"type": "resumed", "site": "local"},
    {"type": "note", "text": "ü"},
    outcome(1, "failed", 2, evidence="exit code 3", cause="model", started=2.0, ended=9.0),
    attempt("infer"),
    stage("infer", 1, number=0),
    {"type": "ended", "complete": True},
]


def write(path: Path, records: list[Record] = RECORDS) -> State:
    """A journal that holds the records; returns its state."""
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return journal.state


def reopen(path: Path) -> Journal:
    journal = Journal(path)
    journal.close()
    return journal


# -- append and replay -----------------------------------------------------------------------------------------------


def test_replay_equals_what_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    state = write(path)
    again = reopen(path)
    assert again.state == state
    assert again.notes == []
    assert state.trials == {0: trial(0), 1: trial(1)}
    assert list(state.outcomes.values()) == [Outcome.from_json(RECORDS[7]["outcome"]), state.outcomes[1]]


@pytest.mark.parametrize("count", range(len(RECORDS) + 1))
def test_every_prefix_replays_to_its_state(tmp_path: Path, count: int) -> None:
    state = write(tmp_path / "j", RECORDS[:count])
    assert reopen(tmp_path / "j").state == state


def test_several_records_are_appended_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append(*RECORDS)
    journal.close()
    lines = (tmp_path / "j").read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines] == [record["type"] for record in RECORDS]
    assert reopen(tmp_path / "j").state == journal.state


def test_each_record_is_one_line_of_json_with_its_time(tmp_path: Path) -> None:
    write(tmp_path / "j")
    lines = (tmp_path / "j").read_bytes().split(b"\n")
    assert len(lines) == len(RECORDS) + 1
    assert lines[-1] == b""
    times = [json.loads(line)["at"] for line in lines[:-1]]
    assert times == sorted(times)


def test_appending_goes_on_where_the_file_ended(tmp_path: Path) -> None:
    write(tmp_path / "j", RECORDS[:5])
    journal = Journal(tmp_path / "j")
    journal.append(*RECORDS[5:])
    journal.close()
    assert reopen(tmp_path / "j").state == journal.state
    assert journal.state.trials.keys() == {0, 1}


def test_records_are_on_the_disk_before_they_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j")
    synced: list[tuple[int, int]] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append((len((tmp_path / "j").read_bytes().splitlines()), len(journal.state.trials)))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    journal.append(asked(0), asked(1))
    journal.close()
    assert synced == [(2, 0)]
    assert len(journal.state.trials) == 2


# -- damage ----------------------------------------------------------------------------------------------------------

LAST = [asked(1), outcome(0, evidence="killed, ümlaut"), stage("infer", 1), attempt(0)]


@pytest.mark.parametrize("last", LAST, ids=lambda record: record["type"])
def test_last_line_torn_at_every_byte_is_repaired(tmp_path: Path, last: Record) -> None:
    path = tmp_path / "j"
    before = write(path, RECORDS[:5])
    kept = path.read_bytes()
    after = write(path, [last])
    whole = path.read_bytes()
    for size in range(len(kept), len(whole)):
        path.write_bytes(whole[:size])
        torn = reopen(path)
        if size == len(kept):
            assert torn.notes == []
        else:
            assert len(torn.notes) == 1
            assert f"{path}: line 6 " in torn.notes[0]
        complete = size == len(whole) - 1
        assert torn.state == (after if complete else before), size
        assert path.read_bytes() == (whole if complete else kept), size
        assert reopen(path).notes == []


def test_a_missing_final_newline_is_added_and_the_line_kept(tmp_path: Path) -> None:
    path = tmp_path / "j"
    state = write(path)
    path.write_bytes(path.read_bytes()[:-1])
    journal = Journal(path)
    assert journal.state == state
    (note,) = journal.notes
    assert f"line {len(RECORDS)} lacked its end; it is complete and was kept" in note
    journal.append(asked(7))
    journal.close()
    assert reopen(path).state == journal.state


def test_a_torn_only_line_leaves_an_empty_journal(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b'{"type":"campa')
    journal = reopen(path)
    assert journal.state == State()
    assert "line 1 was torn in mid-write (14 bytes)" in journal.notes[0]
    assert path.read_bytes() == b""


def test_appending_after_a_repair(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, RECORDS[:5])
    with path.open("ab") as file:
        file.write(b'{"type":"asked","trial":{"id"')
    journal = Journal(path)
    journal.append(asked(1))
    journal.close()
    assert reopen(path).state.trials.keys() == {0, 1}
    assert reopen(path).notes == []


DAMAGE = {
    "binary": b"\xff\xfe\x00\x80garbage",
    "zeros": b"\0" * 300,
    "empty line": b"",
    "half a record": b'{"type":"asked","at":1.0,"trial":{"id":5,"conf',
    "two records in one": b'{"type":"note","at":1}{"type":"note","at":1}',
    "list": b"[1, 2]",
    "null": b"null",
    "number": b"17",
    "no type": b'{"at":1.0}',
    "type with a flipped bit": b'{"type":"outcomf","at":1.0,"outcome":{"trial_id":0,"attempt":1,"kind":"ok"}}',
    "no time": b'{"type":"note"}',
    "no trial": b'{"type":"asked","at":1.0}',
    "trial is null": b'{"type":"asked","at":1.0,"trial":null}',
    "trial is empty": b'{"type":"asked","at":1.0,"trial":{}}',
    "trial with more": b'{"type":"asked","at":1.0,"trial":{"id":5,"config_id":5,"params":{},"parents":[],"?":1}}',
    "outcome is a list": b'{"type":"outcome","at":1.0,"outcome":[]}',
    "outcome without kind": b'{"type":"outcome","at":1.0,"outcome":{"trial_id":0,"attempt":1}}',
    "attempt is text": b'{"type":"attempt","at":1.0,"trial":0,"attempt":"x"}',
    "attempt of a list": b'{"type":"attempt","at":1.0,"trial":[],"attempt":1}',
    "attempt is infinite": b'{"type":"attempt","at":1.0,"trial":0,"attempt":1e999}',
    "time is text": b'{"type":"note","at":"noon"}',
    "time is too large": b'{"type":"note","at":1' + b"0" * 400 + b"}",
    "stage without outcome": b'{"type":"stage","at":1.0,"stage":"infer"}',
    "end without completeness": b'{"type":"ended","at":1.0}',
    "nested too deeply": b"[" * 100_000,
}


SEALED = {name: line for name, line in DAMAGE.items() if line.startswith(b"{") and line.count(b"{") == line.count(b"}")}
del SEALED["two records in one"]


@pytest.mark.parametrize("damage", SEALED.values(), ids=SEALED)
def test_a_record_that_makes_no_sense_is_named_and_left_out(tmp_path: Path, damage: bytes) -> None:
    """Its check sum is right: a faulty program has written it."""
    test_a_corrupt_line_is_named_and_left_out(tmp_path, _seal(json.loads(damage)).rstrip(b"\n"), 3)


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, RECORDS[:5])
    lines = path.read_bytes().splitlines()
    expected = State()
    for line in [*lines[:3], lines[4]]:
        expected.apply(json.loads(line))
    for position in range(len(lines[3])):
        flipped = bytearray(lines[3])
        flipped[position] ^= 1
        path.write_bytes(b"\n".join([*lines[:3], bytes(flipped), lines[4], b""]))
        journal = reopen(path)
        assert [note.split(":")[1][:18] for note in journal.notes] == [" line 4 is corrupt"], position
        assert journal.state == expected, position


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("number", [1, 3, 8])
def test_a_corrupt_line_is_named_and_left_out(tmp_path: Path, damage: bytes, number: int) -> None:
    path = tmp_path / "j"
    write(path, RECORDS[:8])
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[: number - 1], damage, *lines[number - 1 :], b""]))
    expected = State()
    for line in lines:
        expected.apply(json.loads(line))
    journal = reopen(path)
    assert journal.state == expected
    assert len(journal.notes) == 1
    assert f"{path}: line {number} is corrupt" in journal.notes[0]


def test_several_corrupt_lines_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path)
    lines = path.read_bytes().splitlines()
    lines[2], lines[5], lines[-1] = b"x", lines[5][:20], lines[-1][:9]
    path.write_bytes(b"\n".join(lines))
    notes = reopen(path).notes
    assert [note.removeprefix(f"{path}: ").split(" ")[1] for note in notes] == ["3", "6", str(len(RECORDS))]


@pytest.mark.parametrize("version", [VERSION + 1, 0, None, "1"])
def test_journal_of_another_version_is_refused_unchanged(tmp_path: Path, version: object) -> None:
    path = tmp_path / "j"
    write(path)
    data = path.read_bytes().replace(b'"version":1', b'"version":' + json.dumps(version).encode())
    path.write_bytes(data)
    with pytest.raises(InputError, match="has format version") as refused:
        Journal(path)
    assert str(path) in str(refused.value)
    assert path.read_bytes() == data


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_refused_journal_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path)
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    before = open_files()
    with pytest.raises(InputError):
        Journal(path)
    assert open_files() == before


# -- outcomes that are taken back, attempts that nobody saw end ------------------------------------------------------


def test_outcomes_can_be_taken_back(tmp_path: Path) -> None:
    """Their trials are unfinished again, and what the attempts left on the disk no longer counts."""
    records = [HEADER, asked(0), attempt(0), lost(0, 1), attempt(0, 2), outcome(0, "failed", 2)]
    state = write(
        tmp_path / "j", [*records, {"type": "retracted", "trials": [0], "signature": "full", "reason": "it was full"}]
    )
    assert (state.outcomes, state.lost, state.closed) == ({}, {}, {0: 2})
    assert [t.id for t in state.unfinished] == [0]
    assert reopen(tmp_path / "j").state == state


def test_attempts_that_died_with_their_controller_are_counted(tmp_path: Path) -> None:
    """Not before they run again: a result file may still tell how they ended."""
    records = [HEADER, asked(0), attempt(0), asked(1), attempt(1), {"type": "resumed"}, outcome(0)]
    assert write(tmp_path / "adopted", records).abandoned == 0
    assert write(tmp_path / "again", [*records, attempt(1, 2), lost(1, 2), attempt(1, 3)]).abandoned == 1


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "deleted"])
def test_a_journal_that_is_gone_is_a_site_error(tmp_path: Path, moved: bool) -> None:
    path = tmp_path / "run" / "j"
    path.parent.mkdir()
    journal = Journal(path)
    journal.append(HEADER)
    path.parent.rename(tmp_path / "elsewhere") if moved else shutil.rmtree(path.parent)
    with pytest.raises(SiteError, match="is gone"):
        journal.append(asked(0))
    assert not path.parent.exists()
    journal.close()


# -- a full disk -----------------------------------------------------------------------------------------------------

# A limit on the size of files: the kernel takes a part of the record, then refuses, as on a full disk.
FULL_DISK = """
import resource, sys
from pathlib import Path
from workflow.errors import SiteError
from workflow.journal import Journal

path, room = Path(sys.argv[1]), int(sys.argv[2])
journal = Journal(path)
before, size = path.read_bytes(), path.stat().st_size
trials, elapsed = dict(journal.state.trials), journal.state.elapsed
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
asked = {"type": "asked", "trial": {"id": 7, "config_id": 7, "params": {"x": "y" * 1000}, "parents": []}}
for _ in range(3):
    try:
        journal.append({"type": "note"}, asked, {"type": "note"})
    except SiteError as error:
        print(error)
    assert path.read_bytes() == before
    assert (journal.state.trials, journal.state.elapsed) == (trials, elapsed)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
journal.append(asked)
assert 7 in journal.state.trials
"""


@pytest.mark.parametrize("room", [0, 1, 50, 1000])
def test_full_disk_raises_site_error_and_leaves_the_journal(tmp_path: Path, room: int) -> None:
    path = tmp_path / "j"
    write(path)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path, str(room)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{path}: cannot be written (") == 3
    assert "make room" in done.stdout
    again = reopen(path)
    assert again.notes == []
    assert again.state.trials.keys() == {0, 1, 7}


def test_a_disk_that_does_not_take_the_record_back_is_a_site_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that has become read-only in mid-write. What it holds then is repaired at the next start."""
    path = tmp_path / "j"
    write(path)
    journal = Journal(path)

    def stops(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:20])
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def refuses(descriptor: int, length: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr("workflow.journal._write_all", stops)
        patch.setattr(os, "ftruncate", refuses)
        with pytest.raises(SiteError, match=r"cannot be written \(Input/output error\)"):
            journal.append(asked(7))
    journal.close()
    again = reopen(path)
    assert "was torn in mid-write (20 bytes)" in again.notes[0]
    assert again.state.trials.keys() == {0, 1}


# -- fingerprints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda new: None, []),
        (lambda new: new["search"].update(seed=2), ["search.seed: 1 -> 2"]),
        (lambda new: new["search"].update(strategy="simple"), ['search.strategy: null -> "simple"']),
        (lambda new: new["search"].clear(), ["search.seed: 1 -> null"]),
        (lambda new: new["space"].append(1), ['space: [{"name": "x"}] -> [{"name": "x"}, 1]']),
        (lambda new: new.update(objective="mse"), ['objective: null -> "mse"']),
        (lambda new: new.update(search=5), ['search: {"seed": 1} -> 5']),
        (
            lambda new: (new["search"].update(seed=3), new.update(a=1), new.update(y=False, z=True)),
            ["a: null -> 1", "search.seed: 1 -> 3", "z: null -> true"],
        ),
    ],
)
def test_differences_are_named_by_their_place(change: Callable[[dict[str, Any]], Any], expected: list[str]) -> None:
    new = json.loads(json.dumps(FINGERPRINT))
    change(new)
    assert list(differences(FINGERPRINT, new)) == expected


def test_trials_take_little_memory(tmp_path: Path) -> None:
    """1.2 kB each: a million of them fit where a controller has 2 GB."""
    journal, count = Journal(tmp_path / "journal.jsonl"), 2000
    ends = [outcome(number, host="node-17", evidence="exit code 0", started=1.5, ended=2.5) for number in range(count)]
    tracemalloc.start()
    journal.append(*map(asked, range(count)), *map(attempt, range(count)), *ends)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    journal.close()
    assert used / count < 1300
