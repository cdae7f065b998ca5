"""One controller a run, with real processes: refusal, death in all its forms, and races for a dead one's place."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, eventually
from workflow import lock as module
from workflow.errors import InputError, SiteError
from workflow.lock import RunLock
from workflow.worker.processes import identity, start_time

PATIENCE = 0.3
BEAT = 0.05

# A controller that holds the lock until its standard input ends.
HOLDER = f"""
import sys
from pathlib import Path
from workflow import lock
lock.BEAT = {BEAT}
held = lock.RunLock(Path(sys.argv[1]), {PATIENCE})
held.acquire()
print(held.nonce, flush=True)
sys.stdin.read()
held.release()
"""

# A newcomer that tries to take a lock over at the moment it is given, round after round.
NEWCOMER = f"""
import sys, time
from pathlib import Path
from workflow import lock
from workflow.errors import InputError
for line in sys.stdin:
    moment, _, path = line.strip().partition(" ")
    mine = lock.RunLock(Path(path), {PATIENCE})
    while time.time() < float(moment):
        pass
    try:
        mine.acquire()
        print("won", mine.nonce, flush=True)
    except InputError:
        print("refused", flush=True)
    sys.stdin.readline()
    mine.release()
    print("released", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "controller.lock"


@pytest.fixture(autouse=True)
def fast_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", BEAT)


@contextlib.contextmanager
def python(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def leave(path: Path, **changes: Any) -> dict[str, Any]:
    """A lock file as this process would write it, but for ``changes``."""
    owner = {**identity(os.getpid()), "nonce": "0123456789abcdef", "beats": 3, **changes}
    path.write_text(json.dumps(owner))
    return owner


def take(path: Path, patience: float = PATIENCE) -> tuple[float, list[str]]:
    """Acquire and release; returns the seconds that it took and what was said."""
    said: list[str] = []
    lock = RunLock(path, patience)
    start = time.monotonic()
    lock.acquire(said.append)
    seconds = time.monotonic() - start
    assert content(path)["nonce"] == lock.nonce
    lock.release()
    assert only_files(path, [])
    return seconds, said


def only_files(path: Path, names: list[str]) -> bool:
    return sorted(entry.name for entry in path.parent.iterdir()) == names


def killed_process() -> dict[str, Any]:
    """The identity of a process that is no more."""
    with python("import sys; sys.stdin.read()") as process:
        started = start_time(process.pid)
        process.kill()
        process.wait()
        return {"pid": process.pid, "started": started}


# -- holding ---------------------------------------------------------------------------------------------------------


def test_file_names_its_owner_from_acquire_to_release(path: Path) -> None:
    lock = RunLock(path)
    lock.acquire()
    assert only_files(path, [path.name])
    owner = content(path)
    assert (owner["pid"], owner["nonce"]) == (os.getpid(), lock.nonce)
    assert owner["host"]
    assert owner["started"]
    lock.release()
    assert only_files(path, [])


def test_owner_beats(path: Path) -> None:
    lock = RunLock(path)
    lock.acquire()
    assert eventually(lambda: content(path)["beats"] >= 3, 20)
    assert content(path)["nonce"] == lock.nonce
    lock.release()
    assert not lock.lost


def test_lock_can_be_taken_again_after_release(path: Path) -> None:
    assert take(path)[1] == take(path)[1] == []


def test_each_lock_has_a_nonce_of_its_own(path: Path) -> None:
    assert len({RunLock(path).nonce for _ in range(100)}) == 100


def test_no_thread_outlives_the_lock(path: Path) -> None:
    before = threading.active_count()
    take(path)
    assert threading.active_count() == before


# -- living owners ---------------------------------------------------------------------------------------------------


def test_second_controller_is_refused_while_the_first_lives(path: Path) -> None:
    with python(HOLDER, path) as holder:
        nonce = line(holder)
        for _ in range(3):
            with pytest.raises(InputError, match=f"process {holder.pid} on ") as refused:
                RunLock(path, PATIENCE).acquire()
        assert "stop it" in str(refused.value)
        assert content(path)["nonce"] == nonce
        assert holder.poll() is None
        holder.communicate()
    assert only_files(path, [])


def test_second_lock_in_one_process_is_refused(path: Path) -> None:
    first = RunLock(path)
    first.acquire()
    with pytest.raises(InputError, match="another controller leads this run"):
        RunLock(path).acquire()
    first.release()


def test_a_refused_lock_leaves_the_owners_file(path: Path) -> None:
    leave(path)
    second = RunLock(path)
    with pytest.raises(InputError):
        second.acquire()
    second.release()
    assert only_files(path, [path.name])


def test_owner_on_another_host_that_beats_is_refused(path: Path) -> None:
    leave(path, host="elsewhere")
    stop = threading.Event()

    def beat() -> None:
        beats = 3
        while not stop.wait(PATIENCE / 4):
            beats += 1
            draft = path.with_name("draft")
            leave(draft, host="elsewhere", beats=beats)
            draft.replace(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(InputError, match="on elsewhere"):
            RunLock(path, 20 * PATIENCE).acquire()
    finally:
        stop.set()
        thread.join()
    assert content(path)["host"] == "elsewhere"


# -- dead owners -----------------------------------------------------------------------------------------------------


def test_killed_owner_is_replaced_at_once(path: Path) -> None:
    with python(HOLDER, path) as holder:
        line(holder)
        holder.kill()
        holder.wait()
        seconds, said = take(path, patience=60)
    assert seconds < 10
    assert said == []


def test_zombie_owner_counts_as_dead(path: Path) -> None:
    with python(HOLDER, path) as holder:
        line(holder)
        holder.kill()
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{holder.pid}/stat").exists()
        assert take(path, patience=60)[0] < 10


def test_stopped_owner_counts_as_alive(path: Path) -> None:
    """It may go on at any time, and its trials run; only its user can decide."""
    with python(HOLDER, path) as holder:
        line(holder)
        subprocess.run(["kill", "-STOP", str(holder.pid)], check=True)
        with pytest.raises(InputError):
            RunLock(path, PATIENCE).acquire()


def test_recycled_process_id_is_not_the_owner(path: Path) -> None:
    leave(path, started="1")
    assert take(path, patience=60)[0] < 10


def test_process_of_another_namespace_cannot_be_judged_by_its_id(path: Path) -> None:
    leave(path, namespace="another boot", pid=killed_process()["pid"])
    seconds, _ = take(path)
    assert seconds >= PATIENCE


def test_silent_owner_on_another_host_is_replaced_after_the_patience(path: Path) -> None:
    leave(path, host="elsewhere", pid=4321)
    seconds, said = take(path)
    assert seconds >= PATIENCE
    (text,) = said
    assert "process 4321 on elsewhere" in text
    assert f"{PATIENCE:g} s" in text


GARBAGE = {
    "empty": b"",
    "torn": b'{"host": "node1", "pid": 12',
    "binary": b"\xff\xfe\0\x01",
    "list": b"[]",
    "null": b"null",
    "number": b"5",
    "text": b'"node1"',
    "empty object": b"{}",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_unreadable_file_is_replaced_after_the_patience(path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    seconds, said = take(path)
    assert seconds >= PATIENCE
    assert len(said) == 1


@pytest.mark.parametrize("change", [{"pid": None}, {"pid": "x"}, {"pid": -1}, {"started": None}, {"pid": 10**30}])
def test_file_with_an_impossible_owner_is_replaced(path: Path, change: dict[str, Any]) -> None:
    leave(path, **change)
    take(path)


def test_file_without_a_process_id_is_replaced(path: Path) -> None:
    owner = leave(path)
    del owner["pid"]
    path.write_text(json.dumps(owner))
    take(path)


# -- races -----------------------------------------------------------------------------------------------------------

ROUNDS = 20


def race(newcomers: list[subprocess.Popen[str]], path: Path) -> None:
    for newcomer in newcomers:
        tell(newcomer, f"{time.time() + 0.05} {path}")
    answers = [line(newcomer).split() for newcomer in newcomers]
    assert sorted(answer[0] for answer in answers) == ["refused"] * (len(newcomers) - 1) + ["won"], answers
    (nonce,) = (answer[1] for answer in answers if answer[0] == "won")
    assert content(path)["nonce"] == nonce
    for newcomer in newcomers:
        tell(newcomer, "release")
    assert {line(newcomer) for newcomer in newcomers} == {"released"}
    assert only_files(path, [])


@pytest.mark.parametrize("stale", ["dead owner", "no owner"])
def test_one_of_two_newcomers_wins(tmp_path: Path, stale: str) -> None:
    dead = killed_process()
    with python(NEWCOMER) as first, python(NEWCOMER) as second:
        for number in range(ROUNDS):
            directory = tmp_path / str(number)
            directory.mkdir()
            if stale == "dead owner":
                leave(directory / "lock", **dead)
            race([first, second], directory / "lock")


def test_one_of_two_newcomers_wins_the_place_of_a_silent_owner(tmp_path: Path) -> None:
    with python(NEWCOMER) as first, python(NEWCOMER) as second:
        for number in range(3):
            directory = tmp_path / str(number)
            directory.mkdir()
            leave(directory / "lock", host="elsewhere")
            race([first, second], directory / "lock")


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems have no hard links."""

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("links")
def test_lock_needs_no_hard_links(path: Path) -> None:
    leave(path, **killed_process())
    assert take(path, patience=60)[1] == []
    first = RunLock(path)
    first.acquire()
    with pytest.raises(InputError):
        RunLock(path).acquire()
    assert content(path)["nonce"] == first.nonce
    first.release()
    assert only_files(path, [])


@pytest.mark.usefixtures("links")
def test_a_newcomer_that_was_slower_leaves_the_faster_ones_file(path: Path) -> None:
    """Two newcomers saw one dead owner; the faster one has already replaced it."""
    faster = leave(path)
    assert not RunLock(path)._take_over({"nonce": "of the dead"})
    assert content(path) == faster
    assert only_files(path, [path.name])


def test_one_of_eight_newcomers_wins(tmp_path: Path) -> None:
    dead = killed_process()
    with contextlib.ExitStack() as stack:
        newcomers = [stack.enter_context(python(NEWCOMER)) for _ in range(8)]
        for number in range(ROUNDS):
            directory = tmp_path / str(number)
            directory.mkdir()
            leave(directory / "lock", **dead)
            race(newcomers, directory / "lock")


# -- losing ----------------------------------------------------------------------------------------------------------


def test_taking_over_is_noticed_by_the_old_owner(path: Path) -> None:
    lock = RunLock(path)
    lock.acquire()
    newcomer = leave(path, pid=77, host="elsewhere")
    assert eventually(lambda: lock.lost != "", 20)
    assert lock.lost == "process 77 on elsewhere took the run over"
    lock.release()
    assert content(path) == newcomer


def test_a_removed_file_is_noticed(path: Path) -> None:
    lock = RunLock(path)
    lock.acquire()
    path.unlink()
    assert eventually(lambda: lock.lost != "", 20)
    assert "gone" in lock.lost
    lock.release()
    assert only_files(path, [])


def test_an_unreadable_file_is_written_anew_by_its_owner(path: Path) -> None:
    lock = RunLock(path)
    lock.acquire()
    path.write_text("")
    assert eventually(lambda: path.read_text() != "" and content(path)["nonce"] == lock.nonce, 20)
    assert not lock.lost
    lock.release()


# -- a full disk -----------------------------------------------------------------------------------------------------

# A limit on the size of files stands for the full disk. With it, a new file cannot be written.
FULL_DISK = """
import resource, sys, time
from pathlib import Path
from workflow import lock
from workflow.errors import SiteError
lock.BEAT = 0.05
held = lock.RunLock(Path(sys.argv[1]))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
if sys.argv[2] == "before":
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        held.acquire()
    except SiteError as error:
        print(error)
    sys.exit()
held.acquire()
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
time.sleep(0.5)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
time.sleep(0.5)
print("lost" if held.lost else "kept", held.nonce in held.path.read_text())
held.release()
"""


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def test_full_disk_at_the_start_is_a_site_error(path: Path) -> None:
    assert f"{path}: cannot be written (" in run(FULL_DISK, path, "before")
    assert only_files(path, [])


def test_full_disk_for_a_while_does_not_lose_the_run(path: Path) -> None:
    assert run(FULL_DISK, path, "later") == "kept True\n"
    assert only_files(path, [])


def test_beats_go_on_in_place_where_no_new_file_can_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = RunLock(path)
    lock.acquire()

    def no_space(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    seen = content(path)["beats"]
    assert eventually(lambda: readable(path).get("beats", 0) > seen + 2, 20)
    lock.release()
    assert not lock.lost
    assert only_files(path, [])


def readable(path: Path) -> dict[str, Any]:
    """A file that is overwritten in place may be read half."""
    try:
        return content(path)
    except ValueError:
        return {}


def test_a_directory_in_its_place_is_a_site_error(path: Path) -> None:
    path.mkdir()
    with pytest.raises(SiteError, match="cannot be written"):
        RunLock(path, patience=0.5).acquire()


def test_a_link_to_itself_is_replaced(path: Path) -> None:
    path.symlink_to(path)
    lock = RunLock(path, patience=0.5)
    lock.acquire()
    lock.release()
    assert not path.is_symlink()


def test_directory_that_is_not_there_is_a_site_error(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="cannot be written"):
        RunLock(tmp_path / "nowhere" / "lock").acquire()
