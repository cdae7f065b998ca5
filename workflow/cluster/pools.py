"""Parsl's pools of workers, one a node of a block: what stages' results tell of them, and how they are ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workflow.cluster.executors import WatchedExecutor
from workflow.cluster.providers import Steady
from workflow.errors import listing
from workflow.site import Site
from workflow.triage import ShortBlocks

_SHORT_BLOCKS = 3
"""Blocks in a row that only handed trials back, after which no trial counts as fitting into one."""


class Pools:
    """The pools of a site with blocks; ``executor`` is None while Parsl doesn't run, and on other sites.

    ``say`` gets what the user should know of nodes.
    """

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        self.site = site
        self.say = say
        self.executor: WatchedExecutor | None = None
        self._by_host: dict[str, dict[str, str]] = {}
        """The pools of a host, with the files that drain them."""
        self._node_names: dict[str, str] = {}
        """What the scheduler calls a host."""
        self._shunned: set[str] = set()
        self._drained: set[str] = set()
        self._poor: set[str] = set()
        self._short = ShortBlocks(_SHORT_BLOCKS * site.nodes_per_block)

    @property
    def provider(self) -> Steady | None:
        """That of a scheduler, if there is one."""
        provider = self.executor.provider if self.executor is not None else None
        return provider if isinstance(provider, Steady) else None

    @property
    def no_trial_fits(self) -> str:
        """How the last trial came back from blocks in which none fits; empty as long as trials may fit."""
        return self._short.evidence

    def shun(self, host: str) -> None:
        """Hold a host's pools; where other jobs can take their place, elsewhere, they end instead."""
        self._shunned.add(host)
        self._hold(host)

    def note(self, result: Mapping[str, Any], submitted: float) -> None:
        """Take what a stage's result tells of its pool, its node's GPUs, and whether its block ends.

        ``submitted`` is when the stage was sent, in seconds since the epoch.
        """
        pool, host, block = result["pool"], result["host"], result.get("block") or {}
        self._note_gpus(host, block)
        in_allocation = self.site.allocated_nodes > 0
        if not in_allocation and block:
            self._short.learn(result, submitted)
        if result.get("block_ends") and not in_allocation and block.get("drain") not in self._drained:
            self._drain(pool, block["drain"])
        self._node_names[host] = block.get("node") or ""
        pools = self._by_host.setdefault(host, {})
        if pool not in pools:
            pools[pool] = block.get("drain", "")
            self._hold(host)

    def _note_gpus(self, host: str, block: Mapping[str, Any]) -> None:
        wanted, given = len(self.site.gpus), block.get("gpus")
        if given is not None and len(given) < wanted and host not in self._poor:
            self._poor.add(host)
            shown = listing(given) or "none"
            self.say(f"warning: {host} has {len(given)} of the site's {wanted} GPUs ({shown}), and runs fewer trials")

    def _drain(self, pool: str, file: str) -> None:
        """Let a pool end whose block has no time for another trial: its workers would only wait."""
        self._drained.add(file)
        if self.executor is not None and self.executor.drain(pool):
            with contextlib.suppress(OSError):
                Path(file).touch()

    def _hold(self, host: str) -> None:
        if host not in self._shunned or self.executor is None:
            return
        pools, node = self._by_host.get(host, {}), self._node_names.get(host)
        if self.provider is not None and node and self.provider.avoid(node):
            for pool, file in pools.items():
                self._drain(pool, file)
        else:
            self.executor.hold(pools)
