"""A stand-in for the Globus Compute service: tasks and results are files of a spool directory.

The SDK's own client, executor, batches and serializers run on one side of it, ``endpoint.py`` on the other. Left out
are HTTP, authentication and the result queue (AMQP).
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import globus_sdk
import requests
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed


@dataclass
class Answer:
    data: dict[str, Any]


def api_error(status: int, message: str) -> globus_sdk.GlobusAPIError:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"code": "ERROR", "message": message}).encode()
    response.headers["Content-Type"] = "application/json"
    response.request = requests.Request("GET", "https://compute.api.globus.org").prepare()
    return globus_sdk.GlobusAPIError(response)


@dataclass
class Service:
    """What the client asks of the web service. ``refusal`` is (status, message) of what it answers instead.

    It refuses the status of the endpoint, or, with ``refuse_after``, submissions beyond so many.
    """

    spool: Path
    refusal: tuple[int, str] | None = None
    refuse_after: int | None = None
    status: str = "online"
    functions: dict[str, str] = field(default_factory=dict)
    submissions: int = 0
    tasks: int = 0

    def get_version(self, **_: object) -> dict[str, str]:
        return {"min_ep_version": "1.0.0", "min_sdk_version": "1.0.0"}

    def get_endpoint_status(self, endpoint: str) -> Answer:
        if self.refusal and self.refuse_after is None:
            raise api_error(*self.refusal)
        return Answer({"status": self.status})

    def register_function(self, data: dict[str, Any]) -> Answer:
        name = str(uuid.uuid4())
        self.functions[name] = data["function_code"]
        return Answer({"function_uuid": name})

    def submit(self, endpoint: str, data: dict[str, Any]) -> Answer:
        if self.refusal and self.refuse_after is not None and self.submissions >= self.refuse_after:
            raise api_error(*self.refusal)
        self.submissions += 1
        given = {name: [self._put(name, payload, data) for payload in tasks] for name, tasks in data["tasks"].items()}
        with (self.spool / "submissions").open("a") as file:
            file.write(f"{time.time()} {sum(map(len, given.values()))} {len(self.functions)}\n")
        group = data.get("task_group_id") or str(uuid.uuid4())
        ids = {"request_id": str(uuid.uuid4()), "endpoint_id": str(endpoint), "task_group_id": group}
        return Answer({"tasks": given, **ids})

    def _put(self, function: str, payload: str, data: dict[str, Any]) -> str:
        name = str(uuid.uuid4())
        task = {"id": name, "function": self.functions[function], "payload": payload}
        task |= {"result_serializers": data.get("result_serializers"), "number": self.tasks}
        draft = self.spool / f".{name}"
        draft.write_text(json.dumps(task))
        draft.rename(self.spool / "tasks" / f"{self.tasks:06d}.json")
        self.tasks += 1
        return name


def client(service: Service) -> Client:
    """The SDK's client on the stand-in."""
    authorizer = globus_sdk.AccessTokenAuthorizer("none")
    found = Client(environment="local", authorizer=authorizer, do_version_check=False)
    found._compute_web_client.v2 = found._compute_web_client.v3 = service
    return found


class Watcher(threading.Thread):
    """Brings results from the spool to the executor's futures, as the SDK's watcher does from its queue."""

    ShuttingDownError = RuntimeError

    def __init__(self, spool: Path, client: Client) -> None:
        super().__init__(daemon=True)
        self.results = spool / "results"
        self.client = client
        self.open: dict[str, Any] = {}
        self.closed = threading.Event()

    def watch_for_task_results(self, executor: Executor, futures: list[Any]) -> int:
        self.open |= {future.task_id: future for future in futures}
        return len(futures)

    def run(self) -> None:
        while not self.closed.wait(0.05):
            for name in list(self.open):
                if (path := self.results / f"{name}.json").exists():
                    self._finish(self.open.pop(name), json.loads(path.read_text()))

    def _finish(self, future: Any, result: dict[str, Any]) -> None:
        if result["is_error"]:
            future.set_exception(TaskExecutionFailed(result["data"]))
        else:
            future.set_result(self.client.fx_serializer.deserialize(result["data"]))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.closed.set()
        while cancel_futures and self.open:
            _, future = self.open.popitem()
            future.cancel()
            future.set_running_or_notify_cancel()


class SpoolExecutor(Executor):
    """The SDK's executor, with results from the spool."""

    def _get_result_watcher(self) -> Watcher:
        if not hasattr(self, "_watcher"):
            self._watcher = Watcher(self.client._compute_web_client.v3.spool, self.client)
            self._watcher.start()
        return self._watcher
