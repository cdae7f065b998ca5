"""A stand-in for a Globus Compute endpoint: ``endpoint.py SPOOL WORKERS`` runs the tasks of a spool directory.

Each task runs in a Python process of its own (``endpoint.py --worker TASK RESULT``), which cannot import this
repository. Worker N sees GPU ``gpu-N``. ``SPOOL/faults.json`` maps numbers of tasks to what goes wrong with them:
a path (the worker is killed once it exists), ``never`` (no result), or seconds by which the result is late.

It is started with ``python -I`` from a copy, since the repository is hidden from it.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from importlib.abc import MetaPathFinder
from pathlib import Path

LOST = """Traceback (most recent call last):
  File "parsl/executors/high_throughput/executor.py", line 1, in submit
parsl.executors.high_throughput.errors.WorkerLost: Task failure due to loss of worker {0} on host node-7
"""


def serve(spool: Path, workers: int) -> None:
    lock = threading.Lock()
    threads = [threading.Thread(target=_work, args=(spool, lock, n)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _work(spool: Path, lock: threading.Lock, number: int) -> None:
    while not (spool / "stop").exists():
        task = _next(spool, lock)
        if task is None:
            time.sleep(0.05)
        else:
            _run(spool, task, number)


def _next(spool: Path, lock: threading.Lock) -> Path | None:
    with lock:
        for path in sorted((spool / "tasks").glob("*.json")):
            return path.rename(path.with_suffix(".taken"))
    return None


def _run(spool: Path, path: Path, number: int) -> None:
    task = json.loads(path.read_text())
    fault = json.loads((spool / "faults.json").read_text()).get(str(task["number"]))
    draft = spool / f".{task['id']}.result"
    command = [sys.executable, "-I", __file__, "--worker", str(path), str(draft)]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": f"gpu-{number}"}
    process = subprocess.Popen(command, cwd="/", env=env, stdin=subprocess.DEVNULL)
    killed = str(fault).startswith("/")
    while killed and process.poll() is None:
        if Path(fault).exists():
            process.kill()
        time.sleep(0.02)
    process.wait()
    if killed or not draft.exists():
        draft.write_text(json.dumps({"is_error": True, "data": LOST.format(number)}))
    result = spool / "results" / f"{task['id']}.json"
    if fault is None or killed:
        draft.rename(result)
    elif fault != "never":
        threading.Timer(float(fault), draft.rename, [result]).start()


class _NotHere(MetaPathFinder):
    """Refuses the repository's packages, wherever they are installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] in ("workflow", "tests"):
            raise ModuleNotFoundError(f"{name} is not on the endpoint")


def work(path: Path, draft: Path) -> None:
    """What an endpoint's worker does with a task."""
    sys.meta_path.insert(0, _NotHere())
    from globus_compute_sdk.serialize import ComputeSerializer

    task = json.loads(path.read_text())
    try:
        function, args, kwargs = ComputeSerializer().unpack_and_deserialize(task["function"] + task["payload"])
        value = function(*args, **kwargs)
        result = {"is_error": False, "data": ComputeSerializer.serialize_from_list(value, task["result_serializers"])}
    except Exception:  # as on an endpoint, whatever a task raises goes back as text
        result = {"is_error": True, "data": traceback.format_exc()}
    part = draft.with_suffix(".part")
    part.write_text(json.dumps(result))
    part.rename(draft)


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        work(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        with contextlib.suppress(KeyboardInterrupt):
            serve(Path(sys.argv[1]), int(sys.argv[2]))
