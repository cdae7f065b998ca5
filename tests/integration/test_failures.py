"""Every kind of failure, caused for real: what the journal says of it, and what the user reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Workflow, journal

DEEDS = {
    "works": "true",
    "exits": "echo loading data; echo 'ValueError: no drug 7' >&2; exit 3",
    "hangs": "trap '' TERM; while echo busy; do sleep 0.1; done",
    "is_silent": "echo epoch 1; sleep 60",
    "has_no_metric": "rm val_scores.json",
    "has_nan": "echo '{\"mse\": NaN}' > val_scores.json",
    "has_garbage": "echo '{' > val_scores.json",
    "wants_gpu_memory": "echo 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB'; exit 1",
    "wants_memory": "python3 -c 'raise MemoryError'",
    "is_killed": "kill -9 $$",
    "misses_a_command": "no-such-program --train",
}
EXPECTED = {
    "works": ("ok", "", ""),
    "exits": ("failed", "model", "exit code 3; last line: ValueError: no drug 7"),
    "hangs": ("failed", "model", "timeout after 16 s; last line: busy"),
    "is_silent": ("failed", "model", "stalled: no output for 8 s; last line: epoch 1"),
    "has_no_metric": ("failed", "model", "neither val_scores.json nor an IMPROVE_RESULT line of this attempt has it"),
    "has_nan": ("failed", "model", "nan"),
    "has_garbage": ("failed", "model", "val_scores.json is not JSON"),
    "wants_gpu_memory": ("failed", "model", "out of memory: the log says 'OutOfMemoryError'"),
    "wants_memory": ("failed", "model", "out of memory: the log says 'MemoryError'"),
    "is_killed": ("failed", "infrastructure", "lost 3 times, the last time: killed by SIGKILL from outside"),
    "misses_a_command": ("failed", "setup", "no-such-program: command not found"),
}


def model(directory: Path, train: str) -> dict[str, str]:
    (directory / "model").mkdir()
    script = directory / "model" / "train.sh"
    script.write_text(f"#!/bin/bash\n{train}\n")
    script.chmod(0o755)
    return {"scripts": str(script.parent)}


def test_every_failure_is_told_as_what_it_is(workflow: Workflow) -> None:
    """One trial for each deed; the first one works, so that none of them tells of a broken set-up."""
    deeds = "".join(f"{name}) {deed};;\n" for name, deed in DEEDS.items())
    train = f"while [ $1 != --deed ]; do shift; done\necho '{{\"mse\": 1}}' > val_scores.json\ncase $2 in\n{deeds}esac"
    (workflow.directory / "initial.csv").write_text("deed\n" + "\n".join(DEEDS) + "\n")
    experiment = workflow.experiment(
        model=model(workflow.directory, train),
        stages={"train": {"timeout": "16s", "stall_timeout": "8s"}},
        space=[{"name": "deed", "type": "categorical", "element_type": "string", "values": list(DEEDS)}],
        search={
            "strategy": "random", "evaluations": len(DEEDS), "population_size": 99, "initial_population": "initial.csv",
        },
    )  # fmt: skip
    settings = ("--set", "site.workers=1", "--set", "site.grace=0.2")
    done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run", *settings)
    assert done.returncode == 0, done.stdout
    records = journal(workflow.directory / "run")
    deed_of = {r["trial"]["id"]: r["trial"]["params"]["deed"] for r in records if r["type"] == "asked"}
    final: dict[str, Any] = {}
    for record in records:
        if record["type"] == "outcome" and record["outcome"]["kind"] in ("ok", "failed"):
            final[deed_of[record["outcome"]["trial_id"]]] = record["outcome"]
    assert final.keys() == DEEDS.keys()
    for deed, (kind, cause, evidence) in EXPECTED.items():
        assert (final[deed]["kind"], final[deed]["cause"]) == (kind, cause), final[deed]
        assert evidence in final[deed]["evidence"], final[deed]
    assert (
        "its memory was" in final["is_killed"]["evidence"] and "no sign of a shortage" in final["is_killed"]["evidence"]
    )


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("no-such-program --train", ["exit code 127: a command was not found", "no-such-program: command not found"]),
        ("/dev/null", ["exit code 126: a command is not executable"]),
    ],
)
def test_a_broken_set_up_stops_the_campaign_with_the_log(workflow: Workflow, train: str, words: list[str]) -> None:
    experiment = workflow.experiment(model=model(workflow.directory, train), stages={"train": {}})
    done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run")
    assert done.returncode == 5, done.stdout
    for word in (*words, "\n    | ", "model.log", "resume with"):
        assert word in done.stdout, done.stdout
    (workflow.directory / "model" / "train.sh").write_text("#!/bin/bash\necho '{\"mse\": 1}' > val_scores.json\n")
    assert workflow.run("--resume", "run").returncode == 0
    assert json.loads((workflow.directory / "run/summary.json").read_text())["trials"]["failed"] == 0
