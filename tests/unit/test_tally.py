"""The light fold over a journal agrees with the journal's state, whatever the records are and however they are read."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from workflow.errors import InputError
from workflow.journal import Follower, _seal, campaign_record
from workflow.ranking import best, finalists_of, hall_of_fame
from workflow.report.tables import counts
from workflow.report.tally import Outline, Tally, decode, label
from workflow.state import Record, State
from workflow.trial import FIRST_RERUN, Outcome, Trial

RERUNS = tuple(range(FIRST_RERUN, FIRST_RERUN + 3))
IDS = (*range(8), *RERUNS)

ENDS = (
    ("ok", ""), ("ok", ""), ("ok", ""), ("failed", "model"), ("failed", "infrastructure"), ("stopped", ""),
    ("lost", "infrastructure"), ("lost", "node"), ("lost", "walltime"), ("lost", "setup"), ("deferred", "walltime"),
)  # fmt: skip


def header(mode: str = "min", **about: Any) -> Record:
    outline = Outline("mse", mode, ("x",), trials=8, generations=3, fidelity_max=9.0, whole=8)
    return campaign_record({}, {"workers": 2, "site": "here", "outline": outline.to_json(), **about})


def asked(rng: random.Random) -> Record:
    number = rng.randrange(8)
    params = {"x": rng.random(), 'a "b": {': '},"generation":7,"parents":[1],"fidelity":2.0}'}
    config = min(number, rng.randrange(12))
    trial = Trial(number, config, params, rng.choice((None, 1, 2, 3)), (1, 2), rng.choice((None, 1.0, 9.0)))
    return {"type": "asked", "trial": trial.to_json()}


def outcome(rng: random.Random) -> Record:
    kind, cause = rng.choice(ENDS)
    started = rng.choice((None, rng.uniform(0, 50)))
    ended = None if started is None else started + rng.uniform(0, 9)
    value = float(rng.randrange(4)) if kind == "ok" else None
    gpu, host = rng.choice((None, "0", "0,1")), rng.choice(("", "a", "b"))
    made: Any = Outcome(
        rng.choice(IDS), rng.randrange(1, 4), kind, value, started=started, ended=ended, gpu=gpu, host=host,
        cause=cause, evidence="exit code 3; last line: no",
    )  # fmt: skip
    return {"type": "outcome", "outcome": made.to_json()}


def attempt(rng: random.Random) -> Record:
    key = rng.choice((*IDS, "preprocess", "infer"))
    return {"type": "attempt", "trial": key, "attempt": rng.randrange(1, 4)}


def finals(reruns: Iterable[tuple[int, int]]) -> Record:
    """Of re-runs and their finalists."""
    return {"type": "finals", "reruns": [Trial(number, 1, {}, parents=(of,)).to_json() for number, of in reruns]}


def others(rng: random.Random) -> Record:
    chosen: Record = rng.choice(
        (
            {"type": "retracted", "trials": rng.sample(IDS, 3), "signature": "s", "reason": "r"},
            {"type": "shunned", "host": "a", "reason": "bad"},
            finals(zip(rng.sample(RERUNS, 2), rng.choices(range(8), k=2), strict=True)),
            {"type": "stage", "stage": "infer", "outcome": Outcome(1, 1, "ok").to_json()},
            {"type": "ended", "complete": rng.random() < 0.5, "reason": "interrupted"},
            {**header(rng.choice(("min", "max"))), "type": "resumed"},
            {"type": "note"},
        )
    )
    return chosen


def sequence(rng: random.Random) -> list[Record]:
    makers: list[Callable[[random.Random], Record]] = [asked] * 4 + [attempt] * 4 + [outcome] * 6 + [others]
    first = [header(rng.choice(("min", "max")))] if rng.random() < 0.9 else []
    records = first + [rng.choice(makers)(rng) for _ in range(rng.randrange(60))]
    return [{"at": 10.0 + number + rng.choice((-3.0, 0.0, 0.5)), **record} for number, record in enumerate(records)]


def facts(tally: Tally) -> dict[str, Any]:
    return {
        "asked": tally.asked,
        "kinds": {kind: tally.counts[kind] for kind in ("ok", "failed", "stopped")},
        "lost": tally.lost_attempts,
        "best": tally.best,
        "failures": len(tally.failures),
        "sums": [tally.seconds, tally.charged, tally.elapsed, tally.span, tally.worth],
        "reruns": (list(tally.finals), tally.rerun_outcomes),
        "winner": tally.winner and (tally.winner.outcome.trial_id, tally.winner.outcome.value, tally.winner.mean),
        "shunned": tally.shunned,
        "ended": tally.ended,
        "generation": (tally.generation, *tally.members),
    }


def facts_of(state: State, mode: str) -> dict[str, Any]:
    number, winner = counts(state), best(state, mode)
    ranked = [(f.outcome.trial_id, f.outcome.value, f.mean) for f in finalists_of(state, mode)]
    known = [state.trials[trial] for trial in state.outcomes if trial in state.trials]
    generation = max((trial.generation or 0 for trial in state.trials.values()), default=0)
    members = [trial.id for trial in state.trials.values() if (trial.generation or 0) == generation]
    values = [state.outcomes[n].value for n in members if n in state.outcomes and state.outcomes[n].kind == "ok"]
    worst_first = sorted(value for value in values if value is not None)
    of_members = worst_first[0 if mode == "min" else -1] if worst_first else None
    return {
        "asked": number["asked"],
        "kinds": {kind: number[kind] for kind in ("ok", "failed", "stopped")},
        "lost": number["lost_attempts"],
        "best": None if winner is None else (winner.trial_id, winner.value),
        "failures": number["failed"],
        "sums": [
            state.seconds, state.charged, state.elapsed, sum(last - first for first, last in state.spans),
            sum(trial.fidelity or 0.0 for trial in known),
        ],
        "reruns": (state.finals, state.rerun_outcomes),
        "winner": ranked[0] if ranked else None,
        "shunned": state.shunned,
        "ended": state.ended,
        "generation": (generation, len(members), sum(n in state.outcomes for n in members), of_members),
    }  # fmt: skip


def assert_agree(tally: Tally, state: State) -> None:
    found, expected = facts(tally), facts_of(state, tally.outline.mode)
    assert found.pop("sums") == pytest.approx(expected.pop("sums"))
    assert found == expected


@pytest.mark.parametrize("seed", range(200))
def test_it_agrees_with_the_state_after_every_record(seed: int) -> None:
    state, tally, read = State(), Tally(), Tally()
    for record in sequence(random.Random(seed)):
        state.apply(record)
        tally.apply(record)
        read.apply(decode(_seal(record).removesuffix(b"\n")))
        assert_agree(tally, state)
    assert facts(read) == facts(tally)
    assert read.history == tally.history and read.open == tally.open


@pytest.mark.parametrize("mode", ["min", "max"])
def test_it_agrees_on_who_won_the_finals(mode: str) -> None:
    """Also once the search went on, found what is better, or evaluated a configuration again."""
    found = set()
    for seed in range(60):
        rng, state, tally = random.Random(seed), State(), Tally()
        first = [header(mode), *(make(rng) for make in [asked, outcome] * 12)]
        record_all(first, state, tally)
        fame = [o.trial_id for o in hall_of_fame(state, mode, 3)]
        record_all([finals(zip(RERUNS, fame, strict=False))], state, tally)
        for make in [outcome] * 30 + [asked, outcome] * 5:
            record_all([make(rng)], state, tally)
            found.add(tally.winner is not None and tally.best is not None and tally.winner.outcome.trial_id)
    assert len(found) > 5


def record_all(records: Iterable[Record], state: State, tally: Tally) -> None:
    for record in records:
        for fold in (state, tally):
            fold.apply({"at": 20.0, **record})
    assert_agree(tally, state)


@pytest.mark.parametrize("seed", range(30))
def test_it_is_the_same_read_piece_by_piece_with_damaged_lines(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    lines = [_seal(record) for record in sequence(rng)]
    damaged = [line.replace(b'"at"', b'"to"', 1) if rng.random() < 0.1 else line for line in lines]
    data, path = b"".join(damaged), tmp_path / "journal.jsonl"
    path.touch()
    follower = Follower(path, Tally, decode)
    while (done := path.stat().st_size) < len(data):
        with path.open("ab") as file:
            file.write(data[done : done + rng.randrange(1, 400)])
        follower.look()
    assert_agree(follower.fold, Follower(path, State).look())
    assert follower.damaged == sum(a != b for a, b in zip(lines, damaged, strict=True))


def test_what_runs_belongs_to_the_controller_that_lives() -> None:
    tally = Tally()
    for at, record in enumerate([header(), asked(random.Random(1)), {"type": "attempt", "trial": 2, "attempt": 1}]):
        tally.apply({"at": float(at), **record})
    assert [(each.trial, each.number, each.submitted) for each in tally.open.values()] == [(2, 1, 2.0)]
    tally.apply({"at": 5.0, **header(), "type": "resumed"})
    assert not tally.open


def test_a_journal_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path, other = tmp_path / "j", tmp_path / "other"
    path.write_bytes(_seal({"at": 1.0, **header()}) + _seal({"at": 2.0, **asked(random.Random(1))}))
    follower = Follower(path, Tally)
    assert follower.look().asked == 1
    other.write_bytes(_seal({"at": 1.0, **header()}))
    other.replace(path)
    assert follower.look().asked == 0


def test_the_hyperparameters_of_a_trial_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    trials = [Trial(number, number, {"x": number}) for number in (1, 11, 2)]
    path.write_bytes(b"".join(_seal({"type": "asked", "at": 1.0, "trial": trial.to_json()}) for trial in trials))
    follower = Follower(path, Tally)
    record = follower.asked(1)
    assert record is not None and record["trial"] == json.loads(json.dumps(trials[0].to_json()))
    assert follower.asked(3) is None


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(_seal({"at": 1.0, **header(), "version": 99}))
    with pytest.raises(InputError, match="format version 99"):
        Follower(tmp_path / "j", Tally).look()


def test_an_outline_comes_back_and_older_journals_tell_the_objective() -> None:
    outline = Outline("pcc", "max", ("a", "b"), 9, None, None, None, 4)
    assert Outline.of(json.loads(json.dumps({"outline": outline.to_json() | {"new": 1}}))) == outline
    old = Outline.of({"fingerprint": {"objective": {"metric": "r2", "mode": "max"}}})
    assert (old.metric, old.mode, old.trials) == ("r2", "max", None)


@pytest.mark.parametrize(
    ("evidence", "cause", "text"),
    [
        ("exit code 3; last line: nan is no JSON", "model", "exit code 3"),
        ("out of memory: the kernel killed 2 processes", "model", "out of memory"),
        ("timeout after 60 s; last line: epoch 7", "model", "timeout after 60 s"),
        ("stalled: no output for 30 s; last line: x", "model", "stalled"),
        ("no metric 'val_loss': neither val_scores.json nor", "model", "no metric"),
        ("metric 'mse' is nan", "model", "metric is nan or inf"),
        ("'mse' in val_scores.json is 'x', not a number", "model", "unreadable metric"),
        ("lost 3 times, the last time: killed by SIGKILL", "infrastructure", "lost too often"),
        ("cut off 3 times by the end of its block, the last time after 60 s", "walltime", "cut off too often"),
        ("", "model", "unknown"),
    ],
)
def test_failures_are_counted_by_a_few_words(evidence: str, cause: Any, text: str) -> None:
    assert label(evidence, cause) == text
