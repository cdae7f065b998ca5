"""The finals: a search's best are trained again with other seeds, so that luck doesn't choose the winner. All pure.

The best of many values is too good: it was chosen for its luck, too. The mean of trainings that nothing was chosen by
is not, and so it decides which finalist wins. The training that made it a finalist doesn't count in that mean.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from workflow.trial import FIRST_RERUN, Outcome, Params, Trial, Value, loss_of

SEED_ARGUMENTS = ("rng_seed", "seed", "random_seed")
"""Names by which models take a seed: one that the experiment gives to trainings is known to be taken."""

_FIRST_SEED = 1000
"""Before the first seed of a re-run where the search's own is the model's default, which is hardly one of these."""


@dataclass(frozen=True)
class FinalistsSettings:
    """How many of the best configurations are trained again, and how often: with the seeds after ``seed``.

    ``seed_argument`` names the option of train.sh that takes a seed. Without one nothing is trained again: it would be
    the same training.
    """

    count: int = 3
    repeats: int = 3
    seed_argument: str | None = None
    seed: int = _FIRST_SEED

    @property
    def size(self) -> int:
        """The number of trainings."""
        return self.count * self.repeats if self.seed_argument is not None else 0

    def params(self, finalist: Trial) -> list[Params]:
        """Of the re-runs of a finalist."""
        if self.seed_argument is None:
            return []
        return [{**finalist.params, self.seed_argument: self.seed + number} for number in range(1, self.repeats + 1)]


def reruns_of(finalists: Sequence[Trial], settings: FinalistsSettings, known: Iterable[Trial]) -> list[Trial]:
    """A trial for each re-run, those of the best finalist first; one that is ``known`` from an earlier time stays it.

    It has the finalist as its parent and everything else in common with it, but for the seed and the checkpoints.
    """
    before = {(frozenset(trial.params.items()), trial.fidelity): trial for trial in known}
    free = 1 + max((trial.id for trial in before.values()), default=FIRST_RERUN - 1)
    found = []
    for finalist in finalists[: settings.count]:
        for params in settings.params(finalist):
            trial = before.get((frozenset(params.items()), finalist.fidelity))
            if trial is None:
                trial, free = Trial(free, free, params, fidelity=finalist.fidelity), free + 1
            found.append(replace(trial, parents=(finalist.id,)))
    return found


class Finals:
    """What a campaign asks for trials once the search is over: the re-runs, all at once, whatever comes out.

    Who has won is read from the journal's state.
    """

    def __init__(self, reruns: Iterable[Trial]) -> None:
        self._left = deque(reruns)

    @property
    def done(self) -> bool:
        return not self._left

    def ask(self) -> Trial | None:
        return self._left.popleft() if self._left else None

    def tell(self, outcome: Outcome) -> None:
        """Nothing follows from it."""


@dataclass(frozen=True)
class Finalist:
    """The outcome by which a trial got into the finals, and how each of its re-runs ended, by what differs in it."""

    outcome: Outcome
    reruns: Sequence[tuple[Mapping[str, Value], Outcome]]

    @property
    def values(self) -> list[float]:
        return [outcome.value for _, outcome in self.reruns if outcome.value is not None]

    @property
    def mean(self) -> float | None:
        """None if no re-run succeeded."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """The sample's; None for fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def failed(self) -> int:
        """Re-runs that failed on the model's account: what the infrastructure lost tells nothing."""
        return sum(outcome.kind != "ok" and outcome.cause != "infrastructure" for _, outcome in self.reruns)


def rank(finalists: Iterable[Finalist], mode: str) -> list[Finalist]:
    """By the mean of their re-runs, behind all with fewer that failed; as they are where none has succeeded."""

    def key(finalist: Finalist) -> tuple[bool, int, float]:
        mean = finalist.mean
        return mean is None, finalist.failed, math.inf if mean is None else loss_of(mean, mode)

    return sorted(finalists, key=key)


def optimism(ranked: Sequence[Finalist], search_best: float, mode: str) -> float | None:
    """By how much the search's best value is better than the mean of the winner's re-runs; None without a mean."""
    mean = ranked[0].mean if ranked else None
    if mean is None:
        return None
    return loss_of(mean, mode) - loss_of(search_best, mode)


def doubt(ranked: Sequence[Finalist]) -> str:
    """Why the re-runs tell nothing; empty if they do."""
    ended = [outcome for finalist in ranked for _, outcome in finalist.reruns]
    if ended and all(outcome.kind != "ok" for outcome in ended):
        return f"no re-run succeeded, so the search's best stays the winner; the first one: {ended[0].evidence}"
    alike = [finalist for finalist in ranked if {*finalist.values} == {finalist.outcome.value}]
    if ended and len(alike) == len(ranked):
        gave = "every re-run that succeeded gave the value that the search had found"
        return f"{gave}: the model seems to make no use of the seed"
    return ""
