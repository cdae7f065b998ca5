"""Which GPUs a stage uses, by what nvidia-smi says."""

from __future__ import annotations

import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class GpuLooks:
    """Which NVIDIA GPUs a tree of processes uses, by looks at what nvidia-smi says of compute processes."""

    def __init__(self) -> None:
        self.number = 0
        self.error = ""
        """Why nothing can be seen."""
        self._used: set[str] = set()
        self._next = 0.0

    def look(self, processes: list[int]) -> None:
        """At most once a second: a look takes some tenths of one."""
        if self.error or time.monotonic() < self._next:
            return
        for pid, uuid in self._ask("--query-compute-apps=pid,gpu_uuid"):
            if pid.isdigit() and int(pid) in processes:
                self._used.add(uuid)
        self.number += 1
        self._next = time.monotonic() + 1.0

    def found(self) -> dict[str, Any]:
        gpus = self._ask("--query-gpu=uuid,index,name") if self._used else []
        used = [{"uuid": uuid, "index": index, "name": name} for uuid, index, name in gpus if uuid in self._used]
        return {"looks": self.number, "error": self.error, "gpus": used}

    def _ask(self, query: str) -> list[list[str]]:
        """The rows of a query; none if it fails."""
        fields = query.count(",")
        try:
            done = subprocess.run(
                ["nvidia-smi", query, "--format=csv,noheader"],
                capture_output=True, text=True, errors="replace", timeout=10, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            self.error = f"nvidia-smi: {getattr(error, 'strerror', None) or 'no answer'}"
            return []
        if done.returncode != 0:
            self.error = f"nvidia-smi: {' '.join((done.stdout + done.stderr).split())[:200]}"
            return []
        rows = [[field.strip() for field in line.split(",", fields)] for line in done.stdout.splitlines()]
        return [row for row in rows if len(row) == fields + 1]
