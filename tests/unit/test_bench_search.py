"""The benchmark of search methods runs, and its files fit the problems."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workflow.search import STRATEGIES

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "bench_search.py"


@pytest.fixture(scope="module", autouse=True)
def _importable() -> None:
    sys.path.insert(0, str(SCRIPT.parent))


def bench(*arguments: str) -> str:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=True).stdout


def test_reduced_benchmark_prints_a_table_of_our_strategies() -> None:
    text = bench("run", "--reduced")
    costs = text[text.index("## Costs") :]
    assert all(f"| {strategy} | 40 |" in costs for strategy in STRATEGIES)


def test_an_interrupted_benchmark_goes_on_after_the_last_whole_line(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    run = ("run", "--seeds", "1", "--problems", "synthetic_flat", "--optimizers", "random", "deap_published")
    bench(*run, "--out", str(out))
    whole = out.read_text()
    out.write_text(whole[:-10])
    bench(*run, "--out", str(out))
    again = [json.loads(line) for line in out.read_text().splitlines()]
    for line in (*again, *(first := [json.loads(line) for line in whole.splitlines()])):
        del line["search_seconds"]
    assert again == first


def test_problems_are_mixed_spaces_of_both_splits_with_scales() -> None:
    from search_bench.problems import KINDS, SPLITS, read_scales
    from search_bench.suite import all_problems

    problems, scales = all_problems(), read_scales()
    assert set(problems) == set(scales)
    for kind in KINDS:
        splits = [problem.split for problem in problems.values() if problem.kind == kind]
        assert set(splits) == set(SPLITS)
        assert 2 * splits.count("held_out") >= len(splits)
    for name, problem in problems.items():
        assert 7 <= len(problem.space.varying) <= 9
        assert len({entry["type"] for entry in problem.space.entries}) >= 4
        assert problem.best is None or problem.best == pytest.approx(scales[name].best)
        assert scales[name].best < scales[name].random < problem.worst


def test_synthetic_problems_are_best_at_their_optimum() -> None:
    from search_bench.synthetic import SYNTHETIC

    for problem in SYNTHETIC:
        assert problem.truth(problem.optimum) == pytest.approx(problem.best)
        rng = np.random.default_rng(0)
        drawn = [{p.name: p.draw(rng) for p in problem.space.varying} for _ in range(500)]
        assert min(problem.truth(params) for params in drawn) > problem.best


def test_tables_are_whole_and_are_looked_up_at_their_points() -> None:
    from search_bench.tables import GRIDS, SEEDS
    from search_bench.tabulated import load
    from search_bench.training import CAP

    for grid in GRIDS:
        problem = load(grid)
        assert problem.losses.shape == (*grid.shape, len(SEEDS))
        assert (problem.seconds > 0).all()
        assert np.nanmin(problem.losses) > 0
        assert np.nanmax(problem.losses) <= CAP
        best = np.unravel_index(np.nan_to_num(problem.losses, nan=CAP).mean(-1).argmin(), grid.shape)
        params = {axis.name: axis.points[index] for axis, index in zip(grid.axes, best, strict=True)}
        assert problem.truth(params) == pytest.approx(problem.best)
        assert problem.evaluate(params, np.random.default_rng(0)).loss in problem.losses[best].tolist()
