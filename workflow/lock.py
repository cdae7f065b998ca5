"""One controller a run: a lock file with owner and beat.

The beat, not a file lock, tells a living owner from a dead one: it works over network file systems and across hosts,
and the supervisors of running trials read the same file to learn that their controller is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow.disk import disk_remedy
from workflow.errors import InputError, SiteError
from workflow.worker.processes import identity, is_alive

BEAT = 2.0
"""Seconds between two beats of a controller."""

PATIENCE = 20.0
"""Seconds without a beat after which a controller counts as dead."""

_LENGTH = 400
"""Characters of a lock file, padded so that every beat has the same length."""

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


class RunLock:
    """Held by the controller of a run from ``acquire`` to ``release``.

    ``nonce`` is in the file as long as this controller owns the run.
    """

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path = path
        self.patience = patience
        self.nonce = secrets.token_hex(8)
        self._beats = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = ""
        """Why the run no longer belongs to this controller; empty while it does."""

    def acquire(self, say: Callable[[str], None] = lambda text: None) -> None:
        """Take the run over, waiting for a silent owner's beat to become stale.

        Raises InputError while another controller lives.
        """
        while not self._create():
            owner = _read(self.path)
            if owner is not None and self._outwait(owner, say) and self._take_over(owner):
                break
        self._thread = threading.Thread(target=self._beat_for_ever, name="run-lock", daemon=True)
        self._thread.start()

    def check(self) -> str:
        """Why the run no longer belongs to this controller that holds it, by its file; empty while it does."""
        owner = _read(self.path)
        if self._thread is not None and (owner is None or (owner and owner.get("nonce") != self.nonce)):
            gone = f"{self.path} is gone: its run was deleted or moved, or another controller has led it since"
            self.lost = gone if owner is None else f"{_named(owner)} took the run over"
        return self.lost

    def release(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if not self.lost and (owner := _read(self.path)) is not None and owner.get("nonce") == self.nonce:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _create(self) -> bool:
        """Appear with full content at once: a link to a finished file, which fails if the name is taken.

        A file system without hard links gets an exclusive file, of which a reader may see the empty beginning.
        """
        draft = self.path.with_name(f".{self.path.name}.{self.nonce}")
        try:
            draft.write_text(self._content())
            try:
                os.link(draft, self.path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with self.path.open("x") as file:
                    file.write(self._content())
        except FileExistsError:
            return False
        except OSError as error:
            raise self._unusable(error) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        return True

    def _unusable(self, error: OSError) -> SiteError:
        return SiteError(f"{self.path}: cannot be written ({error.strerror}); {disk_remedy(error)}, then resume")

    def _content(self) -> str:
        text = json.dumps({**identity(os.getpid()), "nonce": self.nonce, "beats": self._beats})
        return text.ljust(_LENGTH) + "\n"

    def _outwait(self, owner: dict[str, Any], say: Callable[[str], None]) -> bool:
        """True once the owner is known to be dead; False if its file went away by itself."""
        alive = is_alive(owner)
        if alive is True:
            self._refuse(owner)
        if alive is False:
            return True
        say(f"the run was last led by {_named(owner)}, waiting {self.patience:g} s for a sign of life")
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            time.sleep(min(1.0, self.patience / 10))
            now = _read(self.path)
            if now is None:
                return False
            if now != owner:
                self._refuse(now)
        return True

    def _refuse(self, owner: dict[str, Any]) -> None:
        raise InputError(
            f"{self.path}: another controller leads this run: {_named(owner)}\n"
            "    -> wait until it ends, or stop it (kill) and try again"
        )

    def _take_over(self, owner: dict[str, Any]) -> bool:
        """Replace the dead owner's file by one's own, unless another newcomer was faster."""
        with _queue_at(self.path):
            if _read(self.path) != owner:
                return False
            try:
                self.path.unlink()
            except OSError as error:
                raise self._unusable(error) from error
            return self._create()

    def _beat_for_ever(self) -> None:
        while not self._stop.wait(BEAT):
            if self.check():
                return
            self._beats += 1
            draft = self.path.with_name(f".{self.path.name}.{self.nonce}")
            try:
                draft.write_text(self._content())
                draft.replace(self.path)
            except OSError:
                # A full disk: overwriting in place, at the same length, needs no new block.
                with contextlib.suppress(OSError):
                    draft.unlink()
                with contextlib.suppress(OSError), self.path.open("r+") as file:
                    file.write(self._content())


@dataclass(frozen=True)
class Owner:
    """Who stands in a lock file, in words, and whether it lives."""

    name: str
    alive: bool


def leader(path: Path) -> str:
    """Who leads the run with this lock file now; empty if nobody does.

    Of a controller on another host a beat is waited for, which may take some seconds.
    """
    (owner,) = _look([path], lambda path: False)
    return owner.name if owner is not None and owner.alive else ""


def owners(paths: Sequence[Path]) -> list[Owner | None]:
    """Who stands in each of these lock files, to be shown; None where there is no such file.

    A controller on another host counts as living by the time of its last beat. Where that is long ago, by this
    machine's clock, a beat is waited for, which takes some seconds for all of them together.
    """
    return _look(paths, _has_beaten_lately)


def _look(paths: Sequence[Path], is_sure: Callable[[Path], bool]) -> list[Owner | None]:
    """``is_sure`` tells the files of other hosts whose controllers live in any case."""
    found = [_read(path) for path in paths]
    alive = [is_alive(owner) if owner else False for owner in found]
    doubtful = [n for n, path in enumerate(paths) if alive[n] is None and not is_sure(path)]
    if doubtful:
        time.sleep(2 * BEAT + 1)
    still = {n for n in doubtful if _read(paths[n]) in (found[n], None)}
    return [
        None if owner is None else Owner(_named(owner), alive[n] is not False and n not in still)
        for n, owner in enumerate(found)
    ]


def _has_beaten_lately(path: Path) -> bool:
    try:
        return abs(time.time() - path.stat().st_mtime) < PATIENCE
    except OSError:
        return False


@contextlib.contextmanager
def _queue_at(path: Path) -> Iterator[None]:
    """One newcomer at a time at a dead owner's file, where the file system has locks; others wait a moment at most."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file = stack.enter_context(path.open("r+"))
            for _ in range(50):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.1)
                except OSError:
                    break
        yield


def _read(path: Path) -> dict[str, Any] | None:
    """The owner that a lock file names; None if there is no such file."""
    try:
        return _parse(path.read_text(errors="replace"))
    except FileNotFoundError:
        return None
    except OSError:
        return {}


def _parse(text: str) -> dict[str, Any]:
    """The owner that a lock file names; empty for one that is torn or foreign."""
    try:
        owner = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _named(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"
