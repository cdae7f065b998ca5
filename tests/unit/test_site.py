"""Site files: where they are found, what they hold, and which GPUs a machine has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_machine import fake_nvidia_smi
from workflow.config.strict import parse_overrides
from workflow.errors import InputError
from workflow.run import main
from workflow.runtimes import Bind, Options
from workflow.site import Site, find_site, load_site

ROOT = Path(__file__).parents[2]
MINIMAL: dict[str, Any] = {"scheduler": "threads", "gpus": 0}


def write(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def load(directory: Path, overrides: dict[str, Any] | None = None, **changes: Any) -> Site:
    return load_site(write(directory / "here.yaml", {**MINIMAL, **changes}), overrides or {})


def refusal(directory: Path, overrides: dict[str, Any] | None = None, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(directory, overrides, **changes)
    return str(caught.value).replace(f"{directory}/", "")


# -- lookup ----------------------------------------------------------------------------------------------------------


def test_shipped_sites_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_site("local").samefile(ROOT / "sites" / "local.yaml")
    assert find_site("local-threads").samefile(ROOT / "sites" / "local-threads.yaml")


def test_working_directory_goes_before_the_variable_before_the_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("WORKFLOW_SITES", f"{first}:{second}:")
    shipped = find_site("local")
    expected = [shipped]
    for directory in (second, first, tmp_path / "sites"):
        expected.append(write(directory / "local.yaml", MINIMAL))
        assert find_site("local").samefile(expected[-1])
    assert len({path.resolve() for path in expected}) == 4


def test_directories_that_are_not_there_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKFLOW_SITES", f"/no/such/place:{tmp_path / 'mine'}")
    mine = write(tmp_path / "mine" / "polaris.yaml", MINIMAL)
    assert find_site("polaris") == mine


@pytest.mark.parametrize("name", ["x.yaml", "x.yml", "sub/x", "./x.yaml", "/abs/x.yaml", "../x"])
def test_a_path_is_taken_as_it_is(name: str) -> None:
    assert find_site(name) == Path(name)


def test_a_path_is_read_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.yaml", MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert load_site(find_site("mine.yaml"), {}).name == "mine"


@pytest.mark.parametrize("name", ["nowhere", "", ".", "n" * 300])
def test_an_unknown_name_lists_the_known_and_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = write(tmp_path / "mine" / "polaris.yaml", MINIMAL).parent
    monkeypatch.setenv("WORKFLOW_SITES", str(mine))
    with pytest.raises(InputError) as caught:
        find_site(name)
    message = str(caught.value)
    assert message.startswith(f"--site {name}: no such site\n    -> known: ")
    assert {"local", "local-threads", "polaris"} <= set(message.partition("known: ")[2].partition(";")[0].split(", "))
    assert str(mine) in message


def test_a_misspelt_name_is_told_what_was_meant() -> None:
    with pytest.raises(InputError, match=r"--site Local: no such site\n    -> did you mean 'local'\?"):
        find_site("Local")


# -- content ---------------------------------------------------------------------------------------------------------


def test_defaults(tmp_path: Path) -> None:
    assert load(tmp_path) == Site(
        name="here", scheduler="threads", workers=2, gpus=(), gpu_vendor="none", container_command=None,
        address="127.0.0.1", heartbeat_period=5, heartbeat_threshold=20, grace=5.0, poll=0.5, patience=20.0,
        container_pid=False, submissions_per_minute=20, workers_without_gpu=2,
        auto=frozenset({"gpu_vendor", "workers"}),
    )  # fmt: skip


FULL = {
    "name": "my site", "scheduler": "local", "workers": 2, "gpus": ["GPU-a", "GPU-b"], "gpu_vendor": "amd",
    "container_command": "/opt/apptainer", "address": "10.0.0.1", "heartbeat_period": 7, "heartbeat_threshold": 70,
    "grace": 1.5, "poll": 0.25, "patience": 33, "workers_without_gpu": 5,
    "container_pid": True, "submissions_per_minute": 3,
}  # fmt: skip


def test_every_key(tmp_path: Path) -> None:
    assert load(tmp_path, **FULL) == Site(**{**FULL, "gpus": ("GPU-a", "GPU-b")})


@pytest.mark.parametrize(
    "changes",
    [{}, FULL, {"gpus": 4}, {"gpus": 4, "workers": 3}, {"workers_without_gpu": 7}, {"name": "5", "gpus": [7]}],
)
def test_the_copy_of_a_run_gives_the_same_site(tmp_path: Path, changes: dict[str, Any]) -> None:
    site = load(tmp_path, **changes)
    assert load_site(write(tmp_path / "run" / "site.yaml", site.to_yaml()), {}) == site


def test_the_copy_of_a_run_looks_for_gpus_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume may be on another machine, or in an allocation with other GPUs."""
    fake_nvidia_smi(tmp_path, monkeypatch, count=2)
    text = load(tmp_path, gpus="auto").to_yaml()
    assert "# gpus: ['0', '1']\n" in text
    fake_nvidia_smi(tmp_path, monkeypatch, count=8)
    again = load_site(write(tmp_path / "run" / "site.yaml", text), {})
    assert (len(again.gpus), again.workers) == (8, 8)


@pytest.mark.parametrize("name", ["local", "local-threads"])
def test_shipped_sites_load(name: str) -> None:
    site = load_site(ROOT / "sites" / f"{name}.yaml", {})
    assert site.name == name
    assert site.workers >= 1


@pytest.mark.parametrize(
    ("vendor", "flag"), [("nvidia", "--nv"), ("amd", "--rocm"), ("intel", ""), ("none", ""), ("auto", "--nv")]
)
def test_gpu_flag_of_containers(tmp_path: Path, vendor: str, flag: str) -> None:
    site = load(tmp_path, gpus=1, gpu_vendor=vendor)
    assert site.container.gpu_flag == flag
    assert site.container.programs == ("apptainer", "singularity")


def test_no_gpus_no_flag(tmp_path: Path) -> None:
    assert load(tmp_path, gpus=0, gpu_vendor="auto").container.gpu_flag == ""


def test_container_command_of_the_site(tmp_path: Path) -> None:
    assert load(tmp_path, container_command="singularity").container.programs == ("singularity",)


def test_a_path_as_container_command_is_that_of_the_sites_file(tmp_path: Path) -> None:
    """A training has another working directory."""
    site = load(tmp_path, container_command="./bin/apptainer")
    assert site.container.programs == (str(tmp_path / "bin/apptainer"),)
    assert load_site(write(tmp_path / "run" / "site.yaml", site.to_yaml()), {}) == site


def test_a_path_as_container_command_from_the_command_line_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = parse_overrides(["site.container_command=bin/apptainer"])
    assert found == {"site.container_command": str(tmp_path / "bin/apptainer")}
    assert parse_overrides(["site.container_command=apptainer"]) == {"site.container_command": "apptainer"}


def test_settings_change_a_site(tmp_path: Path) -> None:
    site = load(tmp_path, {"workers": 3, "grace": "1e0", "gpus": ["a", "b", "c"]})
    assert (site.workers, site.grace, site.gpus) == (3, 1.0, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("key", "hint"), [("worker", "did you mean 'workers'?"), ("gpu", "did you mean 'gpus'?"), ("walltime", "known: ")]
)
def test_an_unknown_key_lists_the_known(tmp_path: Path, key: str, hint: str) -> None:
    message = refusal(tmp_path, **{key: 1})
    assert message.startswith(f"here.yaml: {key}: is not a known key\n    -> {hint}")
    assert {"name", "scheduler", "workers", "gpus"} <= set(message.partition("known: ")[2].strip().split(", "))


def test_a_wrong_setting_is_named_as_such(tmp_path: Path) -> None:
    assert refusal(tmp_path, {"workers": "x"}).startswith("--set site.workers: 'x'")


def test_an_unknown_key_of_a_setting(tmp_path: Path) -> None:
    assert "--set site.worker: is not a known key" in refusal(tmp_path, {"worker": 1})


WRONG = [
    ("scheduler", "slurmm", "known: slurm, pbs, torque, local, threads"),
    ("scheduler", [1], "write a string"),
    ("workers", 0, "write at least 1"),
    ("workers", "many", "write a whole number"),
    ("workers", 1.5, "write a whole number"),
    ("workers", True, "write a whole number"),
    ("gpus", -1, "write auto, a number of GPUs"),
    ("gpus", "all", "write auto, a number of GPUs"),
    ("gpus", True, "write auto, a number of GPUs"),
    ("gpus", 1.5, "write auto, a number of GPUs"),
    ("gpus", [None], "write auto, a number of GPUs"),
    ("gpus", [""], "write auto, a number of GPUs"),
    ("gpus", ["0", 0], "name each GPU once"),
    ("gpu_vendor", "nvdia", "did you mean 'nvidia'?"),
    ("address", "my host", "IP address"),
    ("container_command", ["apptainer"], "write a string"),
    ("scratch", "/tmp/a,b", "choose a path without ','"),
    ("scratch", "tmp", "write an absolute path"),
    ("heartbeat_period", 0, "write at least 1"),
    ("heartbeat_threshold", "x", "write a whole number"),
    ("grace", -1, "write at least 0"),
    ("poll", 0, "write at least 0.05"),
    ("patience", "x", "write a finite number"),
]


@pytest.mark.parametrize(("key", "value", "remedy"), WRONG)
def test_refusal_names_file_key_value_and_remedy(tmp_path: Path, key: str, value: object, remedy: str) -> None:
    problem, _, hint = refusal(tmp_path, **{key: value}).partition("\n    -> ")
    assert problem.startswith(f"here.yaml: {key}: {value!r} ")
    assert remedy in hint


@pytest.mark.parametrize("data", [{"gpus": 0}, {"gpus": 0, "scheduler": None}])
def test_a_site_without_scheduler(tmp_path: Path, data: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"scheduler: is missing\n    -> one of slurm, pbs, torque, local, threads, globus_compute"
    ):
        load_site(write(tmp_path / "here.yaml", data), {})


@pytest.mark.parametrize("name", ["a\0", "\ud800"])
def test_a_gpu_name_that_no_environment_variable_can_hold(tmp_path: Path, name: str) -> None:
    path = tmp_path / "here.yaml"
    with pytest.raises(InputError, match="gpus"):
        load_site(write(path, yaml.safe_dump({**MINIMAL, "gpus": [name], "workers": 1})), {})


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, scheduler="x", workers=0, gpus=-1, grace=-1, extra=1)
    for key in ("scheduler", "workers", "gpus", "grace", "extra"):
        assert f"here.yaml: {key}: " in message


def test_a_site_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.yaml: cannot be read .*\n    -> check the path of the site"):
        load_site(tmp_path / "none.yaml", {})


# -- GPUs and workers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "gpus"), [(0, ()), (1, ("0",)), (4, ("0", "1", "2", "3"))])
def test_auto_counts_the_gpus_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, gpus: tuple[str, ...]
) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, count)
    site = load(tmp_path, gpus="auto", workers="auto")
    assert site.gpus == gpus
    assert site.workers == (count or 2)
    assert site.gpu_vendor == ("nvidia" if count else "none")


def test_auto_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, 3)
    site = load_site(write(tmp_path / "here.yaml", {"scheduler": "local"}), {})
    assert (site.gpus, site.workers) == (("0", "1", "2"), 3)


@pytest.mark.parametrize("vendor", ["amd", "intel", "none"])
def test_auto_does_not_count_for_other_vendors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, 4)
    assert load(tmp_path, gpus="auto", gpu_vendor=vendor).gpus == ()


@pytest.mark.parametrize(
    ("given", "gpus"), [(0, ()), (3, ("0", "1", "2")), ([], ()), (["a", "b"], ("a", "b")), ([4, "5"], ("4", "5"))]
)
def test_gpus_as_number_or_names(tmp_path: Path, given: object, gpus: tuple[str, ...]) -> None:
    site = load(tmp_path, gpus=given)
    assert site.gpus == gpus
    assert site.workers == (len(gpus) or 2)


@pytest.mark.parametrize(("given", "workers"), [({}, 2), ({"workers_without_gpu": 7}, 7), ({"workers": 5}, 5)])
@pytest.mark.parametrize("auto", [True, False])
def test_workers_of_a_machine_without_gpus(tmp_path: Path, given: dict[str, Any], workers: int, auto: bool) -> None:
    changes = {"workers": "auto", **given} if auto else given
    assert load(tmp_path, **changes).workers == workers


def test_fewer_workers_than_gpus_are_allowed(tmp_path: Path) -> None:
    assert load(tmp_path, gpus=4, workers=2).workers == 2


def test_more_workers_than_gpus_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, gpus=["a", "b"], workers=3)
    assert message.startswith("here.yaml: workers: 3 is more than the GPUs ['a', 'b']\n    -> write at most 2")


def test_more_workers_than_visible_gpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert "workers: 4 is more than the GPUs ['2']" in refusal(tmp_path, gpus="auto", workers=4)


@pytest.mark.parametrize(("workers", "in_flight"), [(1, 2), (2, 3), (16, 17), (64, 68)])
def test_trials_in_flight_are_the_workers_and_a_few(tmp_path: Path, workers: int, in_flight: int) -> None:
    assert load(tmp_path, workers=workers).in_flight == in_flight


@pytest.mark.parametrize(("key", "value"), [("patience", 1), ("heartbeat_threshold", 3)])
def test_a_silence_shorter_than_a_few_beats_is_refused(tmp_path: Path, key: str, value: int) -> None:
    assert f"here.yaml: {key}: " in refusal(tmp_path, **{key: value})


# -- what is added to every call of a container --------------------------------------------------------------------


def test_additions_to_every_call(tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    added = {"extra_args": ["--no-home", 5], "env": {"A": 'x,y "z"', "B": 7}, "binds": ["my data", "/tmp:/scratch:ro"]}
    site = load(tmp_path, **added)
    data = str(tmp_path / "my data")
    assert site.options == Options(("--no-home", "5"), {"A": 'x,y "z"', "B": "7"}, (
        Bind(data, data), Bind("/tmp", "/scratch", read_only=True)
    ))  # fmt: skip
    assert load_site(write(tmp_path / "run" / "site.yaml", site.to_yaml()), {}) == site


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ({"extra_args": "--nv"}, "extra_args: '--nv' is not allowed\n    -> write a list"),
        ({"extra_args": ["a\0"]}, "extra_args: 'a\\x00' holds a NUL"),
        ({"env": {"A B": 1}}, "env.A B: cannot be a variable's name"),
        ({"env": {"A": [1]}}, "env.A: [1] is not allowed"),
        ({"env": ["A=1"]}, "env: is ['A=1'], not a section"),
        ({"binds": ["/tmp:/a:r"]}, "binds: '/tmp:/a:r' is not allowed\n    -> write HOST_PATH, HOST_PATH:"),
        (
            {"binds": ["/tmp:/IMPROVE_DATA_DIR/"]},
            "-> the data directory's place: name it as the experiment's model.data",
        ),
        ({"binds": ["/tmp:/candle_data_dir"]}, "binds: '/tmp:/candle_data_dir' is not allowed"),
        ({"binds": ["/tmp:inside"]}, "binds: '/tmp:inside' is not allowed"),
        ({"binds": ["/nowhere/at/all"]}, "no such file or directory: /nowhere/at/all"),
    ],
)
def test_wrong_additions_are_refused(tmp_path: Path, added: dict[str, Any], problem: str) -> None:
    assert problem in refusal(tmp_path, **added)


@pytest.mark.parametrize(("key", "value"), [("poll", 1e300), ("grace", 1e9), ("patience", 1e9)])
def test_times_without_bounds_are_refused(tmp_path: Path, key: str, value: float) -> None:
    assert f"here.yaml: {key}: {value} is not allowed\n    -> write at most" in refusal(tmp_path, **{key: value})


# -- the address at which workers find the controller ----------------------------------------------------------------

DOCUMENTATION = "203.0.113.9"
"""Nobody's (RFC 5737)."""


def test_an_address_of_another_machine_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    reason = load_site(write(tmp_path / "a.yaml", MINIMAL), {"address": DOCUMENTATION}).foreign_address
    assert f"address {DOCUMENTATION} is not this machine's" in reason and "it has 127.0.0.1" in reason
    for own in ("127.0.0.1", "auto"):
        assert load_site(write(tmp_path / "a.yaml", MINIMAL), {"address": own}).foreign_address == ""


def test_a_run_does_not_begin_at_such_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--site", "local", "--set", f"site.address={DOCUMENTATION}", "--output", "run"]) == 2
    assert "-> set the site's address to one of these" in capsys.readouterr().err
    assert not Path("run").exists()
