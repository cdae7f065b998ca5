"""What controller and workers agree on: the order for a stage, the files of an attempt, the variables.

An attempt's directory holds ``COMMAND`` and ``LOG`` from its start, a ``HEARTBEAT`` while it is watched, and ``RESULT``
from its end on. ``STOP`` is the controller's: it asks the supervisor to end the stage.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost some milliseconds of every trial
    from collections.abc import Mapping, Sequence
    from typing import TypedDict

    class Controller(TypedDict):
        """Whom the trial belongs to: the lock file, its owner's nonce, and seconds until a still beat means death."""

        lock: str
        nonce: str
        patience: float

    class Masks(TypedDict):
        """The variable that shows a process its GPUs, those to unset beside it, and whether it counts them from 0."""

        mask: str
        unset: Sequence[str]
        renumbered: bool

    class Expected(TypedDict):
        """Seconds that a stage may take, and whether trainings have told so, not only the time-out."""

        seconds: float
        measured: bool

    class Spec(TypedDict):
        """What to run. Times are in seconds; ``gpu_index`` is the word of argv that becomes the GPU's number.

        ``avoid`` names hosts on which this stage shall not run: it hands the task back there, after ``avoid_delay``.
        ``expected`` is how long it may take: it is handed back where the block ends before. ``checkpoints`` is a
        directory that all attempts share, ``scratch`` one for temporary files, with variables of this host.
        """

        title: str
        trial: int
        attempt: int
        directory: str
        argv: Sequence[str]
        programs: Sequence[str]
        gpu_index: int | None
        gpu: Masks
        env: Mapping[str, str]
        unset: Sequence[str]
        path_prefix: str | None
        timeout: float | None
        stall_timeout: float | None
        avoid: Sequence[str]
        avoid_delay: float
        expected: Expected | None
        checkpoints: str | None
        scratch: str | None
        watch_gpus: bool
        grace: float
        poll: float
        controller: Controller | None


RESULT, LOG, COMMAND, ERRORS = "result.json", "model.log", "command.sh", "supervisor.log"
HEARTBEAT, STOP = ".workflow-heartbeat", ".workflow-stop"  # names that no model has for its own files

TOKEN = "WORKFLOW_ATTEMPT"
"""The variable by which what a stage has started is found again if its supervisor is killed."""

BLOCK = "WORKFLOW_BLOCK"
"""The variable in which a node's pool (``pool``) tells its workers' stages of GPUs and the end of the block."""

EXIT_FENCED = 76
"""The controller that sent this trial is gone: nothing was started and nothing written."""

BLOCK_ENDS = "its block ends"

NOT_STARTED = "stopped before it started"
"""How a result begins of a stage that was handed back."""

HOPELESS = "hopeless: "
"""What comes before the reason that a stop file holds, which tells a trial that was stopped early."""
