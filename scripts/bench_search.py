"""Search methods compared on problems like those of campaigns: mixed spaces, noise, failures, parallel workers.

    python scripts/bench_search.py run --seeds 5 --out runs/search.jsonl    # go on where the file ends
    python scripts/bench_search.py run --reduced                            # a few seconds, our own searches only
    python scripts/bench_search.py table runs/search.jsonl                  # Markdown
    python scripts/bench_search.py fidelity --seeds 8                       # small trainings first, by learning curves
    python scripts/bench_search.py tables                                   # train the grids again (some minutes)
    python scripts/bench_search.py scales --results runs/search.jsonl       # what regrets are measured by

Problems, half of them held out from the choice of our settings: synthetic functions, tables of real trainings, and live
trainings. Optimizers: our strategies, and others where their packages are installed (pip install optuna cmaes torch
deap pymoo smac); on one core a seed takes about 5 minutes, optuna_gp and smac an hour more. Delete the results of a
strategy that was changed, or give another file: results are never run again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # small matrices: threads cost more than they give

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from search_bench import fidelity, live, report, study, suite  # noqa: E402
from search_bench.optimizers import Entry, entries  # noqa: E402
from search_bench.problems import read_scales  # noqa: E402
from search_bench.tables import GRIDS, TABLES, make_table  # noqa: E402

from workflow.search import STRATEGIES  # noqa: E402

REDUCED_PROBLEMS = ("synthetic_plateau", "table_diabetes")


def main() -> None:
    args = parser().parse_args()
    args.command(args)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True)
    run = commands.add_parser("run", help="run what the results file does not have yet")
    run.set_defaults(command=run_command)
    run.add_argument("--seeds", type=int, default=3)
    run.add_argument("--first-seed", type=int, default=1)
    run.add_argument("--optimizers", nargs="+", metavar="NAME")
    run.add_argument("--problems", nargs="+", metavar="NAME", help="names, or beginnings of names")
    run.add_argument("--workers", nargs="+", type=int, choices=[plan.workers for plan in study.PLANS])
    run.add_argument("--out", type=Path, default=ROOT / "runs" / "search_bench.jsonl")
    run.add_argument("--cache", type=Path, help="file of the live trainings' losses (beside --out)")
    run.add_argument("--reduced", action="store_true", help="a check of the benchmark itself")
    table = commands.add_parser("table", help="print the results as Markdown")
    table.set_defaults(command=lambda args: print(table_text(args.files, args.against)))
    table.add_argument("files", type=Path, nargs="+", metavar="FILE")
    table.add_argument("--against", default="async", help="the optimizer of the differences")
    curves = commands.add_parser("fidelity", help="trainings of several fidelities, on the tables' learning curves")
    curves.set_defaults(command=lambda args: print(fidelity.table(range(1, args.seeds + 1))))
    curves.add_argument("--seeds", type=int, default=8)
    tables = commands.add_parser("tables", help="train the grids and write scripts/search_bench/tables")
    tables.set_defaults(command=tables_command)
    tables.add_argument("--grids", nargs="+", choices=[grid.name for grid in GRIDS])
    scales = commands.add_parser("scales", help="write scripts/search_bench/scales.json")
    scales.set_defaults(command=scales_command)
    scales.add_argument("--results", type=Path)
    return top


def run_command(args: argparse.Namespace) -> None:
    if args.reduced:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "results.jsonl"
            problems = [suite.all_problems()[name] for name in REDUCED_PROBLEMS]
            ours = {name: entry for name, entry in entries().items() if name in STRATEGIES}
            _show(study.run_all(problems, ours, study.REDUCED, [args.first_seed], path))
            print(table_text([path], "async"))
        return
    live.CACHE.open(args.cache or args.out.with_suffix(".live.jsonl"))
    problems = [problem for name, problem in suite.all_problems().items() if _is_asked_for(name, args.problems)]
    plans = [plan for plan in study.PLANS if args.workers is None or plan.workers in args.workers]
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    _show(study.run_all(problems, _installed(args.optimizers), plans, seeds, args.out))


def _is_asked_for(name: str, beginnings: Iterable[str] | None) -> bool:
    return beginnings is None or name.startswith(tuple(beginnings))


def _installed(names: Iterable[str] | None) -> Mapping[str, Entry]:
    """The optimizers asked for, without those whose packages are missing, which are named."""
    known = entries()
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise SystemExit(f"--optimizers: unknown {', '.join(unknown)}; known: {', '.join(known)}")
    chosen = {name: known[name] for name in names or known}
    for name, entry in chosen.items():
        if entry.missing:
            print(f"left out: {name} (not installed: {', '.join(entry.missing)})", file=sys.stderr)
    return {name: entry for name, entry in chosen.items() if not entry.missing}


def _show(cells: Iterable[study.Cell]) -> None:
    for cell in cells:
        losses = " ".join(f"{budget}:{'-' if loss is None else f'{loss:.4f}'}" for budget, loss in cell.truths.items())
        print(f"{cell.problem} {cell.optimizer} seed {cell.seed} @{cell.workers}: {losses}", file=sys.stderr)


def table_text(paths: Iterable[Path], against: str) -> str:
    cells = [cell for path in paths for cell in study.read(path)]
    return report.report(report.Results(cells, suite.all_problems(), read_scales()), against)


def tables_command(args: argparse.Namespace) -> None:
    for grid in GRIDS:
        if args.grids is None or grid.name in args.grids:
            make_table(grid, TABLES / f"{grid.name}.npz")


def scales_command(args: argparse.Namespace) -> None:
    """The best known loss of a live problem is the least that any run has found; of others it is known."""
    seen: dict[str, float] = {}
    for cell in study.read(args.results) if args.results else ():
        found = [truth for truth in cell.truths.values() if truth is not None]
        seen[cell.problem] = min([seen.get(cell.problem, float("inf")), *found])
    if args.results:
        live.CACHE.open(args.results.with_suffix(".live.jsonl"))
    suite.make_scales(suite.all_problems().values(), seen)


if __name__ == "__main__":
    main()
