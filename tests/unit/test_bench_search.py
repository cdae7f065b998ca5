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
    assert all(f"| `{strategy}` | 40 |" in costs for strategy in STRATEGIES)


def test_the_tables_of_the_readme_are_those_of_the_stored_results() -> None:
    from search_bench.parts import PARTS, stored, table
    from search_bench.study import read

    tables = [table(part, read(stored(part)), "async") for part in PARTS]
    tables.append((SCRIPT.parent / "search_bench" / "results" / "fidelity.md").read_text())
    printed = "\n".join(tables).splitlines()
    section = (ROOT / "README.md").read_text().split("### How the searches compare")[1].split("\n### ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 30
    assert [row for row in rows if row not in printed] == []


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
    for kind in KINDS:
        splits = [problem.split for problem in problems.values() if problem.kind == kind]
        assert set(splits) == set(SPLITS)
        assert 2 * splits.count("held_out") >= len(splits)
    for name, problem in problems.items():
        assert 7 <= len(problem.space.varying) <= 9
        assert len({entry["type"] for entry in problem.space.entries}) >= 4
        assert problem.best is None or problem.best == pytest.approx(scales[name].best)
        assert scales[name].best < scales[name].random < problem.worst


def test_every_problem_of_one_objective_has_a_scale_and_no_other_has() -> None:
    from search_bench.problems import read_scales
    from search_bench.robust import ROBUST
    from search_bench.suite import all_problems

    assert set(read_scales()) == {*all_problems(), *(problem.name for problem in ROBUST)}


def test_synthetic_problems_are_best_at_their_optimum() -> None:
    from search_bench.robust import ROBUST
    from search_bench.synthetic import SYNTHETIC, Synthetic

    for problem in (*SYNTHETIC, *(problem for problem in ROBUST if isinstance(problem, Synthetic))):
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


def test_every_ablation_changes_what_the_search_asks_for() -> None:
    """On a problem with categories, half of whose space fails."""
    from search_bench.ablations import entries
    from search_bench.optimizers import Setting
    from search_bench.robust import ROBUST
    from search_bench.simulate import Campaign

    problem, asked = next(problem for problem in ROBUST if problem.name == "memory"), {}
    for name, entry in entries().items():
        campaign = Campaign(problem, entry.make(Setting(problem.space, 4, 48, 1)), 4, seed=1)
        campaign.run(48)
        asked[name] = [trial.params for trial in campaign.finished]
    assert [name for name in asked if asked[name] == asked["async"]] == ["async"]


def test_a_share_of_the_trials_fails_whatever_their_configuration() -> None:
    from search_bench.robust import ROBUST

    problem = next(problem for problem in ROBUST if problem.name == "failing_table_diabetes")
    params = {p.name: p.draw(np.random.default_rng(0)) for p in problem.space.varying}
    failed = [problem.evaluate(params, np.random.default_rng(n)).loss is None for n in range(500)]
    assert np.mean(failed) == pytest.approx(0.3, abs=0.06)


def test_a_front_counts_by_the_volume_that_it_dominates() -> None:
    from search_bench.objectives import _volume, all_problems

    assert _volume([(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (3.0, 0.0)], (2.0, 2.0)) == 3.0
    problem = all_problems()[0]
    assert problem.share([]) == 0.0
    assert 0.1 < problem.share([problem.base.optimum]) < problem.share(problem._good()) <= 1.0


def test_a_training_that_resumes_costs_what_it_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    from search_bench import fidelity
    from search_bench.tables import GRIDS

    from workflow.search.halving import Fidelity

    monkeypatch.setattr(fidelity, "BUDGETS", (8,))
    curves = fidelity.Curves.load(GRIDS[0])
    for resumes in (False, True):
        trainings = fidelity.run(curves, Fidelity("epochs", 9, 81, resumes=resumes), seed=1)
        shares: dict[int, list[float]] = {}
        for training in trainings:
            shares.setdefault(training.config_id, []).append(float(training.params["epochs"]) / 81)
        assert any(len(each) > 1 for each in shares.values())
        costs = [max(each) if resumes else sum(each) for each in shares.values()]
        assert trainings[-1].spent == pytest.approx(sum(costs)) and trainings[-1].spent <= 8 + 1e-9


def test_re_runs_are_paid_for_and_oracles_know_better() -> None:
    from search_bench.fidelity import CHOICES, Curves, Training
    from search_bench.tables import GRIDS

    curves = Curves.load(GRIDS[0])
    params = [{axis.name: axis.points[0] for axis in GRIDS[0].axes} | {"learning_rate": rate} for rate in (1e-2, 1e-4)]
    good, bad = (curves.regret(each) for each in params)
    ended = [
        Training(1, {**params[1], "epochs": 27}, 0.5, bad, 0.3),
        Training(2, {**params[0], "epochs": 27}, 0.9, good, 0.6),
        Training(6, {**params[1], "epochs": 27}, 0.4, bad, 1.0),
        Training(2, {**params[0], "epochs": 81}, 0.3, good, 2.0),
        Training(3, {**params[1], "epochs": 81}, 0.2, bad, 3.0),
        Training(4, {**params[1], "epochs": 81}, 0.1, 99.0, 12.0),
        Training(5, {**params[0], "epochs": 27}, 0.4, -1.0, 12.0),
    ]
    assert good < bad < 99
    assert [choose(curves, ended, 1) for choose in CHOICES.values()] == [99.0, good, good, -1.0]


def test_small_trainings_tell_little_of_the_best_configurations() -> None:
    from search_bench.fidelity import Curves, agreement
    from search_bench.tables import GRIDS

    every, best = zip(*agreement(Curves.load(GRIDS[0])), strict=True)
    assert list(every) == sorted(every) and every[0] > 0.5
    assert every[-1] == best[-1] == pytest.approx(1)
    assert max(best[:-1]) < 0.5
