"""What the search asks for and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Value = int | float | str | bool
Params = Mapping[str, Value]

Curve = tuple[tuple[int, float], ...]
"""A metric in the course of a training: (step, value) by ascending steps."""

Kind = Literal["ok", "failed", "stopped", "lost", "deferred"]

Cause = Literal["", "model", "infrastructure", "node", "walltime", "setup", "site"]
"""Why an attempt didn't end well, by who must act: the search (it is data), nobody (it runs again; with ``node`` on
another one, since a quick failure may be the node's; with ``walltime`` in another block, since its own ended), the
curator (the set-up is broken for every trial), the user (the site cannot go on, for example with a full disk)."""

FINAL_KINDS: frozenset[str] = frozenset({"ok", "failed", "stopped"})
"""Kinds that end a trial. ``lost`` and ``deferred`` end an attempt only; an unknown kind ends nothing."""

FIRST_RERUN = 10**9
"""Trials with ids from this one on are re-runs of the search's best, which asks for none of so many."""


NO_TRIAL = -1
"""The trial of preprocess's attempts, which are for all."""


def is_rerun(trial_id: int) -> bool:
    return trial_id >= FIRST_RERUN


def spoken(trial_id: int) -> str:
    """What a trial is called in messages."""
    return f"re-run {trial_id - FIRST_RERUN}" if is_rerun(trial_id) else f"trial {trial_id}"


GREATER_IS_BETTER = frozenset(
    {"pcc", "scc", "r2", "auc", "roc_auc", "aupr", "acc", "accuracy", "bacc", "f1", "kappa", "mcc"}
)
"""Metrics that are to be maximised, by the names that models give them."""


def likely_mode(metric: str) -> str:
    """Whether greater is better, by a metric's name: all that a table tells of it."""
    return "max" if metric in GREATER_IS_BETTER else "min"


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration at one fidelity.

    ``params`` holds every hyperparameter that exists in it, constants included. ``generation`` counts from 1
    and is None for searches without generations. ``parents`` are trial ids. Trials of one configuration
    share ``config_id``, the id of the first of them.
    """

    id: int
    config_id: int
    params: Params
    generation: int | None = None
    parents: tuple[int, ...] = ()
    fidelity: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        return cls(**{**data, "parents": tuple(data["parents"])})


def loss_of(value: float, mode: str) -> float:
    """What is to be minimised of a metric that is to be, or to be maximised; or the value that a loss stands for."""
    return value if mode == "min" else -value


@dataclass(frozen=True)
class Objective:
    """A metric that is searched for, by its name in the model's scores, and 'min' or 'max'."""

    metric: str = "val_loss"
    mode: str = "min"

    def __str__(self) -> str:
        """As experiment files have it in a list of several."""
        return f"{self.metric} {self.mode}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt of a trial (or of a stage) ended.

    ``value`` is the first objective, in the metric's own unit; None unless ``kind`` is ``ok``. ``metrics`` are
    all scores that the attempt wrote, and the further objectives; of one that was stopped early the last value of the
    first objective. ``started`` and ``ended`` are seconds since the epoch on the worker's clock, None where the attempt
    never started. ``gpu_seconds`` is their difference where it had any GPUs, however many and whoever shared them;
    what people see counts those (``report.units.charge``). ``peak_memory`` is that of its process tree, in bytes, 0 if
    unknown. ``evidence`` says in one line why it ended so. ``source`` is the directory with the model of an outcome
    that was reused from another run; empty where the trial ran in this one. ``curve`` are the objective's values during
    the training, thinned to a few, where its log was read for them.
    """

    trial_id: int
    attempt: int
    kind: Kind
    value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    gpu_seconds: float = 0.0
    host: str = ""
    gpu: str | None = None
    peak_memory: int = 0
    evidence: str = ""
    cause: Cause = ""
    source: str = ""
    curve: Curve = ()

    @property
    def trained(self) -> bool:
        """Whether it shows that site and model work: a training ended well, or was stopped for its values."""
        return self.kind in ("ok", "stopped")

    @property
    def final(self) -> bool:
        return self.kind in FINAL_KINDS

    @property
    def was_cut_off(self) -> bool:
        """Whether the end of its block stopped the attempt."""
        return self.kind == "lost" and self.cause == "walltime"

    @property
    def has_no_time(self) -> bool:
        """Whether the attempt was handed back, since its block would end too soon."""
        return self.kind == "deferred" and self.cause == "walltime"

    @property
    def gpus(self) -> int:
        """How many GPUs the attempt had."""
        return 0 if self.gpu is None else self.gpu.count(",") + 1

    @property
    def seconds(self) -> float:
        """Wall time of the attempt on its worker, in seconds."""
        if self.started is None or self.ended is None:
            return 0.0
        return max(0.0, self.ended - self.started)

    def to_json(self) -> dict[str, Any]:
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        if not self.curve:  # as in the journals of older versions
            del data["curve"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        return cls(**{**data, "curve": tuple((step, value) for step, value in data.get("curve", ()))})
