"""A snapshot as a terminal shows it: no wider and no higher than that is, also on a phone."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from workflow.budgets import clock
from workflow.errors import printable
from workflow.report.snapshot import Node, Running, Snapshot, Winner
from workflow.trial import FIRST_RERUN, Params, is_rerun

_LEVELS, _ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.-~=+*#"

_NARROW = 60
"""Columns below which a running trial is shown without its host and the time that is expected."""

_LABEL = 12
_WIDEST = 100
_MOST_RUNNING = 8
_PARAM_LINES = 3
_SPARK = 40
_PERCENT = len(" 100 %")

CONDITIONS = {
    "new": "dim", "running": "green", "interrupted": "yellow", "stale": "red", "ended": "blue",
}  # fmt: skip


class TerminalConsole(Console):
    """Rich's own answer to a reader that went away is to end the program; this one says nothing more."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


@dataclass(frozen=True)
class View:
    """``height`` in lines bounds what is shown; None for as many as it takes, which are some twenty."""

    shot: Snapshot
    height: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, ascii_only = min(options.max_width, _WIDEST), options.ascii_only
        lines = [_title(self.shot), *_bar(self.shot, width, ascii_only=ascii_only)]
        lines += _facts(self.shot, width, ascii_only=ascii_only)
        room = _MOST_RUNNING if self.height is None else min(_MOST_RUNNING, self.height - len(lines) - 3)
        lines += _running(self.shot.running[: max(0, room)], len(self.shot.running), width)
        for line in lines[: self.height]:
            if ascii_only:
                line.plain = line.plain.encode("ascii", "replace").decode()
            line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
            line.no_wrap = True
            yield line


def _title(shot: Snapshot) -> Text:
    doing = shot.stage or shot.condition
    title = Text.assemble((shot.name, "bold"), "  ", (doing, CONDITIONS[shot.condition]))
    title.append(f"  {clock(shot.cost.wall_seconds)}" + (f" on {shot.site}" if shot.site else ""), "dim")
    return title


def _bar(shot: Snapshot, width: int, *, ascii_only: bool) -> Iterator[Text]:
    """Of the budget that ends first; to be told from what is left of it without colours, too."""
    if shot.condition != "new":
        part, full = min(1.0, shot.nearest.part), max(1, width - _PERCENT)
        done, rest = ("#", "-") if ascii_only else ("━", "─")
        length = int(part * full)
        yield Text.assemble(
            (done * length, "cyan"), (rest * (full - length), "bright_black"), f"{int(100 * part):>4} %"
        )


def _facts(shot: Snapshot, width: int, *, ascii_only: bool) -> Iterator[Text]:
    yield _fact("trials", _trials(shot))
    if shot.reruns is not None:
        yield _fact("re-runs", f"{shot.reruns.done} of {shot.reruns.of} ended")
    if shot.cost.left is not None:
        yield _fact("time left", f"{clock(shot.cost.left)}, ends {_moment(time.time() + shot.cost.left)}")
    if shot.best is not None:
        yield from _best(shot, width, ascii_only=ascii_only)
    if shot.winner is not None:
        yield _fact("winner", _won(shot.winner))
    if (shown := shot.winner or shot.best) is not None:
        yield from _params(shown.params, width)
    if shot.generation is not None:
        yield _fact("generation", _generation(shot))
    if shot.condition == "running":
        yield from _workers(shot, width)
    if shot.failures:
        kinds = ", ".join(f"{number} {kind}" for kind, number in shot.failures.items())
        yield _fact("failed", Text(printable(kinds), "yellow"))
    yield _fact("used", ", ".join(_used(shot)))


def _fact(label: str, value: str | Text) -> Text:
    return Text.assemble((f"{label:{_LABEL}}", "dim"), value)


def _trials(shot: Snapshot) -> Text:
    trials = shot.trials
    of = f" of {trials.budget}" if trials.budget is not None and trials.worth is None else ""
    text = Text.assemble((f"{trials.done}{of}", "bold"), " ended")
    if trials.worth is not None:
        text.append(f", worth {trials.worth:.1f} of {trials.whole}")
    parts = {"failed": trials.failed, "stopped early": trials.stopped, "attempts ran again": trials.lost_attempts}
    text.append("".join(f", {number} {what}" for what, number in parts.items() if number))
    return text


def _moment(at: float) -> str:
    """A point of time as a person here says it, with the day unless it is today."""
    then, now = time.localtime(at), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%a %d %b %H:%M", then)


def _best(shot: Snapshot, width: int, *, ascii_only: bool) -> Iterator[Text]:
    best = shot.best
    assert best is not None
    target = f", target {shot.target:g}" if shot.target is not None else ""
    yield _fact(
        "best", Text.assemble((f"{best.value:.6g}", "bold green"), f" {shot.metric}, trial {best.trial}{target}")
    )
    if len(set(shot.history)) > 1:
        line = sparkline(shot.history, min(_SPARK, width - _LABEL - 20), ascii_only=ascii_only)
        ends = f"  {shot.history[0]:.4g} to {shot.history[-1]:.4g}"
        yield Text.assemble(" " * _LABEL, (line, "cyan"), (ends, "dim"))


def _won(winner: Winner) -> Text:
    trial = (f"trial {winner.trial}", "bold green")
    if winner.mean is None:
        return Text.assemble(trial, ", no re-run succeeded")
    return Text.assemble(trial, f", mean {winner.mean:.6g} by re-runs, {winner.value:.6g} in the search")


def _params(params: Params, width: int) -> Iterator[Text]:
    text = printable(", ".join(f"{name}={_short(value)}" for name, value in params.items()))
    for line in textwrap.wrap(text, max(20, width - _LABEL), max_lines=_PARAM_LINES, placeholder=" ..."):
        yield Text(" " * _LABEL + line)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool) -> str:
    """At most so many characters, the higher the greater the value.

    The scale is that of the last nine tenths: the first values of a search are often out of all proportion.
    """
    levels = _ASCII_LEVELS if ascii_only else _LEVELS
    count = max(1, min(width, len(values)))
    shown = [values[round(number * (len(values) - 1) / max(1, count - 1))] for number in range(count)]
    low, high = sorted((shown[count // 10], shown[-1]))
    scale = (len(levels) - 1) / (high - low) if high > low else 0.0
    return "".join(levels[round((min(max(value, low), high) - low) * scale)] for value in shown)


def _generation(shot: Snapshot) -> str:
    generation = shot.generation
    assert generation is not None
    best = f", best {generation.best:.6g}" if generation.best is not None else ""
    return f"{generation.number} of {generation.of}: {generation.done} of {generation.asked} ended{best}"


def _workers(shot: Snapshot, width: int) -> Iterator[Text]:
    workers = shot.workers
    text = Text(f"{workers.busy} busy, {workers.idle} idle")
    if workers.silent:
        text.append(f", {workers.silent} lost", "red")
    yield _fact("workers", text)
    if len(workers.nodes) > 1:
        yield from _nodes(workers.nodes, width)


def _nodes(nodes: Sequence[Node], width: int) -> Iterator[Text]:
    """Two lines at most."""
    size = max(len(node.host) for node in nodes) + 8
    row = max(1, (width - _LABEL) // size)
    shown = nodes if len(nodes) <= 2 * row else nodes[: 2 * row - 1]
    for start in range(0, len(shown), row):
        line = Text(" " * _LABEL)
        for node in shown[start : start + row]:
            line.append(f"{_node(node):{size}}", "red" if node.silent or node.shunned else "")
        if start + row >= len(shown) < len(nodes):
            line.append(f"+{len(nodes) - len(shown)}", "dim")
        yield line


def _node(node: Node) -> str:
    if node.shunned:
        return f"{node.host} out"
    return f"{node.host} {node.busy}" + (f"/{node.workers}" if node.workers is not None else "")


def _used(shot: Snapshot) -> list[str]:
    """GPU-hours in any case, as a part of a budget where there is one."""
    texts = [use.text for use in shot.cost.budgets]
    return (
        texts if any(shot.cost.unit in text for text in texts) else [f"{shot.cost.hours:.3g} {shot.cost.unit}", *texts]
    )


def _running(running: Sequence[Running], total: int, width: int) -> Iterator[Text]:
    if not running:
        return
    narrow, hosts = width < _NARROW, max(4, *(len(each.host) for each in running))
    yield Text()
    yield Text(_row("trial", "host", "time", "expected", "last in the log", 0 if narrow else hosts), "dim")
    for each in running:
        waits = "waits" if each.seconds is None else str(clock(each.seconds))
        expected = "" if each.expected is None else str(clock(each.expected))
        row = Text(_row(_number(each.trial), each.host, waits, expected, printable(each.last), 0 if narrow else hosts))
        row.stylize("red" if each.silent else "dim" if each.seconds is None else "")
        yield row
    if total > len(running):
        yield Text(f"and {total - len(running)} more", "dim")


def _number(trial: int) -> str:
    return f"re-{trial - FIRST_RERUN}" if is_rerun(trial) else str(trial)


def _row(trial: str, host: str, seconds: str, expected: str, last: str, hosts: int) -> str:
    """``hosts`` is the width of their column; 0 where there is no room for it, nor for what is expected."""
    wide = f"{host:{hosts}}  {seconds:>8}  {expected:>8}" if hosts else f"{seconds:>8}"
    return f"{trial:>5}  {wide}  {last}"
