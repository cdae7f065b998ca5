"""Which GPUs a training used."""

from __future__ import annotations

import os
from pathlib import Path

from tests.unit.worker.stage_bench import Bench, bash

NVIDIA_SMI = """#!/bin/bash
case $1 in
    *compute-apps*) [ -f pids ] && cat pids && echo >> pids.seen ; exit 0 ;;
    *) printf 'GPU-a, 0, NVIDIA A100-SXM4-40GB\\nGPU-b, 1, NVIDIA A100-SXM4-40GB\\n' ;;
esac
"""


def with_nvidia_smi(bench: Bench, tmp_path: Path, text: str) -> dict[str, str]:
    """A worker's environment with a program of that name, which runs in the attempt's directory."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(text.replace("pids", str(bench.directory / "pids")))
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_gpus_that_a_training_uses_are_seen(bench: Bench, tmp_path: Path) -> None:
    """By process: GPU 0 has one of somebody else."""
    worker = with_nvidia_smi(bench, tmp_path, NVIDIA_SMI)
    until_seen = "while [ $(cat pids.seen 2>/dev/null | wc -l) -lt 2 ]; do sleep 0.1; done"
    stage = bash(f'(echo "1, GPU-a"; echo "$$, GPU-b") > new; mv new pids; {until_seen}; sleep 0.5')
    used = bench.run(*stage, worker=worker, watch_gpus=True)["gpus_used"]
    assert used["gpus"] == [{"uuid": "GPU-b", "index": "1", "name": "NVIDIA A100-SXM4-40GB"}]
    assert used["looks"] >= 2 and used["error"] == ""


def test_gpus_that_cannot_be_seen_are_said(bench: Bench, tmp_path: Path) -> None:
    worker = with_nvidia_smi(bench, tmp_path, "#!/bin/bash\necho NVIDIA-SMI has failed; exit 9\n")
    used = bench.run(*bash("sleep 0.5"), worker=worker, watch_gpus=True)["gpus_used"]
    assert used == {"looks": 1, "error": "nvidia-smi: NVIDIA-SMI has failed", "gpus": []}
    assert bench.run("true")["gpus_used"] is None
