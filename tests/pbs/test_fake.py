"""The fake answers what the real server answered, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT, eventually
from tests.fake_pbs import Call, FakePbs, parse_qsub, wrapped
from tests.pbs.conftest import RECORDINGS, Recording, like, recordings, replay, shell, unwrapped

SCRIPTS = {
    "sleep": "#!/bin/bash\n#PBS -l walltime=00:05:00\nexec sleep 300\n",
    "ignore": "#!/bin/bash\n#PBS -l select=1:ncpus=2:ngpus=1\n#PBS -l walltime=00:05:00\ntrap '' TERM\nsleep 300\n",
    "hello": """\
#!/bin/bash
#PBS -N hello
#PBS -l select=1:ncpus=4:ngpus=4
#PBS -l walltime=00:05:00
hostname
pwd
echo nodefile:
cat $PBS_NODEFILE
env | sort
while [ ! -e go ]; do sleep 0.05; done
exit 3
""",
}
STUBBORN = """\
#PBS -l walltime={}
#PBS -j oe
trap 'echo got TERM' TERM
echo start
while :; do sleep 0.05; done
"""
FIRST, SECOND = "x3005c0s7b0n0", "x3005c0s7b1n0"

settings = pytest.mark.parametrize
root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root may set the names of hosts")


@pytest.fixture(autouse=True)
def scripts(pbs: FakePbs) -> None:
    for name, text in SCRIPTS.items():
        (pbs.home / f"{name}.pbs").write_text(text)


def until(command: str, shown: str) -> str:
    """What takes the place of a recorded sleep: bash that waits for what had come meanwhile."""
    return f"until {command} 2>/dev/null | grep -q '{shown}'; do sleep 0.05; done"


def submit(pbs: FakePbs, *arguments: str, script: str = "") -> str:
    """The new job's id."""
    if script:
        (pbs.home / "job.sh").write_text(script)
        arguments = (*arguments, "job.sh")
    done = subprocess.run(["qsub", *arguments], cwd=pbs.home, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def finished(pbs: FakePbs, *arguments: str, script: str = "") -> dict[str, Any]:
    return pbs.until(submit(pbs, *arguments, script=script), "F")


def started(pbs: FakePbs, job: str, processes: int) -> list[int]:
    """The job's processes once there are so many."""
    assert eventually(lambda: len(pbs.jobs()[job]["pids"]) >= processes, 60)
    pids: list[int] = pbs.jobs()[job]["pids"]
    return pids


def alive(pid: int) -> bool:
    """An orphan that has ended may be a zombie for a while."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def assert_like(pbs: FakePbs, answer: Recording, recorded: Recording) -> None:
    assert like(unwrapped(answer.stdout), pbs) == like(unwrapped(recorded.stdout), pbs)
    assert like(answer.stderr, pbs) == like(recorded.stderr, pbs)
    assert answer.rc == recorded.rc


class TestRecorded:
    """Every recording, where possible by the recorded command line itself."""

    def test_submissions(self, pbs: FakePbs) -> None:
        """errors.txt with its ids: 0 to 2 were taken before, and some refused jobs take one."""
        for _ in range(3):
            submit(pbs, "sleep.pbs")
        assert len(recordings("errors")) == 22
        for recorded in recordings("errors"):
            answer = replay(pbs, recorded)
            found = (answer.line, answer.stdout, answer.stderr, answer.rc)
            assert found == (recorded.line, recorded.stdout, recorded.stderr, recorded.rc)

    @root_only
    @settings("pbs", [{"acl_roots": False}], indirect=True)
    def test_root_may_not_submit(self, pbs: FakePbs) -> None:
        answer = shell(pbs, "qsub sleep.pbs")
        assert (answer.rc, answer.stderr) == (175, recordings("errors-root")[0].stderr)

    @root_only
    @settings("pbs", [{"poll": 0.1}], indirect=True)
    def test_life_of_a_job(self, pbs: FakePbs) -> None:
        """lifecycle.txt: the states and forms of qstat, the job's environment and its output."""
        recorded = recordings("lifecycle")[0]
        waits = {"sleep 0.27": until("qstat -f $J", "session_id"), "sleep 1.98": until("touch go; qstat -x $J", " F ")}
        assert_like(pbs, replay(pbs, recorded, 0.09, waits), recorded)

    @settings("pbs", [{"poll": 60}], indirect=True)
    def test_numbers_in_json(self, pbs: FakePbs) -> None:
        """env-json.txt, where the job has just started and no poll has seen it."""
        for recorded in recordings("env-json"):
            assert_like(pbs, replay(pbs, recorded), recorded)

    def test_many_ids(self, pbs: FakePbs) -> None:
        """json-multi.txt with its ids."""
        finished(pbs, "--", "/bin/true")
        recorded = recordings("json-multi")[0]
        answer = replay(pbs, recorded)
        assert re.sub(r"\d{10}", "EPOCH", answer.stdout) == re.sub(r"\d{10}", "EPOCH", recorded.stdout)
        assert answer.stderr == recorded.stderr

    def test_a_job_that_can_never_run(self, pbs: FakePbs) -> None:
        """queued-json.txt: shown in Q, deleted, shown as finished."""
        finished(pbs, "--", "/bin/true")
        recorded = recordings("queued-json")[0]
        job = "J=$(qsub -l select=1:ncpus=99 sleep.pbs)"
        assert_like(pbs, replay(pbs, recorded, changes={"J=$(qselect -s Q | head -1)": job}), recorded)

    @settings("pbs", [{"poll": 10}], indirect=True)
    def test_qdel(self, pbs: FakePbs) -> None:
        recorded = recordings("qdel-mixed")[0]
        waits = {"sleep 0.60": until("qstat -x $J1", " F "), "sleep 0.40": until("qstat -x $J2 $J3", " F ")}
        waits["J3=$(qsub sleep.pbs); sleep 0.20"] = "J2= J3=$(qsub sleep.pbs)"
        assert_like(pbs, replay(pbs, recorded, 0.2, waits), recorded)

    @settings("pbs", [{"poll": 60, "history": False}], indirect=True)
    def test_without_history(self, pbs: FakePbs) -> None:
        """history-off.txt in three parts: running, in E for a moment, gone."""
        recorded = recordings("history-off")[0]
        lines, errors = recorded.stdout.splitlines(keepends=True), recorded.stderr.replace("52.", "0.").splitlines()
        end = lines.index("rc=0\n", lines.index("rc=0\n") + 1) + 1
        running, rest = "".join(lines[:end]), "".join(lines[end:])
        answer = shell(pbs, recorded.line.partition("; qdel")[0].replace("sleep 1;", "sleep 0.2;"))
        assert like(answer.stdout, pbs) == like(running, pbs)
        assert answer.stderr.splitlines() == errors[:2]
        shell(pbs, "qdel -W force 0")
        pbs.until("0.login1", "E")
        answer = shell(pbs, "qstat -f -F json 0; echo rc=$?")
        assert like(answer.stdout, pbs) == like(rest.partition("rc=153")[0], pbs)
        assert eventually(lambda: not pbs.jobs(), 60)
        answer = shell(pbs, "qstat 0; echo rc=$?; qstat -x; echo rc=$?")
        assert answer.stdout == "rc=153\nrc=0\n"
        assert answer.stderr.splitlines() == errors[2:]

    def test_places(self, pbs: FakePbs) -> None:
        recorded = recordings("placement")[0]
        over = f"qdel -W force $J; {until('qstat $J | grep -c debug', '^0')}"
        answer = replay(pbs, recorded, 0.06, {"qdel -W force $J; sleep 0.12": over})
        assert like(answer.stdout, pbs) == like(recorded.stdout, pbs)

    @root_only
    @settings("pbs", [{"poll": 6}], indirect=True)
    def test_odd_paths(self, pbs: FakePbs) -> None:
        """odd-paths.txt; no directory is closed to root, the one that does not exist holds the job in E."""
        recorded = recordings("odd-paths")[0]
        waits = {"sleep 0.60": until("qstat -x $J", " F "), "sleep 1.00": until("qstat $J", " E ")}
        answer = replay(pbs, recorded, 0.2, {"/home/hpc/lab/parsl": str(pbs.home), **waits})
        expected = like(recorded.stdout.replace("/home/hpc/lab/parsl", "/home/hpc"), pbs)
        assert like(unwrapped(answer.stdout), pbs).replace("root root", "hpc hpc") == expected
        assert answer.stderr.replace(str(pbs.home), "/home/hpc/lab/parsl") == recorded.stderr

    def test_nodes(self, pbs: FakePbs) -> None:
        recorded = recordings("pbsnodes")[0]
        answer = replay(pbs, recorded, changes={"/opt/pbs/bin/": "", "; /opt/pbs/bin/pbsnodes -avSj": ""})
        expected = recorded.stdout[: recorded.stdout.index(" " * 56)]
        cores = re.compile(r'(pcpus = |pcpus":)\d+')
        answer.stdout = answer.stdout.partition(" " * 56)[0]
        assert cores.sub("N", like(answer.stdout, pbs)) == cores.sub("N", like(expected, pbs))

    @settings("pbs", [{"kill_delay": 4}], indirect=True)
    def test_walltime(self, pbs: FakePbs) -> None:
        """walltime.txt: TERM to all processes at a poll, KILL later, the message in the error file, -29."""
        job = finished(pbs, script=STUBBORN.format(0))
        assert (job["job_state"], job["substate"], job["Exit_status"]) == ("F", "93", "-29")
        recorded = recordings("walltime")[0].stdout.splitlines()
        comment = json.loads("{" + recorded[-5].rstrip(",") + "}")["comment"].replace("ncpus=2:ngpus=1", "ncpus=1")
        assert like(job["comment"], pbs) == like(comment, pbs)
        lines = (pbs.home / "job.sh.o0").read_text().splitlines()
        said = sorted(re.sub(r"walltime \d+", "walltime 27", line) for line in lines if "Terminated" not in line)
        assert said == [recorded[-2].replace("limit 20", "limit 0"), "got TERM", "start"]

    @settings("pbs", [{"kill_delay": 5}], indirect=True)
    def test_deleted_while_term_is_trapped(self, pbs: FakePbs) -> None:
        """qdel is done at once, but the job stays in R until KILL; its shell has died by TERM."""
        job = submit(pbs, script=STUBBORN.format(60))
        started(pbs, job, 3)
        start = time.monotonic()
        assert shell(pbs, f"qdel {job}").rc == 0
        assert pbs.jobs()[job]["job_state"] == "R"
        found = pbs.until(job, "F")
        assert time.monotonic() - start > 5
        assert (found["Exit_status"], found["substate"]) == ("271", "91")

    def test_listing(self, pbs: FakePbs) -> None:
        """qstat-plain.txt: the head and a queued job."""
        pbs.schedule(False)
        submit(pbs, "sleep.pbs")
        recorded = recordings("qstat-plain")[0].stdout.splitlines()
        assert shell(pbs, "qstat").stdout.splitlines() == [*recorded[:2], recorded[4].replace("8", "0", 1)]

    def test_selection(self, pbs: FakePbs) -> None:
        """qstat-plain.txt ends with the ids of one user's jobs that are not over, in their order."""
        finished(pbs, "--", "/bin/true")
        jobs = [submit(pbs, "sleep.pbs"), submit(pbs, "-l", "select=1:ncpus=99", "sleep.pbs")]
        recorded = recordings("qstat-plain")[0].stdout
        shape = re.sub(r"\d+", "N", recorded.rpartition("rc=0\n")[2]).splitlines(keepends=True)[0]
        answer = shell(pbs, "qselect -u hpc; qselect -u root; qselect -s Q")
        assert re.sub(r"\d+(?=[.])", "N", answer.stdout) == 3 * shape.replace("loginN", "login1")
        assert answer.stdout.split() == [*jobs, jobs[1]]
        assert (answer.rc, answer.stderr) == (0, "")

    def test_line_breaks(self) -> None:
        """Every attribute of the recorded ``qstat -f`` is broken where PBS broke it."""
        text = recordings("lifecycle")[0].stdout
        attributes = text[text.index("    Job_Name = ") : text.index("\n\nx3005")]
        lines = unwrapped(attributes).splitlines()
        assert "\n".join(wrapped(*line.strip().split(" = ", 1)) for line in lines) == attributes

    @settings("name", ["pbspro-mpiexec-2node", "pbspro-singlenode"])
    def test_submit_scripts(self, name: str) -> None:
        """What Parsl wrote is understood."""
        request = parse_qsub(Call("qsub", [f"{name}.sh"], str(RECORDINGS)))
        assert request.options["-N"].startswith("parsl.htex.block-0.1795")
        assert request.options["-o"].endswith(f"{request.options['-N']}.stdout")
        assert set(request.resources) == {"walltime", "select", "place"}


class TestJobs:
    """Resources, output files and environments of jobs that really run."""

    def test_the_environment_is_not_inherited(self, pbs: FakePbs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MINE", "yes")
        finished(pbs, "-o", "plain", "--", "env")
        finished(pbs, "-o", "all", "-V", "--", "env")
        finished(pbs, "-o", "some", "-v", "MINE,A=1 2", "--", "env")
        plain, everything, some = ((pbs.home / name).read_text() for name in ("plain", "all", "some"))
        assert "MINE" not in plain
        assert "MINE=yes\n" in everything
        assert "MINE=yes\n" in some
        assert "A=1 2\n" in some

    def test_output_arrives_at_the_end_unless_it_is_kept(self, pbs: FakePbs) -> None:
        (pbs.home / "lo gs").mkdir()
        script = "echo out; while [ ! -e go ]; do sleep 0.05; done"
        late = submit(pbs, "-o", "lo gs", "-N", "late", script=script)
        kept = submit(pbs, "-k", "doe", "-N", "kept", script=script)
        now = pbs.home / "kept.o1"
        assert eventually(lambda: now.exists() and now.read_text() == "out\n", 60)
        assert not list((pbs.home / "lo gs").iterdir())
        (pbs.home / "go").touch()
        pbs.until(late, "F")
        pbs.until(kept, "F")
        assert (pbs.home / "lo gs" / f"{late}.OU").read_text() == "out\n"
        assert stat.S_IMODE((pbs.home / "late.e0").stat().st_mode) == 0o600

    @root_only
    def test_mpiexec_runs_on_every_host(self, pbs: FakePbs) -> None:
        script = "sort -u $PBS_NODEFILE > nodes\nmpiexec --bind-to none -n 2 --hostfile nodes hostname\nhostname"
        finished(pbs, "-l", "select=2:ncpus=4", "-l", "place=scatter", "-N", "two", script=script)
        lines = (pbs.home / "two.o0").read_text().split()
        assert sorted(lines[:2]) == [FIRST, SECOND]
        assert lines[2] == FIRST

    @settings("pbs", [{"gpu_hook": True}], indirect=True)
    def test_a_hook_shows_each_host_its_gpus(self, pbs: FakePbs) -> None:
        """The second job gets what the first has left; one without GPUs gets no mask."""
        mask = "echo ${CUDA_VISIBLE_DEVICES-none}"
        first = submit(pbs, "-l", "select=1:ncpus=1:ngpus=1", script="while [ ! -e go ]; do sleep 0.05; done")
        script = f"mpiexec -n 2 --hostfile $PBS_NODEFILE sh -c '{mask} > mask.$(hostname)'; {mask}"
        finished(pbs, "-l", "select=2:ncpus=1:ngpus=3", "-l", "place=scatter", "-N", "two", script=script)
        finished(pbs, "-N", "none", script=mask)
        (pbs.home / "go").touch()
        pbs.until(first, "F")
        shown = [(pbs.home / name).read_text() for name in ("two.o1", "none.o2")]
        assert shown == ["1,2,3\n", "none\n"]
        if os.getuid() == 0:
            masks = {path.name.partition(".")[2]: path.read_text() for path in pbs.home.glob("mask.*")}
            assert masks == {FIRST: "1,2,3\n", SECOND: "0,1,2\n"}

    def test_mpiexec_takes_no_unknown_option(self, pbs: FakePbs) -> None:
        job = finished(pbs, "-N", "odd", script="mpiexec --nosuch 1 -n 1 --hostfile $PBS_NODEFILE true")
        assert job["Exit_status"] == "1"
        assert "not known to the fake: --nosuch" in (pbs.home / "odd.e0").read_text()

    def test_a_failed_rank_ends_the_others(self, pbs: FakePbs) -> None:
        script = "mpiexec -n 2 --hostfile $PBS_NODEFILE sh -c 'mkdir one && exit 5; sleep 100'"
        job = finished(pbs, "-l", "select=2:ncpus=1", "-l", "place=scatter", script=script)
        assert job["Exit_status"] == "5"

    def test_jobs_wait_for_resources(self, pbs: FakePbs) -> None:
        script = "while [ ! -e go ]; do sleep 0.05; done"
        first = submit(pbs, "-l", "select=2:ngpus=4:ncpus=16", script=script)
        second = submit(pbs, "-l", "select=1:ngpus=1", script="true")
        whole = submit(pbs, "-l", "select=1:ncpus=1", "-l", "place=scatter:excl", script="true")
        states = {job: found["job_state"] for job, found in pbs.jobs().items()}
        assert states == {first: "R", second: "Q", whole: "Q"}
        assert shell(pbs, "pbsnodes -a").stdout.count("state = job-busy") == 2
        (pbs.home / "go").touch()
        pbs.until(second, "F")
        pbs.until(whole, "F")

    def test_cpus_without_select(self, pbs: FakePbs) -> None:
        limits = finished(pbs, "-l", "ncpus=3", script="true")["Resource_List"]
        assert (limits["place"], limits["select"], limits["walltime"]) == ("pack", "1:ncpus=3", "00:10:00")

    def test_leftovers_of_a_job_end_with_it(self, pbs: FakePbs) -> None:
        script = "setsid sh -c 'trap : TERM; sleep 300; sleep 300' &\nwhile [ ! -e go ]; do sleep 0.05; done"
        job = submit(pbs, script=script)
        pids = started(pbs, job, 4)
        (pbs.home / "go").touch()
        assert pbs.until(job, "F")["Exit_status"] == "0"
        assert not any(map(alive, pids))


class TestSwitches:
    """What tests of a client need, and what no recording shows."""

    def test_a_scheduler_that_does_not_answer(self, pbs: FakePbs) -> None:
        pbs.fail_next("qstat", 2, 162, "qstat: cannot connect to server\n")
        answers = [shell(pbs, "qstat") for _ in range(3)]
        assert [answer.rc for answer in answers] == [162, 162, 0]
        assert answers[0].stderr == "qstat: cannot connect to server\n"

    def test_a_command_hangs_until_the_server_ends(self, pbs: FakePbs) -> None:
        pbs.fail_next("qstat", 1, None)
        with subprocess.Popen(["qstat"], stderr=subprocess.PIPE, text=True) as hanging:
            with pytest.raises(subprocess.TimeoutExpired):
                hanging.wait(0.5)
            assert shell(pbs, "qstat").rc == 0
            pbs.stop()
            assert hanging.wait(60) == 255

    @settings("pbs", [{"first_only": True}], indirect=True)
    def test_the_newest_qstat_prints_one_job(self, pbs: FakePbs) -> None:
        jobs = [submit(pbs, "sleep.pbs") for _ in range(2)]
        answer = shell(pbs, f"qstat -f -F json {' '.join(jobs)}")
        assert list(json.loads(answer.stdout)["Jobs"]) == jobs[:1]

    def test_a_forgotten_job_is_unknown(self, pbs: FakePbs) -> None:
        finished(pbs, "--", "true")
        pbs.forget("0.login1")
        answer = shell(pbs, "qstat -x -f -F json 0")
        assert (answer.rc, answer.stderr) == (153, "qstat: Unknown Job Id 0.login1\n")

    @settings("pbs", [{"history_duration": 0.2}], indirect=True)
    def test_history_ends_by_itself(self, pbs: FakePbs) -> None:
        submit(pbs, "--", "true")
        assert eventually(lambda: not pbs.jobs(), 60)

    def test_an_unknown_option_is_refused(self, pbs: FakePbs) -> None:
        assert "not known to the fake" in shell(pbs, "qstat -Q").stderr

    @settings("pbs", [{"node_fail_requeue": 5}], indirect=True)
    def test_a_lost_primary_host_requeues(self, pbs: FakePbs) -> None:
        again = submit(pbs, "-l", "select=1:ncpus=1", script="sleep 300")
        never = submit(pbs, "-l", "select=1:ncpus=1", "-r", "n", script="sleep 300")
        started(pbs, again, 2)
        started(pbs, never, 2)
        pbs.crash_host(FIRST)
        assert eventually(lambda: not pbs.jobs()[again]["pids"], 60)
        assert pbs.jobs()[again]["job_state"] == "R"
        assert "state = down" in shell(pbs, f"pbsnodes {FIRST}").stdout
        assert pbs.until(never, "F")["Exit_status"] == "265"
        assert eventually(lambda: pbs.jobs()[again].get("run_count") == "2", 60)
        assert pbs.jobs()[again]["exec_host"] == f"{SECOND}/0"

    @settings("pbs", [{"node_fail_requeue": 0.3}], indirect=True)
    def test_a_lost_second_host_ends_the_job(self, pbs: FakePbs) -> None:
        script = "mpiexec -n 2 --hostfile $PBS_NODEFILE sleep 300\nsleep 300"
        job = submit(pbs, "-l", "select=2:ncpus=1", "-l", "place=scatter", script=script)
        started(pbs, job, 7)
        pbs.crash_host(SECOND)
        assert int(pbs.until(job, "F")["Exit_status"]) != 0
        pbs.restore_host(SECOND)
        assert "state = free" in shell(pbs, f"pbsnodes {SECOND}").stdout

    def test_stop_ends_every_process(self, pbs: FakePbs) -> None:
        job = submit(pbs, script="(trap '' TERM; setsid sleep 300) & trap '' TERM; sleep 300; sleep 300")
        pids = started(pbs, job, 4)
        pbs.stop()
        assert not any(map(alive, pids))

    @settings("victim", ["test", "server"])
    def test_a_killed_test_leaves_nothing(self, tmp_path: Path, victim: str) -> None:
        """The server notices that it is alone; the shepherds notice it too should the server be killed."""
        code = f"""if True:
            import subprocess, time
            from pathlib import Path
            from tests.fake_pbs import FakePbs
            fake = FakePbs(Path({str(tmp_path / "other")!r}))
            fake.start()
            subprocess.run([fake.bin / "qsub", "--", "setsid", "sleep", "300"], check=True, stdout=subprocess.DEVNULL)
            while len(fake.jobs()["0.login1"]["pids"]) < 2:
                time.sleep(0.02)
            print(fake.pid, *fake.jobs()["0.login1"]["pids"], flush=True)
            time.sleep(300)"""
        with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE) as test:
            assert test.stdout
            server, *pids = map(int, test.stdout.readline().split())
            os.kill(server if victim == "server" else test.pid, signal.SIGKILL)
            assert eventually(lambda: not any(map(alive, pids)), 60)
            test.kill()
        assert eventually(lambda: not alive(server), 60)
