"""The shipped site files: each one loads, renders to the script that it should, and says what nobody has verified."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, Workflow
from workflow.cluster.batch import Batch
from workflow.cluster.providers import block_script
from workflow.errors import InputError
from workflow.site import Site, load_site

SITES = {path.stem: path for path in sorted((ROOT / "sites").glob("*.yaml"))}
GOLDEN = Path(__file__).parent.parent / "golden" / "sites"
PERSONAL = {"PBS_ACCOUNT": "project", "SLURM_ACCOUNT": "project"}


@pytest.fixture(autouse=True)
def personal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PERSONAL.items():
        monkeypatch.setenv(name, value)


def load(name: str, **changes: Any) -> Site:
    return load_site(SITES[name], changes)


def batch(name: str) -> Batch | None:
    return load(name).batch if name != "globus-compute" else None


WITH_SCHEDULER = [
    name
    for name in SITES
    if "scheduler: slurm" in SITES[name].read_text() or "scheduler: pbs" in SITES[name].read_text()
]


def test_all_sites_are_there() -> None:
    assert set(SITES) == {
        "local", "local-threads", "slurm-generic", "polaris", "aurora", "sophia", "frontier", "perlmutter", "biowulf",
        "delta", "lonestar6", "vista", "anvil", "expanse", "swing", "lambda", "globus-compute",
    }  # fmt: skip


@pytest.mark.parametrize("name", SITES)
def test_a_site_file_loads_and_is_named_after_its_site(name: str) -> None:
    assert load(name).name == name


@pytest.mark.parametrize("name", WITH_SCHEDULER)
def test_the_script_of_a_block(name: str) -> None:
    assert block_script(load(name), "WORKERS") == (GOLDEN / f"{name}.sh").read_text()


@pytest.mark.parametrize("name", WITH_SCHEDULER)
def test_what_is_known_of_queues_has_source_and_date(name: str) -> None:
    site = load(name)
    assert site.batch is not None
    for queue in site.batch.queues.values():
        assert queue.source and queue.verified in ("no", "read 2024-2026")
    if site.batch.queues:
        assert site.batch.queue in site.batch.queues or site.batch.qos in site.batch.queues
        assert "Nobody has tried this file" in SITES[name].read_text()
    assert (site.batch.queue or "") != "prod"


@pytest.mark.parametrize("name", WITH_SCHEDULER)
def test_a_personal_value_that_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SITES[name].read_text()
    needed = re.findall(r"^account: \$\{(\w+)\}", text, flags=re.MULTILINE)
    for variable in PERSONAL:
        monkeypatch.delenv(variable)
    if not needed:
        load(name)
        return
    with pytest.raises(InputError, match=rf"account: .* needs the environment variable {needed[0]}, which is not set"):
        load(name)
    batch = load(name, account="mine").batch
    assert batch is not None and batch.account == "mine"


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("polaris", {"walltime": "2h"}, "walltime 02:00:00 is above its 01:00:00\n    -> use preemptable, capacity"),
        ("polaris", {"nodes_per_block": 6}, "is above its 2 nodes\n    -> use debug-scaling, preemptable"),
        ("polaris", {"queue": "prod"}, "nodes_per_block 1 is below its 10 nodes\n    -> use debug, debug-scaling"),
        ("frontier", {"walltime": "12h"}, "walltime 12:00:00 is above its 02:00:00\n    -> use extended"),
        ("expanse", {"partition": "gpu-shared", "nodes_per_block": 2}, "is above its 1 nodes\n    -> use gpu"),
        ("swing", {"max_blocks": 5}, "max_blocks 5 is above the 4 jobs that it runs for one user"),
    ],
)
def test_a_request_that_a_queue_does_not_admit_is_refused(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        load(name, **changes)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", WITH_SCHEDULER)
def test_the_check_tells_what_this_machine_lacks(workflow: Workflow, name: str) -> None:
    experiment = workflow.experiment()
    done = workflow.run(
        "--site", name, "--experiment", experiment, "--fast", "--json", module="workflow.check", env=PERSONAL
    )
    assert done.returncode in (0, 1), done.stdout
    found = json.loads(done.stdout)["findings"]
    subjects = {finding["subject"] for finding in found}
    assert {"GPUs", "python"} <= subjects and subjects & {"sbatch", "qsub"}


def test_the_template_has_every_key() -> None:
    """Commented out, but for those that are required."""
    text = (ROOT / "sites" / "TEMPLATE").read_text()
    everything = re.sub(r"^# ?(?=[a-z_]+:( |$))", "", text, flags=re.MULTILINE)
    keys = set(yaml.safe_load(everything))
    known = {*Site.__dataclass_fields__, *Batch.__dataclass_fields__} - {"options", "batch", "allocated_nodes", "auto"}
    assert keys >= known - {"endpoint"} | {"extra_args", "env", "binds", "partition"}
