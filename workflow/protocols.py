"""What a campaign needs of what runs its stages, and what that needs of the place where they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from workflow.durations import Expectation
from workflow.rundir import RunDir
from workflow.stages import StageName
from workflow.state import Inputs, Record
from workflow.trial import Outcome, Trial
from workflow.worker import contract


class Runner(Protocol):
    """What runs stages; ``runner`` has it, and tests' stand-ins.

    Futures never fail on the model's account: that is an outcome.
    """

    # -- what there is

    @property
    def in_flight(self) -> int:
        """How many trials to keep submitted at a time."""

    @property
    def node_count(self) -> int:
        """How many nodes there can be at a time."""

    @property
    def has_ends(self) -> bool:
        """Whether workers go after a time, so that it counts how long a training takes."""

    @property
    def in_allocation(self) -> bool:
        """Whether the controller ends with its workers, so that there are no others to wait for."""

    @property
    def keeps_checkpoints(self) -> bool:
        """Whether a training that was cut off may go on where it was."""

    # -- stages

    def preprocess(self, attempt: int) -> Future[Outcome]:
        """Its attempts are of NO_TRIAL."""

    def prepared(self, attempt: int) -> None:
        """Train on what this attempt of preprocess has written: comes before ``train``, where there is that stage."""

    def train(self, trial: Trial, attempt: int, avoid: frozenset[str], expected: Expectation | None) -> Future[Outcome]:
        """A training that shall not run on the hosts to be avoided, and will take as long as expected at most."""

    def infer(self, winner: Trial, trained: Outcome, attempt: int) -> Future[Outcome]:
        """Inference with the model that the winner's training, of that outcome, has left."""

    # -- what runs

    def intermediate(self) -> Iterable[tuple[int, Sequence[tuple[int, float]]]]:
        """What running trainings have told since the last call: their ids, and for each (step, value) of the objective.

        The next call has nothing before the caller's work on this one has become a small part of the time.
        """

    def stop_early(self, trial_id: int, why: str) -> None:
        """Ask a running training to stop; its outcome comes as ``stopped``, or as it is if it ends by itself before."""

    def hold(self) -> None:
        """Keep what was submitted and hasn't begun from beginning; its outcome comes as ``deferred``."""

    def stop(self) -> None:
        """Ask everything that runs to stop; outcomes come as ``lost``."""

    def shun(self, host: str) -> None:
        """Send nothing to this node any more."""

    # -- why it may have to end

    def failure(self) -> str:
        """Why no further stage can run; empty while it works."""

    def out_of_time(self) -> str:
        """Why the controller itself has to end now; empty while it need not."""

    def image_change(self) -> str:
        """What has happened to the image since this controller's start; empty while it is the same."""

    # -- what there was before

    def attempts(self, stage: StageName) -> Iterable[tuple[int, int]]:
        """All attempts (trial id, attempt) of which there is a trace on the disk."""

    def recover(self, stage: StageName, attempts: Iterable[tuple[int, int]]) -> list[Outcome]:
        """Final outcomes that earlier attempts have left, once they have all ended."""

    def inputs(self, record: Record) -> Inputs:
        """What decides about trainings, by the record of this controller's start. After ``prepared``."""

    def recall(self, trial: Trial) -> Outcome | None:
        """An earlier run's outcome for this trial, where the user asked for that. After ``inputs``."""

    @property
    def notes(self) -> list[str]:
        """What the user should know about earlier runs. After ``inputs``."""

    def log_tail(self, outcome: Outcome) -> str:
        """The end of the log of a trial's attempt and where it lies, for a message."""


class Backend(Protocol):
    """Where commands of stages run: ``cluster.backend`` and ``globus.backend`` have it.

    An attempt is known by its directory on this machine; what its supervisor leaves comes to lie there. More stages are
    sent than there are workers: the queue is the backend's. It starts a supervisor as ``cluster.apps.command_line`` has
    it, from a thread that outlives it (the kernel ends it with its parent), and shows it its GPUs, by the site's mask
    or as ``worker.pool`` does by ``contract.BLOCK``.
    """

    @property
    def there(self) -> RunDir:
        """The run as workers see it."""

    def open(self) -> None:
        """Begin, on the main thread. Raises SiteError; ``close`` is due all the same."""

    def close(self, wait: Callable[[], bool]) -> None:
        """End all that can be ended. What was asked to stop has its time for that, as long as ``wait`` says so."""

    # -- stages

    def order(self, spec: contract.Spec) -> Any:
        """What ``send`` takes of a stage. Raises InputError for one that cannot be sent."""

    def send(self, order: Any, directory: Path) -> Future[Any]:
        """Send a stage off; once the future is done, what there is of its result is in the directory."""

    def reason(self, directory: Path, error: BaseException) -> str:
        """Why a stage has left no result, by the error of its future."""

    def fetch(self, directories: Iterable[Path]) -> None:
        """Bring here what earlier attempts have left, where that is on another disk."""

    # -- what runs

    def ask_to_stop(self, directory: Path, why: str = "") -> None:
        """As ``attempt.ask_to_stop``; nothing where what runs cannot be reached."""

    def remains(self, running: int) -> str:
        """What may go on after the end, at which so many stages ran, for the user; empty if nothing can."""

    # -- workers

    def note(self, result: Mapping[str, Any], submitted: float) -> None:
        """Take what a stage's result tells of its worker; it was sent at ``submitted``, in seconds since the epoch."""

    def shun(self, host: str) -> None:
        """Send nothing to this node any more, as far as that can be told."""

    def failure(self) -> str:
        """Why no further stage can run; empty while it works."""

    @property
    def no_trial_fits(self) -> str:
        """Why none fits into the workers' time, as far as results tell; empty as long as trials may."""

    def trouble(self, directory: Path) -> str:
        """Why no stage can run where this one did, as on a full disk there; empty if there is no reason."""
