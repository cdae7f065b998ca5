"""What each module may import: pure modules stay pure, and Parsl stays behind two of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "workflow"
TEMPLATE = PACKAGE / "model_template"

ALLOWED = {
    "": "report report.history",
    "errors": "",
    "cluster": "",
    "config": "",
    "doctor": "",
    "globus": "",
    "trial": "",
    "stopping": "errors trial",
    "curves": "errors trial",
    "finals": "trial",
    "config.notify": "config.strict errors",
    "notifier": "config.notify errors",
    "rundir": "trial",
    "supervise": "worker.supervisor",
    "worker": "",
    "worker.contract": "",
    "worker.gpus": "",
    "worker.output": "",
    "worker.pool": "worker.*",
    "worker.processes": "",
    "worker.supervisor": "worker.*",
    "worker.tree": "worker.*",
    "expressions": "errors trial",
    "space": "expressions parameters trial",
    "relations": "errors expressions parameters space trial",
    "space_file": "errors parameters relations space trial",
    "search": "search.* space trial",
    "search.settings": "errors search.*",
    "search.base": "search.* space trial",
    "search.genetic": "errors search.* space trial",
    "search.random_search": "errors search.* space trial",
    "search.asynchronous": "search.* space trial",
    "search.optuna_search": "errors parameters search.* space trial",
    "search.halving": "search.arrays",
    "search.pareto": "search.arrays",
    "search.screening": "search.*",
    "search.steady": "search.* space trial",
    "search.cost": "search.arrays",
    "search.earlier": "search.* space",
    "search.cube": "parameters search.arrays space",
    "search.gaussian_process": "search.arrays",
    "stages": "arguments runtimes trial",
    "metrics": "errors trial",
    "remedies": "",
    "triage": "errors remedies trial",
    "config.strict": "errors",
    "config.options": "config.strict runtimes",
    "image": "errors",
    "provenance": "config.strict image runtimes site",
    "reuse": "config.experiment errors journal provenance rundir runtimes stages state trial",
    "durations": "trial",
    "cluster.allocation": "cluster.commands errors",
    "cluster.batch": "config.strict errors",
    "cluster.commands": "cluster.batch",
    "cluster.providers": "cluster.batch cluster.commands site",
    "config.initial": "config.strict errors parameters rundir search space trial",
    "config.experiment": (
        "budgets config.notify config.options config.strict finals rundir runtimes search space stages"
        " stopping trial"
    ),
    "journal": "disk errors state trial",
    "lock": "disk errors worker.processes",
    "budgets": "errors search state trial",
    "ranking": "finals search search.pareto state trial",
    "campaign": (
        "adoption budgets durations errors finals journal protocols ranking remedies retries search stages"
        " state stopping triage trial"
    ),
    "globus.endpoint": "config.strict rundir",
    "site": "cluster.batch config.options config.strict errors globus.endpoint machine runtimes",
    "cluster.executors": "cluster.batch cluster.providers errors lock machine rundir site worker.pool",
    "runner": (
        "arguments attempt cluster.batch cluster.executors cluster.parsl_log cluster.pools cluster.providers"
        " config.experiment curves disk durations errors globus.runner image lock metrics reuse rundir site"
        " stages state supervise trial worker.contract"
    ),
    "globus.remote": "",
    "globus.runner": (
        "cluster.executors config.experiment disk errors globus.endpoint globus.remote globus.service lock"
        " rundir runner site stages supervise trial worker.contract"
    ),
    "report": "",
    "report.tables": "arguments budgets config.initial disk finals ranking rundir search state trial",
    "report.news": "campaign errors notifier ranking report.tables rundir trial",
    "report.columns": "config.initial errors parameters trial",
    "report.history": (
        "config.initial config.strict errors journal ranking report.columns report.tables rundir space"
        " space_file state trial"
    ),
    "report.exports": "config.strict disk errors report.columns report.history",
    "report.exports_optuna": "parameters report.history search trial",
    "report.exports_mlflow": "config.initial errors report.history trial",
    "report.markup": "errors",
    "report.units": "trial",
    "report.axes": "config.initial parameters report.history trial",
    "report.importance": "search.gaussian_process",
    "report.figures": "report.axes report.history report.importance report.markup report.units search space trial",
    "report.logs": "attempt errors worker.contract",
    "report.summary": (
        "config.initial errors finals journal ranking report.figures report.history report.logs report.markup"
        " report.tables report.units trial worker.contract"
    ),
    "report.sections": (
        "config.initial remedies report.axes report.figures report.history report.importance report.logs"
        " report.markup report.summary report.tables report.units triage trial"
    ),
    "report.page": "errors report.figures report.history report.markup report.sections report.summary",
    "report.__main__": "config.strict disk errors report.history report.page rundir terminal",
    "report.tally": "budgets errors finals state trial",
    "report.snapshot": "budgets report.tally trial",
    "report.attempts": "attempt curves errors report.tally rundir worker.contract",
    "report.view": "budgets errors report.snapshot trial",
    "report.watch": "errors journal lock report.attempts report.snapshot report.tally rundir trial",
    "report.progress": "campaign report.attempts report.snapshot report.tally report.view rundir",
    "controller": "* -run",
    "run": "*",
    "export": "errors journal report.exports report.history terminal",
    "request": (
        "arguments cluster.allocation config.experiment config.initial config.load config.strict durations"
        " errors image rundir site"
    ),
    "submit": "cluster.batch cluster.commands doctor.findings errors lock request rundir site terminal",
    "init": "config.strict errors terminal",
    "status": "errors journal report.snapshot report.view report.watch rundir terminal",
    "runs": "errors report.snapshot report.view report.watch rundir terminal",
    "doctor.findings": "cluster.commands",
    "terminal": "disk errors",
    "doctor.site": "cluster.batch cluster.commands config.strict doctor.findings errors rundir site",
    "doctor.setup": (
        "config.experiment config.strict doctor.findings doctor.site durations errors globus.endpoint"
        " globus.service image rundir site stages"
    ),
    "doctor.rehearsal": "attempt config.experiment doctor.findings errors lock remedies rundir runner site trial",
    "check": (
        "config.experiment config.load config.strict doctor.findings doctor.rehearsal doctor.setup errors"
        " request rundir site terminal"
    ),
    "disk": "errors",
    "attempt": "errors worker.contract worker.processes",
    "cluster.pools": "cluster.executors cluster.providers errors site triage",
    "cluster.parsl_log": "",
    "protocols": "durations stages state trial",
    "retries": "state trial",
    "adoption": "errors journal protocols search stages state triage trial",
    "config.search_section": "config.strict errors search search.halving space stages trial",
    "config.model_section": "arguments config.options config.strict errors runtimes space stages",
    "config.load": (
        "arguments config.experiment config.initial config.model_section config.notify config.search_section"
        " config.strict errors finals rundir search space space_file stages stopping trial"
    ),
    "parameters": "errors trial",
    "state": "trial",
    "search.variation": "space",
    "search.arrays": "",
    "machine": "errors",
    "globus.service": "cluster.executors errors globus.endpoint",
    "runtimes": "",
    "arguments": "errors trial",
}
"""The modules of this package that each one may import. A new module needs a line here."""

PARSL = ("parsl", "globus_compute_sdk")
MAY_IMPORT_PARSL = {"cluster.executors", "cluster.providers", "globus.runner", "globus.service", "runner"}

SEARCHES = {module for module in ALLOWED if module.partition(".")[0] == "search"}
PURE = {
    "durations", "errors", "expressions", "finals", "metrics", "parameters", "ranking", "relations", "remedies",
    "retries", "space", "stages", "state", "stopping", "triage", "trial", "report.tally", "report.snapshot", *SEARCHES,
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


@each_module
def test_module_imports_what_the_design_allows(module: str) -> None:
    assert module in ALLOWED, f"add workflow.{module} to ALLOWED, with what it may import"
    allowed = set(ALLOWED[module].split())
    for name in own_imports(MODULES[module]) - {""}:
        family = name.partition(".")[0] + ".*"
        assert name in allowed or family in allowed or ("*" in allowed and f"-{name}" not in allowed), name


@each_module
def test_only_three_modules_import_parsl(module: str) -> None:
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
        "make_search(p([{'name': 'a', 'type': 'logical'}], ''), SearchSettings(strategy='%s'), 'min').ask()"
    )
    assert "optuna" not in loaded(asks % "async")
    assert "optuna" in loaded(asks % "optuna")


def test_status_is_quick_to_start() -> None:
    assert not loaded("import workflow.status, workflow.runs") & {"numpy", "yaml", "rich"}
    assert not loaded("import workflow.report.watch, workflow.report.view") & {"numpy", "yaml"}


def test_import_of_the_package_is_cheap() -> None:
    assert not loaded("import workflow") & {"numpy", "yaml", "rich"}
