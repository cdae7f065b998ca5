"""The journal: one append-only file of JSON lines that holds the whole state of a campaign (``State``).

A line is a record (``workflow.state`` lists them) with the time (``at``, seconds since the epoch) and a check sum
(``crc``, CRC-32 of the line before it), so that a flipped bit is noticed. One process writes (``Journal``), and every
append is flushed and fsynced; others may read meanwhile (``Follower``).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from workflow.disk import disk_remedy
from workflow.errors import InputError, SiteError
from workflow.state import Record, State
from workflow.trial import Outcome

VERSION = 1

_LONGEST = 120
"""Characters of a value in a message."""


class Journal:
    """An open journal. ``state`` follows every append; ``notes`` say what was repaired when it was opened.

    >>> from tempfile import TemporaryDirectory
    >>> directory = TemporaryDirectory()
    >>> journal = Journal(Path(directory.name, "journal.jsonl"))
    >>> journal.append(campaign_record({"search": {"seed": 1}}, {"host": "here"}))
    >>> journal.append({"type": "shunned", "host": "node7", "reason": "three trials failed there alone"})
    >>> journal.close()
    >>> again = Journal(journal.path)
    >>> again.state.shunned, again.state == journal.state
    ({'node7': 'three trials failed there alone'}, True)
    >>> again.close()
    >>> directory.cleanup()
    """

    def __init__(
        self, path: Path, hear: Callable[[Record], None] = lambda record: None, lost: Callable[[], str] = lambda: ""
    ) -> None:
        """Open or create ``path``, replay it, and repair a torn end.

        ``hear`` is called with each valid record, those of the past included. ``lost`` tells why the run no longer is
        this process's, empty while it is. Raises InputError for a journal of a newer version.
        """
        self.path = path
        self.hear = hear
        self.lost = lost
        self.state = State()
        self.notes: list[str] = []
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._replay(_read_all(self._file))

    def append(self, *records: Mapping[str, Any]) -> None:
        """Write records to the disk, then fold them in.

        Raises SiteError if the disk takes them not, or the run is another controller's by now; the journal is then as
        it was before, or has a torn end where the disk doesn't take that back either.
        """
        now = time.time()
        lines = [_seal({"type": record["type"], "at": now, **record}) for record in records]
        data = b"".join(lines)
        try:
            self._write(data)
        except OSError as error:
            raise SiteError(
                f"{self.path}: cannot be written ({error.strerror}); nothing is lost: {disk_remedy(error)}, then resume"
            ) from error
        for line in lines:
            record = json.loads(line)
            self.state.apply(record)
            self.hear(record)

    def close(self) -> None:
        """Nothing is lost without it: every record is on the disk once ``append`` returns."""
        os.close(self._file)

    def _write(self, data: bytes) -> None:
        """All of it to the disk, or none if that can be taken back.

        Raises OSError, and SiteError if the file is gone or no longer this process's to write.
        """
        status = os.fstat(self._file)
        if not status.st_nlink or not self._is_in_place(status):
            raise SiteError(f"{self.path}: is gone: the run's directory was deleted or moved while it was led")
        if reason := self.lost():
            raise SiteError(reason)
        try:
            _write_all(self._file, data)
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):  # the next controller repairs the end
                os.ftruncate(self._file, status.st_size)
            raise

    def _is_in_place(self, status: os.stat_result) -> bool:
        try:
            return os.path.samestat(status, self.path.stat())
        except FileNotFoundError:
            return False
        except OSError:
            return True  # a file system's hiccup: the write will tell

    def _replay(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for number, line in enumerate(lines, start=1):
            if problem := self._take(line):
                self.notes.append(
                    f"{self.path}: line {number} is corrupt ({problem}) and was left out; what it held is taken from "
                    "the trials' result files or run again"
                )
        if not rest:
            return
        if self._take(rest) is None:
            _write_all(self._file, b"\n")
            self.notes.append(f"{self.path}: line {len(lines) + 1} lacked its end; it is complete and was kept")
        else:
            os.ftruncate(self._file, len(data) - len(rest))
            self.notes.append(
                f"{self.path}: line {len(lines) + 1} was torn in mid-write ({len(rest)} bytes) and was removed; what "
                "it held is taken from the trials' result files or run again"
            )
        os.fsync(self._file)

    def _take(self, line: bytes) -> str | None:
        """Fold one line in; why not, if it cannot be."""
        try:
            record = _fold_line(self.state, line)
        except _Corrupt as error:
            return str(error)
        except _OtherVersion as error:
            os.close(self._file)
            raise _unreadable_version(self.path, error) from error
        self.hear(record)
        return None


class Fold(Protocol):
    """What records are folded into, one after the other."""

    def apply(self, record: Record) -> None: ...


_F = TypeVar("_F", bound=Fold)


class Follower(Generic[_F]):
    """What a journal comes to that somebody else may be writing: ``fold``, by each ``look``.

    Nothing is locked, repaired or written; ``damaged`` lines, which hold no valid record, are counted and left out.
    ``make`` makes an empty fold, anew where the file is another one. ``decode`` may read of a line what the fold needs,
    if that is quicker than all of it; it raises ValueError.

    >>> from tempfile import TemporaryDirectory
    >>> directory = TemporaryDirectory()
    >>> journal = Journal(Path(directory.name, "journal.jsonl"))
    >>> follower = Follower(journal.path, State)
    >>> follower.look().shunned
    {}
    >>> journal.append({"type": "shunned", "host": "node7", "reason": "three trials failed there alone"})
    >>> follower.look().shunned, follower.damaged
    ({'node7': 'three trials failed there alone'}, 0)
    >>> journal.close()
    >>> directory.cleanup()
    """

    def __init__(self, path: Path, make: Callable[[], _F], decode: Callable[[bytes], Any] = json.loads) -> None:
        self.path = path
        self._make = make
        self._decode = decode
        self._start(None)

    def look(self) -> _F:
        """Fold in what was appended since the last look. Raises OSError, and InputError for another version."""
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if self._file != (status.st_dev, status.st_ino) or status.st_size < self._offset:
                self._start((status.st_dev, status.st_ino))
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n") and not _is_sealed(line):  # it is being written, or was torn
                    break
                self._offset += len(line)
                self._take(line.removesuffix(b"\n"))
        return self.fold

    def asked(self, trial_id: int) -> Record | None:
        """The record by which a trial was asked for. Reads the file once more, so that no one has to keep them all."""
        mark = b'"trial":{"id":%d,' % trial_id
        with self.path.open("rb") as file:
            found = next((line for line in file if mark in line and _is_sealed(line.removesuffix(b"\n"))), None)
        return json.loads(found) if found is not None else None

    def _start(self, file: tuple[int, int] | None) -> None:
        self._file, self._offset = file, 0
        self.fold, self.damaged = self._make(), 0

    def _take(self, line: bytes) -> None:
        try:
            if line:
                _fold_line(self.fold, line, self._decode)
        except _OtherVersion as error:
            raise _unreadable_version(self.path, error) from error
        except _Corrupt:
            self.damaged += 1


class _OtherVersion(Exception):
    """A journal of a version that this program doesn't know."""


def _unreadable_version(path: Path, error: _OtherVersion) -> InputError:
    return InputError(
        f"{path}: has format version {error.args[0]!r}, this program reads {VERSION}\n"
        "    -> use the version of the program that began the run"
    )


def unreadable(path: Path, error: OSError) -> InputError:
    """What is said of a journal that is there, but cannot be read."""
    return InputError(f"{path}: cannot be read ({error.strerror})\n    -> check its permissions")


class _Corrupt(Exception):
    """A line that holds no record, and why."""


def damage(lines: int) -> str:
    """What is said of lines that a follower left out; empty if there are none."""
    if not lines:
        return ""
    return f"{lines} line{'s' if lines > 1 else ''} of its journal cannot be read and had to be left out"


def _fold_line(state: Fold, line: bytes, decode: Callable[[bytes], Any] = json.loads) -> Record:
    """Fold one line into a state. Raises _Corrupt or _OtherVersion."""
    try:
        record = decode(line)
    except (ValueError, RecursionError):
        raise _Corrupt("no JSON") from None
    if not isinstance(record, dict):
        raise _Corrupt("no record")
    if record.get("type") == "campaign" and record.get("version") != VERSION:
        raise _OtherVersion(record.get("version"))
    if not _is_sealed(line):
        raise _Corrupt("its check sum is wrong")
    try:
        state.apply(record)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _Corrupt(f"no valid record: {type(error).__name__} {error}") from error
    return record


def _seal(record: Mapping[str, Any]) -> bytes:
    """The line of a record: compact JSON of which the last key is the check sum of all before it."""
    body = json.dumps(record, separators=(",", ":")).encode()[:-1]
    return body + f',"crc":{zlib.crc32(body)}}}\n'.encode()


def _is_sealed(line: bytes) -> bool:
    body, _, crc = line.rpartition(b',"crc":')
    return crc == b"%d}" % zlib.crc32(body)


def outcome_record(outcome: Outcome) -> Record:
    return {"type": "outcome", "outcome": outcome.to_json()}


def stage_record(stage: str, outcome: Outcome) -> Record:
    """How an attempt of preprocess or infer ended."""
    return {"type": "stage", "stage": stage, "outcome": outcome.to_json()}


def campaign_record(fingerprint: Mapping[str, Any], about: Mapping[str, Any]) -> Record:
    """The first record of a journal: ``about`` says what the controller runs with, ``fingerprint`` what may not change.

    That is the definition of space, objective and search, of which ``differences`` tells what has changed.
    """
    return {"type": "campaign", "version": VERSION, "fingerprint": fingerprint, **about}


def differences(old: object, new: object, place: str = "") -> Iterable[str]:
    """Where two fingerprints differ, a line each: ``search.seed: 1 -> 2``.

    A switch of which an older run knew nothing was off.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
    elif old != new and not (old is None and new is False):
        yield f"{place}: {_short(old)} -> {_short(new)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
