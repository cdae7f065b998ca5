"""The virtual cluster keeps to schedules made by hand, and loses no trial of the real campaign that runs on it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workflow.search import SearchSettings, make_search
from workflow.space_file import parse_space
from workflow.trial import Params, Trial

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "bench" / "simulation.py"
SPACE = parse_space([{"name": "rate", "type": "float", "lower": 0, "upper": 1}], "test")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (SCRIPT.parent, SCRIPT.parents[1]):
        monkeypatch.syspath_prepend(str(path))


@dataclass(frozen=True)
class Training:
    seconds: float
    loss: float


@dataclass
class Listed:
    """Trainings of these durations, again and again; ``attempts`` counts those that began."""

    durations: Sequence[float]
    attempts: int = 0

    def run(self, number: int, params: Params) -> Training:
        self.attempts += 1
        return Training(self.durations[number % len(self.durations)], float(params["rate"]))


def simulate(durations: Sequence[float], machine: dict[str, Any], settings: SearchSettings) -> tuple[Any, Any, Listed]:
    """The state, the cluster and the trainings after a campaign."""
    from simulated.campaigns import run
    from simulated.cluster import Cluster, Machine

    trainings = Listed(durations)
    cluster = Cluster(Machine(**machine), trainings)
    return run(make_search(SPACE, settings), cluster), cluster, trainings


def test_workers_take_the_next_trial_at_once() -> None:
    """Two workers: 0-5 and 5-6 on the one, 0-2, 2-5 (before the end at 5 of the first) and 5-9 on the other."""
    state, cluster, _ = simulate([5, 2, 3, 4, 1], {"workers": 2}, SearchSettings("random", evaluations=5))
    times = [(state.outcomes[number].started, state.outcomes[number].ended) for number in range(5)]
    assert times == [(0, 5), (0, 2), (2, 5), (5, 9), (5, 6)]
    assert (cluster.busy, cluster.available) == (15, 18)


def test_an_asynchronous_campaign_is_a_list_schedule() -> None:
    from simulated.campaigns import ended, list_schedule

    durations = [float(1 + number * 7919 % 97) for number in range(40)]
    state, cluster, _ = simulate(durations, {"workers": 7}, SearchSettings("async", evaluations=40))
    assert [state.outcomes[number].started for number in range(40)] == list_schedule(durations, 7)
    assert cluster.busy == sum(durations)
    assert cluster.available == 7 * ended(state)[-1].ended


def test_a_generation_waits_for_its_last_trial() -> None:
    settings = SearchSettings("mu_plus_lambda", num_iterations=3, population_size=16)
    state, _, _ = simulate([1, 2, 3, 50], {"workers": 5}, settings)
    for generation in (2, 3):
        before = [state.outcomes[t.id].ended for t in state.trials.values() if t.generation == generation - 1]
        begun = [state.outcomes[t.id].started for t in state.trials.values() if t.generation == generation]
        assert min(begun) == max(before)


def test_generations_of_published_trainings_wait_for_each_other() -> None:
    from simulated.campaigns import with_barriers
    from simulated.published import Row

    rows = [[Row(1, {}, 0.1, 4.0), Row(1, {}, 0.2, 1.0), Row(1, {}, 0.3, 2.0)], [Row(2, {}, 0.4, 1.0)]]
    found = [(training.loss, training.started, training.ended) for training in with_barriers(rows, 2)]
    assert found == [(0.2, 0, 1), (0.3, 1, 3), (0.1, 0, 4), (0.4, 4, 5)]


@pytest.mark.parametrize(
    ("machine", "wasteful"),
    [
        ({"walltime": 100.0, "queue": 20.0}, False),
        ({"time_to_failure": 100.0, "queue": 20.0}, True),
        ({"walltime": 100.0, "queue": 20.0, "time_to_failure": 150.0}, True),
    ],
    ids=["walltimes", "lost nodes", "both"],
)
def test_every_trial_ends_once_whatever_is_lost(machine: dict[str, Any], wasteful: bool) -> None:
    durations = [3.0, 7.0, 11.0, 20.0]
    settings = SearchSettings("random", evaluations=300)
    state, cluster, trainings = simulate(durations, {"workers": 8, "per_node": 2, **machine}, settings)
    assert sorted(state.outcomes) == list(range(300))
    ok = [number for number, outcome in state.outcomes.items() if outcome.kind == "ok"]
    given_up = [outcome for outcome in state.outcomes.values() if outcome.kind != "ok"]  # lost three times
    assert len(given_up) <= 5 * wasteful and all(outcome.cause == "infrastructure" for outcome in given_up)
    assert [state.outcomes[number].seconds for number in ok] == pytest.approx([durations[n % 4] for n in ok])
    assert not state.unfinished
    assert 300 <= trainings.attempts <= 300 + sum(state.lost.values()) + sum(state.cut.values())
    assert sum(durations[number % 4] for number in ok) <= cluster.busy <= cluster.available
    assert bool(state.lost) == wasteful


def test_a_long_training_finds_a_fresh_block_among_old_ones() -> None:
    from simulated.cluster import Cluster, Machine

    from workflow.durations import Expectation

    cluster = Cluster(Machine(200, per_node=1, walltime=100.0, queue=50.0), Listed([85.0]))

    for number in range(8):
        trial, expected = Trial(number, number, {"rate": 0.5}), Expectation(85.0, measured=True)
        for attempt in range(1, 50):
            future = cluster.train(trial, attempt, frozenset(), expected)
            while not future.done():
                cluster.advance()
            if future.result().kind == "ok":
                break
        assert attempt < 49


def test_the_campaigns_own_work_takes_time() -> None:
    from simulated.campaigns import run
    from simulated.cluster import Cluster, Machine

    cluster = Cluster(Machine(2), Listed([1e-6]), charged=True)
    run(make_search(SPACE, SearchSettings("random", evaluations=50)), cluster)
    assert cluster.busy / cluster.available < 0.5, "the controller needs more than a microsecond for a trial"


@pytest.mark.parametrize("model", ["kernel", "forest"])
def test_models_predict_walltimes_from_configurations(model: str) -> None:
    from simulated.published import cross_validated, read

    assert cross_validated(read("igtd-ctrpv2-large"), model).seconds > 0.9


def test_trainings_are_like_published_ones() -> None:
    from simulated.published import Model, Trainings, read

    campaign = read("igtd-gdscv2-large")
    trainings = Trainings(Model(campaign, "kernel"), seed=1)
    drawn = [trainings.run(number, row.params) for number, row in enumerate(campaign.rows)]
    assert drawn == [trainings.run(number, row.params) for number, row in enumerate(campaign.rows)]
    assert {training.seconds for training in drawn} <= {row.seconds for row in campaign.rows}
    busy = sum(row.seconds for row in campaign.rows)
    assert sum(training.seconds for training in drawn) == pytest.approx(busy, rel=0.15)
    assert all(math.isfinite(training.loss) for training in drawn)


def test_the_best_published_loss_was_luck() -> None:
    """As often as drawn trainings of that configuration are as good."""
    from simulated.published import Model, Trainings, read

    campaign = read("lgbm-ccle-large")
    model, lowest = Model(campaign, "kernel"), min(row.loss for row in campaign.rows)
    best = min((row.params for row in campaign.rows), key=model.expected)
    drawn = [Trainings(model, seed=1).run(number, best).loss for number in range(1000)]
    assert 0 < model.luck() == pytest.approx(sum(loss <= lowest for loss in drawn) / 1000, abs=0.025)


def test_the_published_campaigns_had_the_published_utilization() -> None:
    from simulated.campaigns import utilization, with_barriers
    from simulated.comparison import WORKERS
    from simulated.published import names, read

    found = [utilization(with_barriers(read(name).generations, WORKERS), WORKERS) for name in names()]
    assert len(found) == 4
    assert 0.28 < min(found) < max(found) < 0.64


def test_the_published_campaign_reaches_its_own_loss_and_is_idle_at_its_end() -> None:
    from simulated.comparison import PUBLISHED, Comparison
    from simulated.published import read

    cell = Comparison(read("lgbm-ccle-large"), "kernel").run(PUBLISHED, 0)
    assert cell.wall["expected"] < cell.wall["published"] < 1
    assert 0 < cell.work["published"] < 1
    assert cell.published_utilization == cell.whole_utilization != cell.utilization


def test_a_campaign_goes_on_for_as_long_as_the_published_one_held_its_workers() -> None:
    from simulated.comparison import Comparison
    from simulated.published import read

    comparison = Comparison(read("lgbm-ccle-large"), "kernel")
    held = comparison.reference[-1].ended
    longest = max(row.seconds for row in comparison.campaign.rows)
    cell = comparison.run("random", 1)
    assert cell.utilization == pytest.approx(1)
    assert held / (held + longest) < cell.whole_utilization < 1
    assert cell.trainings > len(comparison.campaign.rows)


def test_quick_campaigns_are_counted_and_those_of_them_that_are_cheap() -> None:
    from simulated.comparison import TARGETS, Cell, table

    def cell(seed: int, wall: float | None, work: float | None) -> Cell:
        walls, works = dict.fromkeys(TARGETS, wall), dict.fromkeys(TARGETS, work)
        return Cell("some", "kernel", "async", seed, walls, works, 440, 1.0, 0.9, 0.5)

    text = table([cell(1, 0.1, 0.4), cell(2, 0.3, 0.6), cell(3, None, None)])
    reached = " | ".join(["0.30, 0.60 (2, 1 of 3)"] * len(TARGETS))
    assert text.splitlines()[2:] == [f"| some (0.50) | kernel | async | 1.00, 0.90 | {reached} |"]


def test_results_are_kept_and_shown(tmp_path: Path) -> None:
    out = tmp_path / "scale.jsonl"
    arguments = ["scale", "--tables", "lgbm-ccle-large", "--workers", "40", "--searches", "random", "--out", str(out)]
    texts = [
        subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    assert [json.loads(line)["fails"] for line in out.read_text().splitlines()] == [False, True]
    assert "| lgbm-ccle-large | 40 | random |" in texts[0]
