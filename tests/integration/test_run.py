"""The command line: exit codes, resuming, dry run, and what a user does wrong."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, TOY, Workflow, eventually, journal, small_disk, toy_space, without_walltime

SHORT = {"num_iterations": 2, "population_size": 4}


def run_threads(workflow: Workflow, *arguments: str | Path, **changes: object) -> subprocess.CompletedProcess[str]:
    experiment = workflow.experiment(**{"search": SHORT, **changes})
    return workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run", *arguments)


def model(workflow: Workflow, **scripts: str) -> dict[str, str]:
    """The toy model with some of its scripts replaced by a bash text."""
    directory = workflow.directory / "model"
    shutil.copytree(TOY, directory, dirs_exist_ok=True)
    for name, text in scripts.items():
        path = directory / f"{name}.sh"
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    return {"scripts": str(directory)}


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flow = Workflow(tmp_path_factory.mktemp("finished"), "finished")
    assert run_threads(flow).returncode == 0
    return flow.directory / "run"


@pytest.fixture
def finished(workflow: Workflow, finished_once: Path) -> Workflow:
    """A workflow with a copy of a run that has ended."""
    shutil.copytree(finished_once, workflow.directory / "run")
    return workflow


def test_a_campaign_leaves_what_the_readme_says(workflow: Workflow) -> None:
    done = run_threads(workflow)
    assert done.returncode == 0, done.stdout
    run = workflow.directory / "run"
    names = {"experiment.yaml", "site.yaml", "space.json", "journal.jsonl", "hpo.csv", "best.json", "summary.json"}
    assert names <= {path.name for path in run.iterdir()}
    attempt = run / "trials" / "0000" / "attempt-1"
    assert {"command.sh", "model.log", "result.json"} <= {path.name for path in attempt.iterdir()}
    summary = json.loads((run / "summary.json").read_text())
    assert summary["complete"] and summary["test_scores"] == {"mse": 0.5}
    assert 0 < summary["utilization"] <= 1
    assert (run / "hpo.csv").read_text().startswith("iteration,sample,x,y,metric,result,walltime\n001,0000,")
    assert not (run / "controller.lock").exists()


def test_the_command_of_a_trial_runs_again_by_hand(workflow: Workflow) -> None:
    assert run_threads(workflow).returncode == 0
    attempt = workflow.directory / "run/trials/0000/attempt-1"
    before = (attempt / "argv.json").read_text()
    (attempt / "argv.json").unlink()
    subprocess.run([attempt / "command.sh"], check=True)
    assert (attempt / "argv.json").read_text() == before


def test_the_dry_run_can_be_pasted_into_a_shell(workflow: Workflow) -> None:
    experiment = workflow.experiment()
    output = workflow.directory / "it's a run"
    done = workflow.run("--site", "local", "--experiment", experiment, "--dry-run", "--output", output)
    assert done.returncode == 0, done.stdout
    assert not output.exists()
    subprocess.run(["bash", "-euc", done.stdout], check=True, cwd=workflow.directory)
    assert (output / "trials/0000/attempt-1/val_scores.json").exists()
    assert (output / "infer/attempt-1/test_scores.json").exists()


def test_no_success_is_exit_code_4(workflow: Workflow) -> None:
    done = run_threads(workflow, model=model(workflow, train="echo broken by design; exit 3"))
    assert done.returncode == 4
    assert "broken by design" in done.stdout
    rows = (workflow.directory / "run/hpo.csv").read_text().splitlines()[1:]
    assert rows and all(row.split(",")[-2] == "" for row in rows)


def test_a_failed_preprocess_is_exit_code_5_and_resumable(workflow: Workflow) -> None:
    done = run_threads(workflow, model=model(workflow, preprocess="echo no data here >&2; exit 1"))
    assert done.returncode == 5
    assert "preprocess failed" in done.stdout and "no data here" in done.stdout
    model(workflow, preprocess="exit 0")
    done = workflow.run("--resume", "run")
    assert done.returncode == 0, done.stdout


def test_a_missing_command_stops_the_campaign_at_its_first_trial(workflow: Workflow) -> None:
    done = run_threads(workflow, model=model(workflow, train="no-such-command"), search={"population_size": 50})
    assert done.returncode == 5
    assert "no-such-command" in done.stdout
    assert sum(r["type"] == "attempt" and r["trial"] != "preprocess" for r in journal(workflow.directory / "run")) <= 3


def test_a_failed_inference_loses_no_search(workflow: Workflow) -> None:
    done = run_threads(workflow, model=model(workflow, infer="echo cannot infer; exit 1"))
    assert done.returncode == 5 and "cannot infer" in done.stdout
    before = (workflow.directory / "run/hpo.csv").read_text()
    model(workflow, infer='exec python3 -S "$(dirname "$0")/toy.py" infer "$@"')
    done = workflow.run("--resume", "run")
    assert done.returncode == 0, done.stdout
    assert (workflow.directory / "run/hpo.csv").read_text() == before
    assert json.loads((workflow.directory / "run/summary.json").read_text())["test_scores"] == {"mse": 0.5}


def test_a_trial_without_its_metric_fails_and_ranks_last(workflow: Workflow) -> None:
    train = '[ $((RANDOM % 2)) = 0 ] && echo "IMPROVE_RESULT val_loss: nan" || echo "IMPROVE_RESULT val_loss: 1e-3"'
    changed = model(workflow, train=train)
    settings = ("--set", "same_failures=0")  # the first five fail alike once in 32 times
    done = run_threads(workflow, *settings, model=changed, stages={"train": {}}, search={"population_size": 20})
    assert done.returncode == 0, done.stdout
    assert json.loads((workflow.directory / "run/summary.json").read_text())["best_value"] == 1e-3


@pytest.mark.parametrize("strategy", ["mu_plus_lambda", "async"])
def test_several_objectives_from_end_to_end(workflow: Workflow, strategy: str) -> None:
    """The front lies in the tables, the first objective's best is the winner, and reused results keep their times."""
    objectives = ["val_loss min", "size min", "walltime min"]
    done = run_threads(workflow, search={**SHORT, "strategy": strategy}, objectives=objectives)
    assert done.returncode == 0, done.stdout
    run = workflow.directory / "run"
    summary = json.loads((run / "summary.json").read_text())
    front = summary["pareto_front"]
    assert front[0]["trial"] == summary["best_trial"]
    assert all(set(entry["values"]) == {"val_loss", "size", "walltime"} for entry in front)
    assert all(entry["values"]["size"] == entry["params"]["x"] for entry in front)
    assert all(entry["values"]["walltime"] > 0 for entry in front)
    header, *rows = [line.split(",") for line in (run / "hpo.csv").read_text().splitlines()]
    assert header[-3:] == ["result_size", "result_walltime", "pareto"]
    assert sum(row[-1] == "1" for row in rows) == len(front)
    assert f"Pareto front: {len(front)} of {len(rows)} trials" in done.stdout
    assert workflow.run("--resume", "run").returncode == 0
    settings = ("--site", "local-threads", "--experiment", workflow.directory / "experiment.yaml", "--output", "again")
    again = workflow.run(*settings, "--set", "reuse=run")
    assert again.returncode == 0, again.stdout
    second = json.loads((workflow.directory / "again/summary.json").read_text())
    assert second["trials"]["reused"] > 0
    assert all(entry["values"]["walltime"] > 0 for entry in second["pareto_front"])
    settings = (*settings[:-1], "third", "--set", "reuse=run", "--set", "objectives=[val_loss min, size min]")
    assert workflow.run(*settings).returncode == 0
    assert json.loads((workflow.directory / "third/summary.json").read_text())["trials"]["reused"] == 0
    other = workflow.run("--resume", "run", "--set", "objectives=[val_loss min]")
    assert other.returncode == 2 and "objectives" in other.stdout


def test_resuming_a_finished_run_does_nothing(finished: Workflow) -> None:
    before = len(list((finished.directory / "run/trials").glob("*/attempt-*")))
    done = finished.run("--resume", "run")
    assert done.returncode == 0 and "best" in done.stdout
    assert len(list((finished.directory / "run/trials").glob("*/attempt-*"))) == before


def test_a_larger_budget_extends_a_finished_run_as_if_it_had_been_there(finished: Workflow) -> None:
    done = finished.run("--resume", "run", "--set", "search.num_iterations=4")
    assert done.returncode == 0, done.stdout
    experiment = finished.experiment(search={**SHORT, "num_iterations": 4})
    assert finished.run("--site", "local", "--experiment", experiment, "--output", "long").returncode == 0
    tables = [(finished.directory / name / "hpo.csv").read_text() for name in ("run", "long")]
    assert without_walltime(tables[0]) == without_walltime(tables[1])


@pytest.mark.parametrize("change", ["search.seed=2", "objective.mode=max", "search.population_size=8"])
def test_a_resume_with_another_definition_is_refused_with_the_difference(finished: Workflow, change: str) -> None:
    done = finished.run("--resume", "run", "--set", change)
    assert done.returncode == 2
    assert change.partition("=")[0] in done.stdout and "->" in done.stdout


def test_a_resume_may_move_to_another_site(finished: Workflow) -> None:
    done = finished.run("--resume", "run", "--site", "local", "--set", "search.num_iterations=3")
    assert done.returncode == 0, done.stdout


def test_a_second_controller_is_refused_while_the_first_lives(workflow: Workflow) -> None:
    go = workflow.directory / "go"
    experiment = workflow.experiment(space=toy_space(until=go), search={**SHORT, "num_iterations": 1})
    first = workflow.start("--site", "local-threads", "--experiment", experiment, "--output", "run")
    assert eventually((workflow.directory / "run/journal.jsonl").exists, 30)
    second = workflow.run("--resume", "run")
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stdout
    go.touch()
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 0, output


def test_a_controller_that_cannot_start_says_that_it_began(workflow: Workflow) -> None:
    """Else the time since the one before it would count as work."""
    run = workflow.directory / "run"
    assert run_threads(workflow, search=SHORT).returncode == 0
    shutil.rmtree(run / "parsl")
    (run / "parsl").touch()
    done = workflow.run("--resume", "run", "--set", "search.num_iterations=3")
    assert done.returncode == 3 and "parsl: cannot be made" in done.stdout, done.stdout
    assert [record["type"] for record in journal(run)][-2:] == ["resumed", "ended"]


def test_a_full_disk_stops_the_run_and_room_resumes_it(workflow: Workflow) -> None:
    disk = workflow.directory / "disk"
    experiment = workflow.experiment(search={"num_iterations": 4, "population_size": 8})
    with small_disk(disk):
        filler = disk / "filler"
        filler.write_bytes(b"\0" * 400_000)
        begin = ("--site", "local-threads", "--experiment", experiment, "--set", "site.patience=6", "--output")
        done = workflow.run(*begin, disk / "run")
        assert done.returncode == 3, done.stdout
        assert "No space left" in done.stdout and "Traceback" not in done.stdout
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        done = workflow.run("--resume", disk / "run")
        assert done.returncode == 0, done.stdout
        broken = without_walltime((disk / "run/hpo.csv").read_text())
    done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run")
    assert broken == without_walltime((workflow.directory / "run/hpo.csv").read_text())


def test_a_corrupt_line_is_named_and_its_trial_recovered(finished: Workflow) -> None:
    run = finished.directory / "run"
    before = without_walltime((run / "hpo.csv").read_text())
    lines = (run / "journal.jsonl").read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if '"type":"outcome"' in line)
    lines[number] = lines[number][:20] + "\x00garbage"
    (run / "journal.jsonl").write_text("\n".join(lines) + "\n")
    done = finished.run("--resume", "run")
    assert done.returncode == 0, done.stdout
    assert f"line {number + 1} is corrupt" in done.stdout
    assert without_walltime((run / "hpo.csv").read_text()) == before
    assert len(list((run / "trials").glob("*/attempt-2"))) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--site", "local"]),
        (["--site", "nowhere"], ["nowhere", "known:", "local-threads"]),
        (["--site", "local", "--experiment", "none.yaml"], ["none.yaml", "cannot be read"]),
        (["--site", "local", "--set", "search.population=3"], ["search.population", "population_size"]),
        (["--site", "local", "--set", "site.worker=3"], ["worker", "workers"]),
        (["--site", "local", "--set", "nonsense"], ["nonsense", "key=value"]),
        (["--resume", "nothing"], ["nothing", "not a run"]),
        (["--resume", "nothing", "--output", "x"], ["--output", "--resume"]),
        (["--site", "local", "--output", "taken"], ["taken", "exists already"]),
    ],
)
def test_mistakes_are_exit_code_2_with_a_remedy(workflow: Workflow, arguments: list[str], words: list[str]) -> None:
    (workflow.directory / "taken").mkdir()
    (workflow.directory / "taken" / "file").touch()
    done = workflow.run(*arguments)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    for word in words:
        assert word in done.stdout
    assert not (workflow.directory / "runs").exists()


def test_a_missing_script_is_found_before_anything_starts(workflow: Workflow) -> None:
    changed = model(workflow)
    (Path(changed["scripts"]) / "infer.sh").unlink()
    (Path(changed["scripts"]) / "train.sh").chmod(0o644)
    done = run_threads(workflow, model=changed)
    assert done.returncode == 2
    assert "infer.sh" in done.stdout and "chmod +x" in done.stdout
    assert not (workflow.directory / "run").exists()


def test_quiet_says_nothing(workflow: Workflow) -> None:
    done = run_threads(workflow, "--quiet")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_pages_sample_file_runs_as_it_is(workflow: Workflow) -> None:
    """Also with its "<train_data_dir>" not filled in: preprocess's output takes its place."""
    sample = json.loads((ROOT / "configs/spaces/improve_sample.json").read_text())
    for entry in sample:
        if entry["name"].endswith("dir"):
            entry["value"] = "<somewhere>"
    done = run_threads(workflow, space=sample)
    assert done.returncode == 0, done.stdout
    argv = json.loads((workflow.directory / "run/trials/0000/attempt-1/argv.json").read_text())
    expected = str(workflow.directory / "run/preprocess/attempt-1")
    assert argv[argv.index("--train_ml_data_dir") + 1] == expected


def test_every_shipped_experiment_loads(workflow: Workflow) -> None:
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        done = workflow.run("--site", "local", "--experiment", path, "--dry-run")
        assert done.returncode == 0, done.stdout
        assert yaml.safe_load(path.read_text())["name"]


def test_a_terminated_start_is_an_interruption(workflow: Workflow) -> None:
    """Also before there is a campaign: exit code 130, and nothing left behind."""
    initial = workflow.directory / "initial.csv"
    os.mkfifo(initial)  # the start waits for its writer
    experiment = workflow.experiment(search={**SHORT, "initial_population": str(initial)})
    process = workflow.start("--site", "local-threads", "--experiment", experiment, "--output", "run")
    with initial.open("w"):  # the reader has come
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "interrupted\n")
    assert not list(workflow.directory.glob(".run*")) and not (workflow.directory / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_amid_the_imports_is_an_interruption(workflow: Workflow, number: signal.Signals) -> None:
    """They take a second; a module that sends the signal stands for one of them."""
    (workflow.directory / "yaml.py").write_text(f"import os, time\nos.kill(os.getpid(), {number:d})\ntime.sleep(60)\n")
    done = workflow.run("--site", "local", env={"PYTHONPATH": f"{workflow.directory}:{ROOT}"})
    assert (done.returncode, done.stdout) == (130, "interrupted\n")


def test_an_interrupt_within_an_exec_ends_with_the_same_code(workflow: Workflow) -> None:
    """As within that of a dataclass which is being imported: Python would kill itself at the exit."""
    lazy = f"import os\nexec('os.kill(os.getpid(), {signal.SIGINT:d})\\nfor _ in range(10**9): pass')\n"
    (workflow.directory / "parsl.py").write_text(lazy)
    experiment = workflow.experiment(search=SHORT)
    env = {"PYTHONPATH": f"{workflow.directory}:{ROOT}", "OPENBLAS_NUM_THREADS": "2"}  # threads that see signals, too
    done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run", env=env)
    assert (done.returncode, done.stdout) == (130, "interrupted\n")


def test_an_image_that_cannot_be_used_leaves_no_run(workflow: Workflow) -> None:
    """The same command has to work once the image is mended."""
    image = workflow.directory / "model.sif"
    image.write_text("no image")
    experiment = workflow.experiment(model={"image": str(image)})
    for options in ((), (), ("--dry-run",)):
        done = workflow.run("--site", "local", "--experiment", experiment, "--output", "run", *options)
        assert done.returncode == 2, done.stdout
        assert done.stdout.startswith(f"error: {experiment}: model.image: {image}: is no SIF image"), done.stdout
        assert not (workflow.directory / "run").exists()


def test_a_start_that_fails_leaves_no_draft(workflow: Workflow) -> None:
    disk = workflow.directory / "disk"
    experiment = workflow.experiment(space=[*toy_space(), {"name": "big", "type": "constant", "value": "x" * 90_000}])
    with small_disk(disk):
        (disk / "filler").write_bytes(b"\0" * 520_000)
        done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", disk / "run")
        assert done.returncode == 2 and "cannot be made (No space left" in done.stdout, done.stdout
        assert [path.name for path in disk.iterdir()] == ["filler"]


def test_the_dry_run_takes_the_program_that_is_installed(workflow: Workflow) -> None:
    (workflow.directory / "bin").mkdir()
    program = workflow.directory / "bin" / "singularity"
    program.write_text("#!/bin/bash\n")
    program.chmod(0o755)
    image = workflow.directory / "model"
    (image / ".singularity.d").mkdir(parents=True)
    experiment = workflow.experiment(model={"image": str(image)})
    env = {"PATH": str(program.parent)}
    done = workflow.run("--site", "local", "--experiment", experiment, "--dry-run", env=env)
    assert done.stdout.count("singularity exec") == 3 and "apptainer" not in done.stdout


def test_first_trials_that_fail_alike_stop_the_campaign(workflow: Workflow) -> None:
    """Exit code 5 with the end of a log; once the model is mended, the resume runs the trials again."""
    changed = model(workflow, train=r"printf '\e[31mno file /data/%s\e[0m\n' $RANDOM; echo more >&2; exit 3")
    done = run_threads(workflow, model=changed, search={"num_iterations": 2, "population_size": 8})
    assert done.returncode == 5, done.stdout
    assert "first 5 trials failed alike" in done.stdout and "\n    | no file /data/" in done.stdout
    assert "attempt-1/model.log" in done.stdout and "\x1b" not in done.stdout
    model(workflow)
    resumed = workflow.run("--resume", "run")
    assert resumed.returncode == 0, resumed.stdout
    assert len(list((workflow.directory / "run/trials/0000").iterdir())) == 2


def test_results_of_an_earlier_run_are_reused(workflow: Workflow) -> None:
    """Same model, data and hyperparameters: nothing is trained again, and the winner's model is found where it is."""
    assert run_threads(workflow).returncode == 0
    experiment = workflow.experiment(search=SHORT)
    again = ("--site", "local-threads", "--experiment", experiment, "--set", "reuse=run", "--output")
    done = workflow.run(*again, "again")
    assert done.returncode == 0, done.stdout
    first, second = (json.loads((workflow.directory / name / "summary.json").read_text()) for name in ("run", "again"))
    assert second["trials"]["reused"] == second["trials"]["ok"] == first["trials"]["ok"]
    assert not (workflow.directory / "again" / "trials").exists()
    assert second["best_directory"] == first["best_directory"] and second["test_scores"] == {"mse": 0.5}
    assert "were taken from earlier runs" in done.stdout
    outcome = next(r["outcome"] for r in journal(workflow.directory / "again") if r["type"] == "outcome")
    assert outcome["evidence"] == f"reused from {workflow.directory / 'run'}, trial 0"
    tables = [without_walltime((workflow.directory / name / "hpo.csv").read_text()) for name in ("run", "again")]
    assert tables[0] == tables[1]
    third = workflow.run(*again, "third", "--set", "reuse=[run, again]", "--set", "stages.train.args.extra=1")
    assert json.loads((workflow.directory / "third/summary.json").read_text())["trials"]["reused"] == 0, third.stdout


@pytest.mark.parametrize("what", ["the scripts", "the data", "nothing"])
def test_results_of_another_model_or_data_are_not_reused(workflow: Workflow, what: str) -> None:
    changed = model(workflow)
    data = workflow.directory / "data"
    data.mkdir()
    (data / "table.csv").write_text("1,2\n")
    changed["data_dir"] = str(data)
    assert run_threads(workflow, model=changed, stages={"train": {}}).returncode == 0
    if what == "the scripts":
        with (Path(changed["scripts"]) / "train.sh").open("a") as file:
            file.write("# another model\n")
    if what == "the data":
        (data / "table.csv").write_text("1,3\n")
    experiment = workflow.experiment(model=changed, search=SHORT, stages={"train": {}})
    arguments = ("--site", "local-threads", "--experiment", experiment, "--output", "again", "--set", "reuse=run")
    done = workflow.run(*arguments)
    reused = json.loads((workflow.directory / "again/summary.json").read_text())["trials"]["reused"]
    assert (reused > 0) == (what == "nothing"), done.stdout
    assert ("with another model, data or arguments" in done.stdout) == (what != "nothing")


@pytest.mark.parametrize("ignored", ["HUP", "INT"])
def test_a_signal_that_was_ignored_stays_ignored(workflow: Workflow, ignored: str) -> None:
    """As under nohup, and in the background of a script."""
    experiment = workflow.experiment(space=toy_space(sleep=1), search={"num_iterations": 1, "population_size": 2})
    command = f"trap '' {ignored}; exec {shlex.join([sys.executable, '-m', 'workflow.run'])} "
    arguments = shlex.join(["--site", "local-threads", "--experiment", str(experiment), "--output", "run"])
    env = {**os.environ, "PYTHONPATH": str(ROOT), "WORKFLOW_TEST_MARKER": workflow.marker}
    process = subprocess.Popen(["bash", "-c", command + arguments], cwd=workflow.directory, env=env)
    assert eventually(lambda: any((workflow.directory / "run").glob("trials/*/*/argv.json")), 60)
    process.send_signal(getattr(signal, f"SIG{ignored}"))
    assert process.wait(60) == 0


@pytest.mark.parametrize("option", ["--output", "--resume"])
@pytest.mark.parametrize("path", ["x" * 300, "file/run", b"\xff"], ids=["too long", "below a file", "not UTF-8"])
def test_paths_that_no_run_can_have(workflow: Workflow, option: str, path: str | bytes) -> None:
    (workflow.directory / "file").touch()
    command = [sys.executable, "-m", "workflow.run", option, path]
    if option == "--output":
        command += ["--site", "local", "--experiment", str(workflow.experiment())]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=workflow.directory, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "->" in done.stderr, done.stderr


def test_the_working_directory_can_be_the_run(workflow: Workflow) -> None:
    here = workflow.directory / "here"
    here.mkdir()
    arguments = ("--site", "local-threads", "--experiment", workflow.experiment(search=SHORT), "--output", ".")
    done = workflow.run(*arguments, cwd=here)
    assert done.returncode == 0 and (here / "summary.json").exists(), done.stdout


def test_output_that_cannot_say_it(workflow: Workflow) -> None:
    """A terminal without umlauts, a closed standard output."""
    arguments = ["--site", "local-threads", "--experiment", str(workflow.experiment(search=SHORT)), "--output"]
    done = workflow.run(*arguments, "ünï", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and "\\xfcn\\xef" in done.stdout, done.stdout
    command = shlex.join([sys.executable, "-m", "workflow.run", *arguments, "closed"])
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(["bash", "-c", f"{command} >&-"], cwd=workflow.directory, env=env).returncode == 0


def test_runs_that_start_in_the_same_second(workflow: Workflow) -> None:
    experiment = workflow.experiment(search={"num_iterations": 1, "population_size": 1}, stages={"train": {}})
    started = [workflow.start("--site", "local-threads", "--experiment", experiment) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert len(list((workflow.directory / "runs").iterdir())) == 4


def test_no_run_directory_half_made(workflow: Workflow) -> None:
    locked = workflow.directory / "file"
    locked.touch()
    done = workflow.run("--site", "local", "--experiment", workflow.experiment(), "--output", locked / "run")
    assert done.returncode == 2
    assert f"--output {locked / 'run'}: {locked} is no directory" in done.stdout
    assert not list(workflow.directory.glob(".*"))


def test_an_empty_disk_can_be_the_run(workflow: Workflow) -> None:
    """Nothing can be moved into it from its parent."""
    disk = workflow.directory / "disk"
    with small_disk(disk, "50m"):
        (disk / "lost+found").mkdir()
        arguments = ("--site", "local-threads", "--experiment", workflow.experiment(search=SHORT), "--output", disk)
        done = workflow.run(*arguments)
        assert done.returncode == 0 and (disk / "summary.json").exists(), done.stdout
        assert not list(disk.glob(".*"))


def test_a_reader_that_went_away_does_not_end_the_campaign(workflow: Workflow) -> None:
    """``| head -1``, a closed terminal, a full disk behind the output."""
    experiment = workflow.experiment(search=SHORT)
    arguments = ("--site", "local-threads", "--experiment", experiment, "--output")
    with Path("/dev/full").open("w") as full:
        assert workflow.run(*arguments, "full", stdout=full, stderr=subprocess.PIPE).returncode == 0
    piped = workflow.start(*arguments, "piped")
    assert piped.stdout is not None
    piped.stdout.readline()
    piped.stdout.close()
    assert piped.wait(timeout=60) == 0
    for name in ("full", "piped"):
        assert json.loads((workflow.directory / name / "summary.json").read_text())["complete"]


def test_what_a_resume_changes_holds_for_the_next_one(finished: Workflow) -> None:
    assert finished.run("--resume", "run", "--set", "search.num_iterations=4").returncode == 0
    before = (finished.directory / "run/summary.json").read_text()
    refused = finished.run("--resume", "run", "--set", "search.num_iterations=1")
    assert refused.returncode == 2 and "write at least" in refused.stdout
    assert (finished.directory / "run/summary.json").read_text() == before
    again = finished.run("--resume", "run")
    assert again.returncode == 0, again.stdout
    assert len(json.loads((finished.directory / "run/summary.json").read_text())["generations"]) == 4


# -- what results belong to ------------------------------------------------------------------------------------------


def own_model(directory: Path, value: str) -> Path:
    model = directory / "model"
    model.mkdir(exist_ok=True)
    (model / "train.sh").write_text(f"#!/bin/bash\necho IMPROVE_RESULT val_loss: {value}\n")
    (model / "train.sh").chmod(0o755)
    return model


def test_a_resume_with_other_scripts_says_so(workflow: Workflow) -> None:
    """Scripts are mended in place; files beside the code may change."""
    model = own_model(workflow.directory, "0.5")
    search = {"strategy": "random", "evaluations": 2}
    experiment = workflow.experiment(model={"scripts": str(model)}, stages={"train": {}}, search=search)
    done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run")
    assert done.returncode == 0, done.stdout
    (model / "notes.txt").write_text("beside the code")
    assert "warning" not in workflow.run("--resume", "run", "--set", "search.evaluations=4").stdout
    own_model(workflow.directory, "0.1")
    changed = workflow.run("--resume", "run", "--set", "search.evaluations=6")
    assert changed.returncode == 0 and "warning: the results so far came from scripts" in changed.stdout
    assert "warning" not in workflow.run("--resume", "run", "--set", "search.evaluations=8").stdout
    more = ("--resume", "run", "--set", "search.evaluations=9", "--set", "stages.train.args.bias=1", "--quiet")
    assert "warning: what trainings get beside their hyperparameters" in workflow.run(*more).stdout
    assert workflow.run(*more).stdout == ""


@pytest.mark.parametrize("key", ["model.env.VALUE", "site.env.VALUE"])
def test_results_are_not_reused_with_another_environment(workflow: Workflow, key: str) -> None:
    model = own_model(workflow.directory, "${VALUE:-0.5}")
    search = {"strategy": "random", "evaluations": 2}
    experiment = workflow.experiment(model={"scripts": str(model)}, stages={"train": {}}, search=search)
    start = ["--site", "local-threads", "--experiment", experiment, "--output"]
    assert workflow.run(*start, "first").returncode == 0
    again = workflow.run(*start, "again", "--set", "reuse=[first]")
    assert "2 of them were taken from earlier runs" in again.stdout, again.stdout
    other = workflow.run(*start, "other", "--set", "reuse=[first]", "--set", f'{key}="0.125"')
    assert other.returncode == 0 and "best val_loss: 0.125" in other.stdout, other.stdout


def test_results_on_the_disk_are_not_paired_with_another_search(workflow: Workflow) -> None:
    """Without the journal, trials are known by their numbers alone, which mean nothing to another seed."""
    experiment = workflow.experiment(search={"strategy": "random", "evaluations": 3, "seed": 1})
    done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run")
    assert done.returncode == 0, done.stdout
    table = (workflow.directory / "run/hpo.csv").read_text()
    (workflow.directory / "run/journal.jsonl").unlink()
    refused = workflow.run("--resume", "run", "--set", "search.seed=2")
    assert refused.returncode == 2 and "seed" in refused.stdout, refused.stdout
    assert workflow.run("--resume", "run").returncode == 0
    assert (workflow.directory / "run/hpo.csv").read_text() == table


def test_a_budget_ends_a_campaign_well_and_a_larger_one_goes_on(workflow: Workflow) -> None:
    done = run_threads(workflow, "--set", "search.target=1e9")
    assert done.returncode == 0, done.stdout
    assert "at most 6 trials, val_loss <= 1e+09" in done.stdout
    assert "the search ended early: trial" in done.stdout and "has reached the target" in done.stdout
    summary = json.loads((workflow.directory / "run/summary.json").read_text())
    assert summary["complete"] and summary["test_scores"] == {"mse": 0.5}
    assert summary["message"].endswith("has reached the target, val_loss <= 1e+09")
    before = summary["trials"]
    assert workflow.run("--resume", "run").returncode == 0
    assert json.loads((workflow.directory / "run/summary.json").read_text())["trials"] == before
    done = workflow.run("--resume", "run", "--set", "search.target=null")
    assert done.returncode == 0, done.stdout
    after = json.loads((workflow.directory / "run/summary.json").read_text())
    assert after["trials"]["ok"] > before["ok"] and after["message"] == ""
