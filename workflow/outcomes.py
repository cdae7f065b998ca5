"""From what an attempt left behind to its outcome: whose failure it is, and what it is worth. All of it is pure."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from workflow.errors import printable, shortened
from workflow.metrics import MetricError, read_scores, value_of
from workflow.trial import Cause, Curve, Kind, Outcome
from workflow.worker.contract import HOPELESS, NOT_STARTED

_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP})
_CONTAINER_FAILED = 255
"""Apptainer's exit code for a missing image, command or bind source, and sys.exit(-1) of a model."""

_CONTAINER_SAYS = re.compile(r"^(?:\x1b\[\d+m)?FATAL:(?:\x1b\[0m)? {3,}", re.MULTILINE)
"""How Apptainer begins its last line: in a column of its own."""

_HOPELESS = f"stopped: {HOPELESS}"
"""How a supervisor calls what ended a trial that was stopped early."""

_NOT_RUN = {126: "is not executable", 127: "was not found"}


def judge(
    result: Mapping[str, Any], stage: str, objectives: Sequence[str], trial_id: int, attempt: int, curve: Curve = ()
) -> Outcome:
    """The outcome that a ``result.json`` stands for.

    ``objectives`` names their metrics; none for a stage that has none (preprocess, infer). ``curve`` are the values of
    the first one during the training.
    """
    kind, cause, values, evidence = _judged(result, stage, objectives)
    value = next(iter(values.values()), None)
    metrics: Mapping[str, float] = {}
    if kind == "ok":
        scores = {k: v for k, v in read_scores(stage, result["scores"]).items() if math.isfinite(v)}
        metrics = {**scores, **dict(list(values.items())[1:])}
    elif kind == "stopped" and objectives and curve:
        metrics = {objectives[0]: curve[-1][1]}
    started, ended = result["started"], result["ended"]
    gpu_seconds = ended - started if result["gpu"] is not None else 0.0
    return Outcome(
        trial_id, attempt, kind, value, metrics, started, ended, gpu_seconds, host=result["host"], gpu=result["gpu"],
        peak_memory=result["peak_memory"], evidence=evidence, cause=cause, curve=curve,
    )  # fmt: skip


def _judged(
    result: Mapping[str, Any], stage: str, objectives: Sequence[str]
) -> tuple[Kind, Cause, dict[str, float], str]:
    """With the values of the objectives of an attempt that ended well."""
    ended_by, code, tail = result["ended_by"], result["exit_code"], last_line(result["log_tail"])
    if ended_by.startswith("cannot start"):
        return "lost", "setup", {}, ended_by
    if ended_by.startswith(NOT_STARTED):
        return "deferred", "walltime" if result.get("block_ends") else "", {}, ended_by
    if ended_by.startswith(_HOPELESS):
        return "stopped", "", {}, f"stopped early: {ended_by.removeprefix(_HOPELESS)}"
    if ended_by.startswith("stopped"):
        return "lost", "walltime" if result.get("block_ends") else "infrastructure", {}, ended_by
    if ended_by != "exit":
        return "failed", "model", {}, f"{ended_by}; last line: {tail}"
    if code != 0 and (shortage := _out_of_memory(result, code)):
        return "failed", "model", {}, f"out of memory: {shortage}; last line: {tail}"
    if (number := _signal_from_outside(code)) is not None:
        if result.get("block_ends"):
            return "lost", "walltime", {}, f"killed by {number.name} at the end of its block"
        memory = f"its memory was {_memory(result)}, no sign of a shortage"
        return "lost", "infrastructure", {}, f"killed by {number.name} from outside; {memory}; last line: {tail}"
    if code in _NOT_RUN:
        return "lost", "setup", {}, f"exit code {code}: a command {_NOT_RUN[code]}; last line: {tail}"
    if code == _CONTAINER_FAILED and _CONTAINER_SAYS.search(result["log_tail"]):
        return "lost", "setup", {}, f"the container cannot run: {tail}"
    if code != 0:
        return "failed", "model", {}, f"{_exit_text(code)}; last line: {tail}"
    try:
        read_scores(stage, result["scores"])
        values = {name: value_of(name, stage, result) for name in objectives}
    except MetricError as error:
        return "failed", "model", {}, str(error)
    return "ok", "", values, ""


_GPU_MEMORY = re.compile(
    r"(?:CUDA|HIP|XPU|GPU)[ _.]?(?:error: )?out[ _]of[ _]memory|ERROR_OUT_OF_MEMORY|OutOfMemoryError"
    r"|RESOURCE_EXHAUSTED: Out of memory|^MemoryError\b",
    re.IGNORECASE | re.MULTILINE,
)
_NEARLY_ALL = 0.9


def _out_of_memory(result: Mapping[str, Any], code: int) -> str:
    """The evidence that a failed process wanted more memory than there was; empty if there is none."""
    killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    limit = result["memory_limit"]
    if result["oom_kills"]:
        return f"the kernel killed {result['oom_kills']} processes for it; memory was {_memory(result)}"
    if killed and limit and result["peak_memory"] >= _NEARLY_ALL * limit:
        return f"killed by SIGKILL with memory of {_memory(result)}"
    if _signal_from_outside(code) is not None:  # an error of CUDA raises; whoever killed this had another reason
        return ""
    said = _GPU_MEMORY.search(result["log_tail"])
    return f"the log says {said.group()!r}" if said else ""


def _memory(result: Mapping[str, Any]) -> str:
    limit = result["memory_limit"]
    return f"{_gib(result['peak_memory'])} of {_gib(limit) if limit else 'unknown'} GiB"


def _gib(number: int) -> str:
    return f"{number / 2**30:.3g}"


def _signal_from_outside(code: int) -> signal.Signals | None:
    """The signal that ended a process, also as a shell passes it on (128 + n), if a model doesn't send it itself."""
    number = -code if code < 0 else code - 128
    return signal.Signals(number) if number in _FROM_OUTSIDE else None


def _exit_text(code: int) -> str:
    """The exit code with the signal that it stands for: any of the process, those of a crash also by way of a shell."""
    number = -code if code < 0 else code - 128
    known = set(signal.Signals) if code < 0 else _CRASHES  # most real-time signals have no name
    return f"exit code {code}" + (f" ({signal.Signals(number).name})" if number in known else "")


def last_line(text: str) -> str:
    lines = [line for line in printable(text).splitlines() if line.strip()]
    return shortened(lines[-1].strip()) if lines else "(the log is empty)"
