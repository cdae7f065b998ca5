"""What failures tell: of the trials, of the node, of the site or of the set-up."""

from __future__ import annotations

from typing import Any

import pytest

from workflow.errors import SetupError, SiteError
from workflow.triage import Nodes, ShortBlocks, signature, verdict
from workflow.trial import Outcome


def outcome(trial: int, kind: str = "failed", host: str = "a", seconds: float = 1.0, **keys: Any) -> Outcome:
    cause = {"failed": "model", "ok": "", "deferred": ""}.get(kind, "infrastructure")
    keys = {"cause": cause, "evidence": "exit code 1", "value": 1.0 if kind == "ok" else None, **keys}
    return Outcome(trial, 1, kind, started=0.0, ended=seconds, host=host, **keys)


def by_id(*outcomes: Outcome) -> dict[int, Outcome]:
    return {each.trial_id: each for each in outcomes}


# -- site and set-up -------------------------------------------------------------------------------------------------


def test_first_trials_that_fail_alike_are_the_set_ups_fault() -> None:
    failures = by_id(
        *(outcome(n, evidence=f"exit code 1; last line: no file /data/{n}.csv, 0x7f{n}a") for n in range(5))
    )
    found = verdict(failures, 5)
    assert found is not None
    assert (found.error, found.trials, found.witness.trial_id) == (SetupError, (0, 1, 2, 3, 4), 4)


def test_all_that_failed_alike_is_taken_back() -> None:
    """Trials that were asked for later, and ended before the first ones did, are no data either."""
    failures = by_id(*(outcome(n) for n in range(9)), outcome(9, evidence="another reason"))
    found = verdict(failures, 5)
    assert found is not None and (found.trials, found.witness.trial_id) == (tuple(range(9)), 4)


def test_order_of_ends_does_not_matter() -> None:
    """Quick failures end first: five of many trials, while the first ones still run, tell nothing."""
    assert verdict(by_id(*(outcome(n) for n in range(3, 20))), 5) is None
    assert verdict(by_id(*(outcome(n) for n in (4, 2, 0, 1, 3))), 5) is not None


@pytest.mark.parametrize(
    "last", [outcome(4, evidence="another reason"), outcome(9, "ok"), outcome(4, "stopped", cause="", evidence="")]
)
def test_failures_that_may_be_data(last: Outcome) -> None:
    failures = {**by_id(*(outcome(n) for n in range(5))), **by_id(last)}
    assert verdict(failures, 5) is None
    assert verdict(failures, 0) is None


def test_trials_that_were_stopped_early_are_no_failures_that_look_alike() -> None:
    """They have trained, which shows that site and set-up work."""
    evidence = "stopped early: val_loss {} at best by step 5 is worse than the median 0.55 of 9 trials"
    stopped = [outcome(n, "stopped", cause="", evidence=evidence.format(n)) for n in range(5)]
    assert verdict(by_id(*stopped), 5) is None
    assert verdict(by_id(stopped[0], *(outcome(n) for n in range(1, 9))), 5) is None
    assert verdict(by_id(stopped[0], *(lost(n) for n in range(1, 9))), 5, at_end=True) is None


def lost(trial: int) -> Outcome:
    return outcome(trial, "failed", cause="infrastructure", evidence="lost 3 times")


def test_trials_that_are_lost_for_good_are_the_sites_fault() -> None:
    assert verdict(by_id(lost(7), lost(9)), 5) is None
    found = verdict(by_id(lost(7), lost(9), lost(2), outcome(0)), 5)
    assert found is not None and (found.error, found.trials) == (SiteError, (2, 7, 9))
    assert verdict(by_id(lost(7), lost(9), lost(2), outcome(0, "ok")), 5) is None


def test_at_the_end_a_single_lost_trial_is_too_many() -> None:
    assert verdict(by_id(lost(0)), 5) is None
    assert verdict(by_id(lost(0)), 5, at_end=True) is not None
    assert verdict(by_id(outcome(0)), 5, at_end=True) is None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("exit code 1; last line: lr=0.1", "exit code 1; last line: lr=2.5e-07", True),
        ("at 0x7fa0: -3", "at 0x55: +7.", True),
        ("exit code 1", "exit code 2", True),
        ("no file a.csv", "no file b.csv", False),
    ],
)
def test_numbers_make_no_difference(one: str, other: str, alike: bool) -> None:
    assert (signature(outcome(0, evidence=one)) == signature(outcome(1, evidence=other))) == alike


# -- nodes -----------------------------------------------------------------------------------------------------------


def test_a_quick_failure_is_doubted_once() -> None:
    nodes = Nodes(several=True)
    doubted = nodes.doubt(outcome(0))
    assert (doubted.kind, doubted.cause) == ("lost", "node")
    assert doubted.evidence == "failed quickly on a, to be confirmed elsewhere: exit code 1"
    assert nodes.avoided(0) == {"a"} and nodes.avoided(1) == set()
    again = outcome(0, host="b")
    assert nodes.doubt(again) is again


@pytest.mark.parametrize(
    "sound",
    [
        outcome(0, "ok"),
        outcome(0, seconds=61.0),
        outcome(0, "lost"),
        outcome(0, "failed", cause="infrastructure"),
        outcome(0, "deferred"),
    ],
)
def test_what_is_no_quick_failure_is_believed(sound: Outcome) -> None:
    assert Nodes(several=True).doubt(sound) is sound


def test_quick_is_what_takes_less_than_a_quarter_of_a_success() -> None:
    nodes = Nodes(several=True)
    for trial, seconds in enumerate((8.0, 40.0, 200.0)):
        nodes.learn(outcome(trial, "ok", seconds=seconds))
    assert nodes.doubt(outcome(5, seconds=10.5)).kind == "failed"
    assert nodes.doubt(outcome(5, seconds=9.5)).kind == "lost"
    assert nodes.doubt(outcome(6, "lost", seconds=50.0, cause="setup")).cause == "node"


def strike(nodes: Nodes, trial: int, host: str = "a") -> str | None:
    """The trial fails quickly on the host and succeeds elsewhere."""
    nodes.learn(nodes.doubt(outcome(trial, host=host)))
    return nodes.learn(outcome(trial, "ok", host="good", seconds=20.0))


def test_a_node_on_which_trials_fail_that_succeed_elsewhere_is_shunned() -> None:
    nodes = Nodes(several=True)
    assert [strike(nodes, trial) for trial in range(3)] == [None, None, "a"]
    assert nodes.shunned == {"a": "trials 0, 1, 2 failed quickly on a and succeeded elsewhere: exit code 1"}
    assert nodes.avoided(77) == {"a"}
    assert strike(nodes, 5) is None


def test_a_success_on_a_node_clears_it() -> None:
    nodes = Nodes(several=True)
    strike(nodes, 0), strike(nodes, 1)
    nodes.learn(outcome(9, "ok", host="a"))
    assert [strike(nodes, trial) for trial in (2, 3)] == [None, None]
    assert strike(nodes, 4) == "a"


def test_a_success_on_the_same_node_is_no_strike() -> None:
    nodes = Nodes(several=True)
    for trial in range(5):
        nodes.learn(nodes.doubt(outcome(trial)))
        assert nodes.learn(outcome(trial, "ok", host="a", seconds=20.0)) is None


def test_a_trial_that_no_other_node_takes_may_run_where_it_failed() -> None:
    nodes = Nodes(several=True)
    nodes.doubt(outcome(0))
    for _ in range(3):
        assert nodes.avoided(0) == {"a"}
        nodes.learn(outcome(0, "deferred"))
    assert nodes.avoided(0) == set()


def test_a_trial_waits_longer_for_a_node_that_is_known_to_work() -> None:
    """On a loaded machine the sound node was busy while the bad one handed a trial back three times."""
    nodes = Nodes(several=True)
    nodes.learn(outcome(7, "ok", host="b", seconds=400.0))
    nodes.doubt(outcome(0))
    for _ in range(30):
        assert nodes.avoided(0) == {"a"}
        nodes.learn(outcome(0, "deferred"))
    assert nodes.avoided(0) == set()


def test_a_lost_trial_runs_on_another_node() -> None:
    nodes = Nodes(several=True)
    nodes.learn(outcome(0, "lost"))
    nodes.learn(outcome(1, "lost", host=""))
    assert (nodes.avoided(0), nodes.avoided(1)) == ({"a"}, set())
    nodes.learn(outcome(0, "deferred"))
    assert nodes.avoided(0) == set()


def test_a_single_node_is_neither_doubted_nor_avoided() -> None:
    nodes = Nodes(several=False)
    failed = outcome(0)
    assert nodes.doubt(failed) is failed
    nodes.learn(outcome(1, "lost"))
    assert nodes.avoided(0) == nodes.avoided(1) == set()


def test_shunned_nodes_alone_are_a_broken_site() -> None:
    nodes = Nodes(several=True)
    nodes.shunned["a"] = "no GPU"
    with pytest.raises(SiteError, match="only nodes on which trials fail are left: no GPU"):
        for _ in range(30):
            assert nodes.avoided(0) == {"a"}
            nodes.learn(outcome(0, "deferred"))


# -- blocks that are too short ---------------------------------------------------------------------------------------


def back(pool: str, started: float = 100.0) -> dict[str, Any]:
    """A stage's result that was handed back by a pool of that start."""
    why = "stopped before it started: its block ends in 5 s, and it may take 60 s"
    return {"pool": pool, "ended_by": why, "block_ends": True, "block": {"started": started}}


def test_blocks_that_only_hand_trials_back_are_too_short() -> None:
    blocks = ShortBlocks(3)
    for pool in "aabbb":
        blocks.learn(back(pool), submitted=50.0)
    assert blocks.evidence == ""
    blocks.learn(back("c"), submitted=50.0)
    assert blocks.evidence.endswith("it may take 60 s")
    blocks.learn(back("d") | {"ended_by": "exit"}, submitted=50.0)
    assert blocks.evidence == ""


def test_a_block_that_had_idled_or_run_something_tells_nothing() -> None:
    blocks = ShortBlocks(1)
    blocks.learn(back("idle"), submitted=150.0)
    blocks.learn(back("busy") | {"ended_by": "exit"}, submitted=50.0)
    blocks.learn(back("busy"), submitted=50.0)
    blocks.learn(back("avoided") | {"block_ends": False}, submitted=50.0)
    assert blocks.evidence == ""
