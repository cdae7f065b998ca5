"""What each module may import: rooms in their order, pure modules stay pure, and Parsl stays behind a few."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "workflow"
TEMPLATE = PACKAGE / "model_template"

PAGE = (PACKAGE / "ARCHITECTURE.md").read_text()
ROOMS = [
    [name for line in re.findall(r"^\| (`.*?) \|", room, flags=re.M) for name in re.findall(r"`([\w.]+)`", line)]
    for room in PAGE.split("\n## The rooms\n")[1].split("\n## ")[0].split("\n### ")[1:]
]
"""The modules of each room, in the page's order: a module imports from its own room and from those before it."""

FLOOR = {name: number for number, room in enumerate(ROOMS) for name in room}

PARSL = ("parsl", "globus_compute_sdk")
MAY_IMPORT_PARSL = {
    "cluster.apps", "cluster.backend", "cluster.executors", "cluster.kernel", "cluster.providers", "globus.backend",
    "globus.service",
}  # fmt: skip

SEARCHES = {module for module in FLOOR if module.partition(".")[0] == "search"}
PURE = {
    "arguments", "durations", "errors", "expressions", "finals", "metrics", "outcomes", "parameters", "ranking",
    "relations", "remedies", "report.snapshot", "report.tally", "retries", "runtimes", "space", "stages", "state",
    "stopping", "triage", "trial", "worker.contract", *SEARCHES,
}  # fmt: skip
# fmt: off
IMPURE = {
    "asyncio", "datetime", "glob", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select",
    "shutil", "socket", "sqlite3", "subprocess", "tempfile", "threading", "time", "uuid",
}
# fmt: on
NUMPY_RANDOM = {"Generator", "PCG64", "SeedSequence"}
"""What pure modules use of numpy.random: nothing with a global state."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if TEMPLATE not in path.parents}
each_module = pytest.mark.parametrize("module", MODULES)


def imports(path: Path) -> Iterator[str]:
    """Every import of a file at any depth, as ``package.module.name``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_levels(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def own_imports(path: Path) -> set[str]:
    """Names of the modules of this package that a file imports; "" for the package itself."""
    found = set()
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "workflow":
            found.add(rest if rest in MODULES else rest.rpartition(".")[0])
    return found


def test_modules_are_found() -> None:
    assert {"", "campaign", "search.genetic", "report.tables"} <= MODULES.keys()
    assert own_imports(PACKAGE / "report" / "attempts.py") == {
        "attempt", "curves", "errors", "report.tally", "rundir", "worker.contract"
    }  # fmt: skip


def test_every_module_has_one_place_in_one_room() -> None:
    named = [name for room in ROOMS for name in room]
    holding = {name for name, path in MODULES.items() if len(ast.parse(path.read_text()).body) > 1}
    assert sorted(named) == sorted(holding - {""})


ACROSS = {"bench_search", "deap", "examples", "imports", "malformed", "model_template", "simulation", "site_files"}
"""Unit tests of what is no module, or of many."""


def test_each_file_of_unit_tests_has_the_name_of_its_module() -> None:
    """With its package before it where two modules have one name."""
    names = {name.rpartition(".")[2] for name in MODULES} | {name.replace(".", "_") for name in MODULES}
    files = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "unit").rglob("test_*.py")}
    assert files - names == ACROSS


@each_module
def test_module_imports_what_the_design_allows(module: str) -> None:
    floor = FLOOR.get(module, len(ROOMS))  # packages hold nothing, but for what notebooks need
    assert own_imports(MODULES[module]) - {""} <= FLOOR.keys(), "a module without a line in ARCHITECTURE.md"
    assert {name for name in own_imports(MODULES[module]) - {""} if FLOOR[name] > floor} == set()


def test_searches_know_the_space_and_nothing_of_the_world() -> None:
    found = {name for module in SEARCHES for name in own_imports(MODULES[module])} - SEARCHES
    assert found == {"errors", "parameters", "space", "trial"}


@each_module
def test_only_modules_where_it_runs_import_parsl(module: str) -> None:
    if module not in MAY_IMPORT_PARSL:
        assert not top_levels(MODULES[module]) & set(PARSL)


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_have_no_input_or_output(module: str) -> None:
    assert not top_levels(MODULES[module]) & IMPURE
    calls = {node.func.id for node in walk(module, ast.Call) if isinstance(node.func, ast.Name)}
    assert not calls & {"open", "print", "input", "exec", "eval"}
    assert not walk(module, ast.Global)
    assert attributes(module, "sys") <= {"float_info", "intern", "maxsize"}


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_draw_from_generators_only(module: str) -> None:
    assert attributes(module, "np.random") <= NUMPY_RANDOM
    assert not attributes(module, "numpy")


def attributes(module: str, name: str) -> set[str]:
    """What a module uses of ``name``."""
    return {node.attr for node in walk(module, ast.Attribute) if ast.unparse(node.value) == name}


def walk(module: str, kind: type[ast.AST]) -> list[ast.AST]:
    return [node for node in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(node, kind)]


@pytest.mark.parametrize("module", ["supervise", "globus.remote", *(m for m in MODULES if m.startswith("worker"))])
def test_what_runs_on_workers_imports_the_standard_library_alone(module: str) -> None:
    """They run as files or text on workers where nothing is installed."""
    assert {name.partition(".")[0] for name in own_imports(MODULES[module])} <= {"worker"}
    assert top_levels(MODULES[module]) - {"workflow"} <= sys.stdlib_module_names


@each_module
def test_nothing_imports_the_command_line(module: str) -> None:
    assert "run" not in own_imports(MODULES[module])


@pytest.mark.parametrize("path", sorted(TEMPLATE.glob("*.py")), ids=lambda path: path.name)
def test_example_model_knows_nothing_of_the_workflow(path: Path) -> None:
    """It stands for any model: its scripts import each other, never the package that runs it."""
    assert not top_levels(path) & {"workflow", *PARSL}


def loaded(code: str) -> set[str]:
    """Top-level packages in memory after the code ran in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "module", ["workflow", "workflow.run", "workflow.config.load", "workflow.site", "workflow.campaign"]
)
def test_import_loads_no_parsl(module: str) -> None:
    found = loaded(f"import {module}")
    assert "workflow" in found
    assert not found & set(PARSL)


def test_optuna_is_imported_by_its_own_strategy_alone() -> None:
    asks = (
        "from workflow.search import *; from workflow.space_file import parse_space as p; "
        "import workflow.config.load; "
        "make_search(p([{'name': 'a', 'type': 'logical'}], ''), SearchSettings(strategy='%s')).ask()"
    )
    assert "optuna" not in loaded(asks % "async")
    assert "optuna" in loaded(asks % "optuna")


def test_status_is_quick_to_start() -> None:
    assert not loaded("import workflow.status, workflow.runs") & {"numpy", "yaml", "rich"}
    assert not loaded("import workflow.report.watch, workflow.report.view") & {"numpy", "yaml"}


def test_import_of_the_package_is_cheap() -> None:
    assert not loaded("import workflow") & {"numpy", "yaml", "rich"}
