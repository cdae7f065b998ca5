"""Looks at runs from outside, by their files alone: nothing is locked, repaired or written."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from workflow.errors import InputError
from workflow.journal import Follower, unreadable
from workflow.lock import Owner, owners
from workflow.report.attempts import Attempts
from workflow.report.snapshot import Snapshot, Surroundings, snapshot
from workflow.report.tally import Tally, decode
from workflow.rundir import RunDir, why_no_run
from workflow.trial import Params

_REMEDY = "give the directory of a run, such as runs/NAME"


class Watch:
    """Looks at one run, again and again if need be. Raises InputError for what is no run."""

    def __init__(self, path: Path) -> None:
        self.run = RunDir(path)
        if reason := why_no_run(path):
            raise InputError(f"{path}: {reason}\n    -> {_REMEDY}")
        self._follower = Follower(self.run.journal, Tally, decode)
        self._attempts = Attempts(self.run)
        self._params: dict[int, Params] = {}

    def look(self) -> Snapshot:
        """As it stands now. Raises InputError if it cannot be read."""
        (owner,) = owners([self.run.lock])
        return self.led_by(owner)

    def led_by(self, owner: Owner | None) -> Snapshot:
        """The same, with who stands in its lock file: to be read before the journal, which has the end by then."""
        tally, now, alive = self._tally(), time.time(), owner is not None and owner.alive
        signs, words = self._attempts.look(tally, now) if alive else ({}, {})
        around = Surroundings(
            self.run.name, str(self.run.path), now, alive, self.run.resume_command, owner.name if owner else "", signs,
            words, self._follower.damaged,
        )  # fmt: skip
        return snapshot(tally, around, self._params_of)

    def _tally(self) -> Tally:
        try:
            tally = self._follower.look()
        except FileNotFoundError:
            return Tally()  # nothing has begun it yet
        except OSError as error:
            raise unreadable(self.run.journal, error) from error
        if self._follower.damaged and tally.began is None:
            raise InputError(f"{self.run.journal}: holds no valid record\n    -> {_REMEDY}")
        return tally

    def _params_of(self, trial: int) -> Params:
        if trial not in self._params:
            asked = self._follower.asked(trial)
            self._params[trial] = asked["trial"]["params"] if asked is not None else {}
        return self._params[trial]


def look_at_all(paths: Iterable[Path]) -> list[Snapshot | InputError]:
    """Each of several runs as it stands now, or why it cannot be read."""
    places = list(paths)
    found: list[Snapshot | InputError] = []
    for path, owner in zip(places, owners([RunDir(path).lock for path in places]), strict=True):
        try:
            found.append(Watch(path).led_by(owner))
        except InputError as error:
            found.append(error)
    return found
