"""The check of a site with a scheduler, on fake commands that answer as real ones do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workflow.doctor import site as site_doctor
from workflow.doctor.findings import Finding
from workflow.doctor.site import Queue, examine_site, pbs_queues, slurm_seconds
from workflow.site import load_site

QSTAT = """\
Queue: debug
    queue_type = Execution
    total_jobs = 9
    resources_max.nodect = 2
    resources_max.walltime = 01:00:00
    enabled = True
    started = True

Queue: prod
    queue_type = Execution
    enabled = False
    started = True
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of commands that goes before all others, and no modules of the machine itself."""
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    profile = f'export PATH="{commands}:/usr/bin:/bin"\n[ -e {tmp_path}/modules.sh ] && . {tmp_path}/modules.sh\n'
    (tmp_path / ".bash_profile").write_text(profile)
    return commands


def command(machine: Path, name: str, output: str = "", code: int = 0) -> None:
    (machine / name).write_text(f"#!/bin/bash\ncat <<'END'\n{output}\nEND\nexit {code}\n")
    (machine / name).chmod(0o755)


def pbs(machine: Path, output: str = QSTAT, code: int = 0) -> None:
    for name in ("qsub", "qdel", "qselect"):
        command(machine, name)
    command(machine, "qstat", output, code)


def slurm(machine: Path, sinfo: str, code: int = 0, accounts: str | None = None) -> None:
    for name in ("sbatch", "squeue", "scancel"):
        command(machine, name)
    command(machine, "sinfo", sinfo, code)
    command(machine, "sacctmgr", accounts or "You are not running a supported plugin", int(accounts is None))


def examine(machine: Path, scheduler: str = "slurm", **keys: object) -> list[Finding]:
    path = machine.parent / "here.yaml"
    path.write_text(yaml.safe_dump({"scheduler": scheduler, "gpus": 4, **keys}))
    site = load_site(path, {})
    assert site.batch is not None
    return list(examine_site(site, site.batch, Path("/home/me/runs")))


def told(findings: list[Finding], subject: str) -> Finding:
    return next(finding for finding in findings if finding.subject == subject)


def test_a_sound_pbs_passes(machine: Path) -> None:
    pbs(machine)
    findings = examine(machine, "pbs", queue="debug", account="mine")
    assert not [finding for finding in findings if finding.level == "fail"]
    assert told(findings, "queue").text == "debug: 2 nodes, jobs for at most 01:00:00"
    assert told(findings, "account").text == "mine (PBS does not tell whether it is yours)"


@pytest.mark.parametrize(
    ("keys", "text", "remedy"),
    [
        ({"queue": "debugg"}, "debugg is not known here", "did you mean 'debug'? known: debug, prod"),
        ({"queue": "prod"}, "prod takes no jobs now", "choose another one"),
        ({"queue": "debug", "walltime": "2h"}, "walltime is 02:00:00", "set site.walltime to 01:00:00 at most, or use"),
        ({"queue": "debug", "nodes_per_block": 3}, "debug has 2 nodes, and nodes_per_block is 3", "to 2 at most"),
    ],
)
def test_what_pbs_would_refuse(machine: Path, keys: dict[str, object], text: str, remedy: str) -> None:
    pbs(machine)
    finding = told(examine(machine, "pbs", **keys), "queue")
    assert finding.level == "fail" and text in finding.text and remedy in finding.remedy


def test_a_pbs_that_does_not_answer(machine: Path) -> None:
    pbs(machine, "Connection refused\nqstat: cannot connect to server login1 (errno=111)", code=111)
    assert told(examine(machine, "pbs", queue="debug"), "scheduler").text.endswith("login1 (errno=111)")


def test_a_scheduler_that_takes_long_is_given_up(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands try for a minute where there is no configuration."""
    slurm(machine, "")
    (machine / "sinfo").write_text("#!/bin/bash\nexec sleep 30\n")
    monkeypatch.setattr(site_doctor, "_ANSWER", 0.2)
    assert told(examine(machine, queue="gpu"), "scheduler").text == "sinfo: no answer within 0.2 s"


def test_missing_commands_are_named_and_nothing_is_asked(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine))
    findings = examine(machine, "pbs", queue="nowhere")
    assert [f.subject for f in findings if f.level == "fail"] == ["qsub", "qstat", "qdel", "qselect"]
    assert all("login node" in f.remedy for f in findings if f.level == "fail")


SINFO = "gpu*|2-00:00:00|4|up\ngpu*|2-00:00:00|2|up\nshort|30:00|1|up\nold|infinite|3|down"


@pytest.mark.parametrize(
    ("keys", "level", "text"),
    [
        ({}, "pass", "gpu: 6 nodes, jobs for at most 48:00:00"),
        ({"partition": "short", "walltime": "30m"}, "pass", "short: 1 nodes, jobs for at most 00:30:00"),
        ({"partition": "short"}, "fail", "short admits jobs of 00:30:00, and walltime is 01:00:00"),
        ({"nodes_per_block": 7}, "fail", "gpu has 6 nodes, and nodes_per_block is 7"),
        ({"partition": "old"}, "fail", "old is down"),
        ({"partition": "GPU"}, "fail", "GPU is not known here"),
        ({"qos": "debug"}, "pass", "left to the scheduler (qos debug)"),
    ],
)
def test_partitions(machine: Path, keys: dict[str, object], level: str, text: str) -> None:
    slurm(machine, SINFO)
    finding = told(examine(machine, **keys), "partition")
    assert (finding.level, finding.text) == (level, text)


def test_more_jobs_than_there_are_nodes_are_a_warning(machine: Path) -> None:
    slurm(machine, SINFO)
    finding = examine(machine, max_blocks=7)[-1]
    assert (finding.level, finding.subject) == ("warn", "partition")
    assert "lower max_blocks" in finding.remedy


def test_a_slurm_that_does_not_answer(machine: Path) -> None:
    slurm(machine, "slurm_load_partitions: Unable to contact slurm controller (connect failure)", code=1)
    assert "Unable to contact" in told(examine(machine), "scheduler").text


@pytest.mark.parametrize(
    ("accounts", "level", "text"),
    [
        (None, "pass", "abc (sacctmgr does not tell whether it is yours)"),
        ("abc\ndef", "pass", "abc"),
        ("abd", "fail", "abc is not yours"),
    ],
)
def test_accounts(machine: Path, accounts: str | None, level: str, text: str) -> None:
    slurm(machine, SINFO, accounts=accounts)
    finding = told(examine(machine, account="abc"), "account")
    assert (finding.level, finding.text) == (level, text)


def test_modules_load_one_after_the_other(machine: Path) -> None:
    """Apptainer's needs those before it; a failure is known by its exit code or, in old versions, by its words."""
    slurm(machine, SINFO)
    (machine.parent / "modules.sh").write_text(
        """module() {
  case "$1 $2" in
    "use /soft") SEEN=1;;
    "load apptainer") [ "$SEEN" ] || { echo "not seen"; return 1; };;
    "load old") echo "ModuleCmd_Load.c(213):ERROR:105: Unable to locate a modulefile for 'old'";;
    *) printf 'Lmod has detected the following error:\\nThe module "%s" is unknown\\n' "$2" >&2; return 1;;
  esac
}
"""
    )
    findings = [
        f for f in examine(machine, modules=["use /soft", "apptainer", "old", "none"]) if f.subject == "modules"
    ]
    assert [f.level for f in findings] == ["pass", "pass", "fail", "fail"]
    assert findings[0].text == "module use /soft" and "Unable to locate" in findings[2].text
    assert "'none'" in findings[3].remedy


def test_a_machine_without_modules(machine: Path) -> None:
    slurm(machine, SINFO)
    finding = told(examine(machine, modules=["apptainer"]), "modules")
    assert (finding.level, finding.text) == ("fail", "a login shell has no module command")


def test_interfaces(machine: Path) -> None:
    slurm(machine, SINFO)
    assert told(examine(machine, interface="lo"), "interface").level == "pass"
    finding = told(examine(machine, interface="hsn9"), "interface")
    assert finding.level == "fail" and "lo" in finding.remedy


def test_places_that_compute_nodes_do_not_see(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm(machine, SINFO)
    for prefix, level in (("/tmp/venv", "warn"), ("/home/me/venv", "pass"), ("/home/me/my venv", "fail")):
        monkeypatch.setattr("sys.prefix", prefix)
        assert told(examine(machine), "python").level == level


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("infinite", None), ("n/a", None), ("1:00", 60), ("1:00:00", 3600), ("2-00:00:00", 172800), ("30:30", 1830)],
)
def test_limits_of_slurm(text: str, seconds: float | None) -> None:
    assert slurm_seconds(text) == seconds


def test_queues_of_pbs_and_of_slurms_torque_commands() -> None:
    assert pbs_queues(QSTAT) == [Queue("debug", 3600.0, 2), Queue("prod", closed="takes no jobs now")]
    torque = "Queue:\tgpu\n\tqueue_type = Execution\n\tresources_default.nodes = 2\n\tenabled = yes\n\tstarted = yes\n"
    assert pbs_queues(torque) == [Queue("gpu")]
