"""Sites behind Globus Compute: stages as tasks of an endpoint that shares no file system with this machine.

A task carries the text of ``remote`` and of the supervisor, and brings the stage's result and the end of its log back;
here they are written to where a shared disk would have them, so that all that follows is the same. What this machine
cannot do there is look: a future that never ends is given up at its deadline, and nothing that runs can be stopped.

The tests run the SDK's real executor, client and serializers against a stand-in for the service and the endpoint.
They don't cover the service itself: registration, authentication, its result queue (AMQP), a real endpoint, and one
with another version of Python.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from globus_compute_sdk import Executor
from globus_compute_sdk.errors import TaskExecutionFailed
from parsl import python_app
from parsl.config import Config
from parsl.executors import GlobusComputeExecutor

from workflow import supervise
from workflow.cluster.apps import check_length
from workflow.cluster.executors import LABEL, config_of
from workflow.cluster.kernel import Kernel
from workflow.disk import make_directory, write_text
from workflow.errors import printable
from workflow.globus import remote
from workflow.globus.endpoint import Endpoint
from workflow.globus.service import connect
from workflow.rundir import RunDir
from workflow.worker import contract

_TICK = 0.5
_LAST_WORDS = 3.0
"""Seconds for a client that has stopped to say why."""

_MARGIN = 30.0
"""Seconds that a result may take from the endpoint to here."""

_COURIERS = 32
"""Threads that write down what comes back."""

_LOOK_TIMEOUT = 600.0
_LOOKS = 32
"""Attempts of one question; with their logs they stay below what an answer may hold."""


def stage_app(source: str, name: str, argument: dict[str, object]) -> object:
    """Call a function of ``source``, the module ``remote``, where this one is: it travels as its text."""
    import types

    module = types.ModuleType("stage")
    exec(compile(source, "remote.py", "exec"), module.__dict__)
    return getattr(module, name)(argument)


def supervisor_files() -> dict[str, str]:
    """What an endpoint needs to run a supervisor: the texts of its files by their paths."""
    package = Path(supervise.__file__).parent
    files = [package / "supervise.py", *sorted(package.glob("worker/*.py"))]
    return {"workflow/__init__.py": "", **{str(path.relative_to(package.parent)): path.read_text() for path in files}}


def _is_reply(answer: object) -> bool:
    return isinstance(answer, dict) and answer.keys() >= remote.Reply.__annotations__.keys()


class NotDelivered(Exception):
    """An attempt of which no result came; the text is the evidence."""


class GlobusBackend:
    """A Globus Compute endpoint, as ``protocols.Backend`` says.

    ``own_data`` tells that stages expect to find the run's own data directory. An attempt counts as lost once its
    deadline has passed; a result that comes later is ignored.
    """

    def __init__(self, site_name: str, endpoint: Endpoint, run: RunDir, *, own_data: bool) -> None:
        self.endpoint = endpoint
        self.run = run
        self.there = endpoint.run(run)
        self._make = [str(self.there.data)] if own_data else []
        self._kernel = Kernel(site_name, run.parsl, packages=("parsl", "globus_compute_sdk"))
        self._couriers = ThreadPoolExecutor(_COURIERS, "courier")
        self._remote, self._supervisor = inspect.getsource(remote), supervisor_files()
        self._due: dict[Future[None], float] = {}
        """Deadlines of what is on its way, on the monotonic clock; who takes one out settles that future."""
        self._troubles: dict[Path, str] = {}
        self._last_error = ""
        self._executor: Executor | None = None
        self._closed = threading.Event()

    def open(self) -> None:
        if not self.run.token.exists():
            write_text(self.run.token, uuid.uuid4().hex)
        self._token = self.run.token.read_text(encoding="utf-8")
        flow = self._kernel.start(self._config)
        self._app: Callable[..., Future[Any]] = python_app(data_flow_kernel=flow, executors=[LABEL])(stage_app)
        threading.Thread(target=self._give_up, name="deadlines", daemon=True).start()

    def _config(self, directory: Path) -> Config:
        warnings.filterwarnings("ignore", module="globus_compute_sdk")  # of versions, which text and JSON don't mind
        self._executor = connect(self.endpoint)
        return config_of(GlobusComputeExecutor(self._executor, label=LABEL), directory)

    def close(self, wait: Callable[[], bool]) -> None:
        """What runs there was not told to stop: nothing is waited for."""
        self._closed.set()
        self._kernel.clean_up()
        if self._kernel.flow is None and self._executor is not None:  # a start that failed: Parsl has not ended it
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._couriers.shutdown(wait=False, cancel_futures=True)
        self._kernel.close()

    def remains(self, running: int) -> str:
        if not running:
            return ""
        what = f"up to {running} stages may still run or wait on endpoint {self.endpoint.id}"
        return f"{what}: they cannot be stopped from here and end by their timeouts; a resume runs them anew"

    def ask_to_stop(self, directory: Path, why: str = "") -> None:
        """Nothing: what was submitted cannot be taken back, and ends by its own timeout."""

    def note(self, result: Mapping[str, Any], submitted: float) -> None:
        """Nothing: its workers are the endpoint's own affair."""

    def shun(self, host: str) -> None:
        """Nothing: which worker gets a stage is the endpoint's own affair."""

    def failure(self) -> str:
        if self._executor is not None and self._executor._stopped:
            until = time.monotonic() + _LAST_WORDS
            while not self._last_error and self._due and time.monotonic() < until:
                time.sleep(0.05)  # it stops first, and then tells its futures why
            return f"Globus Compute takes no more tasks: {self._last_error or 'its client has stopped'}"
        return "" if self._kernel.flow is not None else "Parsl is not running"

    no_trial_fits = ""

    def fetch(self, directories: Iterable[Path]) -> None:
        """Look what has ended on the endpoint while no controller lived.

        One that doesn't answer soon counts as having nothing to tell: its trials run again. Raises SiteError where the
        disk here doesn't take what it tells.
        """
        unknown = [directory for directory in directories if not (directory / contract.RESULT).exists()]
        asked = [unknown[start : start + _LOOKS] for start in range(0, len(unknown), _LOOKS)]
        answers = [self._app(self._remote, "look", self._question(part)) for part in asked]
        until = time.monotonic() + min(self.endpoint.queue_timeout, _LOOK_TIMEOUT)
        for part, answer in zip(asked, answers, strict=True):
            replies: list[Any] = []
            with contextlib.suppress(Exception):  # of any kind: it is the task's, the SDK's or Parsl's
                replies = list(answer.result(max(0.0, until - time.monotonic())))
            for directory, reply in zip(part, replies, strict=False):
                self._adopt(directory, reply)

    def _question(self, directories: Iterable[Path]) -> remote.Question:
        there = [str(self.there.path / directory.relative_to(self.run.path)) for directory in directories]
        return {"run": str(self.there.path), "token": self._token, "directories": there}

    def _adopt(self, directory: Path, reply: Any) -> None:
        if _is_reply(reply) and reply["result"] is not None:
            make_directory(directory)
            self._keep(directory, {**reply, "trouble": ""})

    # -- one stage -----------------------------------------------------------------------------------------------

    def order(self, spec: contract.Spec) -> remote.Order:
        """Its times follow from the moment of this call, which is that of the submission."""
        spec = {**spec, "controller": None, "path_prefix": None}
        order: remote.Order = {
            "supervisor": self._supervisor,
            "spec": {**spec},
            "run": str(self.there.path),
            "token": self._token,
            "make": self._make,
            "start_by": time.time() + self.endpoint.queue_timeout,
        }
        check_length(spec["title"], json.dumps(spec))
        return order

    def send(self, order: remote.Order, directory: Path) -> Future[None]:
        spec, delivery = order["spec"], Future[None]()
        patience = self.endpoint.queue_timeout + spec["timeout"] + spec["grace"] + _MARGIN
        self._due[delivery] = time.monotonic() + patience

        def bring(done: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # they have gone home: nobody waits any more
                self._couriers.submit(self._deliver, delivery, directory, done)

        self._app(self._remote, "run", order).add_done_callback(bring)
        return delivery

    def _deliver(self, delivery: Future[None], directory: Path, done: Future[Any]) -> None:
        """Put what came back where a supervisor on a shared disk would have put it."""
        if self._due.pop(delivery, None) is None:
            return  # it counts as lost already
        try:
            self._keep(directory, done.result())
        except Exception as error:
            delivery.set_exception(NotDelivered(self._evidence(error)))
        else:
            delivery.set_result(None)

    def _keep(self, directory: Path, reply: Any) -> None:
        """Raises NotDelivered where there is no result, and SiteError where the disk here doesn't take it."""
        if not _is_reply(reply):
            raise NotDelivered(f"the endpoint answered {reply!r:.200}")
        if reply["trouble"]:
            self._troubles[directory] = f"endpoint {self.endpoint.id}, {reply['host']}: {reply['trouble']}"
        if reply["log"]:
            write_text(directory / contract.LOG, reply["log"])
        if reply["result"] is None:
            raise NotDelivered(f"on {reply['host']}: {reply['why']}")
        write_text(directory / contract.RESULT, json.dumps(reply["result"], indent=1))

    def trouble(self, directory: Path) -> str:
        return self._troubles.pop(directory, "")

    def reason(self, directory: Path, error: BaseException) -> str:
        return str(error)

    def _evidence(self, error: Exception) -> str:
        """One line of what went wrong with a task."""
        if isinstance(error, NotDelivered):
            return str(error)
        text = error.remote_data if isinstance(error, TaskExecutionFailed) else f"{type(error).__name__}: {error}"
        lines = [line for line in printable(text).splitlines() if line.strip()] or ["no reason was given"]
        said = lines[-1] if isinstance(error, TaskExecutionFailed) else " ".join(lines)
        said = " ".join(said.split())[:500]
        if not isinstance(error, CancelledError):  # which is what the others get once one has failed
            self._last_error = said
        return f"endpoint {self.endpoint.id}: {said}"

    def _give_up(self) -> None:
        """Let what is beyond its deadline count as lost; runs until the end."""
        while not self._closed.wait(_TICK):
            now = time.monotonic()
            for delivery, due in list(self._due.items()):
                if now >= due and self._due.pop(delivery, None) is not None:
                    wait = f"queue_timeout ({self.endpoint.queue_timeout:g} s) and its own timeout"
                    delivery.set_exception(NotDelivered(f"endpoint {self.endpoint.id}: no answer within {wait}"))
