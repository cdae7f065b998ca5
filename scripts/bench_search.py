"""Search methods compared on problems like those of campaigns: mixed spaces, noise, failures, parallel workers.

    python scripts/bench_search.py table                                    # Markdown, of the results stored here
    python scripts/bench_search.py run --seeds 4                            # repeat them; go on where the file ends
    python scripts/bench_search.py run ablations --seeds 4                  # async without one of its ingredients each
    python scripts/bench_search.py run objectives --seeds 5                 # by loss and walltime
    python scripts/bench_search.py run robust --seeds 5                     # failures, plateaus, 1 to 1000 workers...
    python scripts/bench_search.py run --reduced                            # a few seconds, our own searches only
    python scripts/bench_search.py table ablations runs/ablations.jsonl     # Markdown, of these
    python scripts/bench_search.py store ablations runs/ablations.jsonl     # keep these
    python scripts/bench_search.py fidelity --seeds 8                       # small trainings first, by learning curves
    python scripts/bench_search.py tables                                   # train the grids again (some minutes)
    python scripts/bench_search.py scales --results runs/peers.jsonl        # what regrets are measured by

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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # small matrices: threads cost more than they give

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from search_bench import fidelity, lines, live, parts, study, suite  # noqa: E402
from search_bench.optimizers import Entry, entries  # noqa: E402
from search_bench.parts import PARTS, REDUCED  # noqa: E402
from search_bench.robust import ROBUST  # noqa: E402
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
    run.add_argument("part", nargs="?", choices=PARTS, default="peers")
    run.add_argument("--seeds", type=int, default=3)
    run.add_argument("--first-seed", type=int, default=1)
    run.add_argument("--optimizers", nargs="+", metavar="NAME")
    run.add_argument("--problems", nargs="+", metavar="NAME", help="names, or beginnings of names")
    run.add_argument("--workers", nargs="+", type=int, metavar="NUMBER")
    run.add_argument("--out", type=Path, help="results file (runs/PART.jsonl)")
    run.add_argument("--cache", type=Path, help="file of the live trainings' losses (beside --out)")
    run.add_argument("--reduced", action="store_true", help="a check of the benchmark itself")
    table = commands.add_parser("table", help="print results as Markdown")
    table.set_defaults(command=lambda args: print(table_text(args.part, args.files, args.against)))
    table.add_argument("part", nargs="?", choices=PARTS, default="peers")
    table.add_argument("files", type=Path, nargs="*", metavar="FILE", help="results (those stored here)")
    table.add_argument("--against", default="async", help="the optimizer of the differences")
    store = commands.add_parser("store", help="keep results in scripts/search_bench/results")
    store.set_defaults(command=store_command)
    store.add_argument("part", choices=PARTS)
    store.add_argument("files", type=Path, nargs="+", metavar="FILE")
    curves = commands.add_parser("fidelity", help="trainings of several fidelities, on the tables' learning curves")
    curves.set_defaults(command=lambda args: print(fidelity.report(range(1, args.seeds + 1))))
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
            _show(study.run_all(_reduced(), [args.first_seed], path))
            print(table_text("peers", [path], "async"))
        return
    out = args.out or ROOT / "runs" / f"{args.part}.jsonl"
    live.CACHE.open(args.cache or out.with_suffix(".live.jsonl"))
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    for part in PARTS[args.part]():
        _show(study.run_all(_asked_for(part, args), seeds, out))


def _reduced() -> study.Part:
    problems = [suite.all_problems()[name] for name in REDUCED_PROBLEMS]
    return study.Part(problems, {name: entry for name, entry in entries().items() if name in STRATEGIES}, REDUCED)


def _asked_for(part: study.Part, args: argparse.Namespace) -> study.Part:
    problems = [problem for problem in part.problems if _is_asked_for(problem.name, args.problems)]
    plans = [plan for plan in part.plans if args.workers is None or plan.workers in args.workers]
    optimizers = _installed(part.optimizers, args.optimizers)
    return replace(part, problems=problems, plans=plans, optimizers=optimizers)


def _is_asked_for(name: str, beginnings: Iterable[str] | None) -> bool:
    return beginnings is None or name.startswith(tuple(beginnings))


def _installed(known: Mapping[str, Entry], names: Iterable[str] | None) -> Mapping[str, Entry]:
    """The optimizers asked for, without those whose packages are missing, which are named."""
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


def table_text(part: str, paths: Sequence[Path], against: str) -> str:
    return parts.table(part, (cell for path in paths or [parts.stored(part)] for cell in study.read(path)), against)


def store_command(args: argparse.Namespace) -> None:
    cells = [asdict(cell) for path in args.files for cell in study.read(path)]
    lines.pack(parts.stored(args.part), cells)


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
    suite.make_scales([*suite.all_problems().values(), *ROBUST], seen)


if __name__ == "__main__":
    main()
