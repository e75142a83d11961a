"""Who asks the kubelets: the last two samples of every node.

In: Node objects, the Summaries of their kubelets. Out: the use of nodes and pods. Every 15 s while nobody wants to
know; who asks gets what is at most 5 s old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import structlog

from kubelab.apiserver.kubelets import Kubelets
from kubelab.apiserver.store import Store
from kubelab.metrics.samples import PodKey, PodUsage, Sample, Usage, pod_usage, sample_of, usage_of

log = structlog.get_logger(__name__)

RESOLUTION, FRESHNESS, PATIENCE = 15.0, 5.0, 2.0
"""Seconds between two rounds, that an answer may be old, that a kubelet has for its answer."""


@dataclass(frozen=True, slots=True)
class Looks:
    """The last sample of a node and the one before it."""

    latest: Sample
    before: Sample | None = None


class Collector:
    """`run` collects until cancelled; `refresh` beforehand makes what is read afterwards fresh."""

    def __init__(self, store: Store, kubelets: Kubelets, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._kubelets, self._clock = store, kubelets, clock
        self._looks: Mapping[str, Looks] = {}
        self._failing: frozenset[str] = frozenset()
        self._last = 0.0
        self._round: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(RESOLUTION)

    async def refresh(self) -> None:
        """Ask the kubelets, unless that was done a moment ago. Whoever comes meanwhile waits for the same round."""
        if self._round is None:
            if self._clock() - self._last < FRESHNESS:
                return
            self._round = asyncio.create_task(self._collect(), name="metrics of all nodes")
        await asyncio.shield(self._round)

    def node(self, name: str) -> Usage | None:
        looks = self._looks.get(name)
        if looks is None:
            return None
        return usage_of(looks.latest.node, looks.before.node if looks.before else None)

    def pod(self, node: str, key: PodKey) -> PodUsage | None:
        """Of a pod on a node."""
        looks = self._looks.get(node)
        return pod_usage(key, looks.latest, looks.before) if looks is not None else None

    async def _collect(self) -> None:
        try:
            names = [node["metadata"]["name"] for node in self._store.peek_all("nodes")]
            found = dict(zip(names, await asyncio.gather(*map(self._ask, names)), strict=True))
            self._looks = {
                name: Looks(sample, self._looks[name].latest if name in self._looks else None)
                for name, sample in found.items()
                if sample is not None
            }
            self._failing = frozenset(name for name, sample in found.items() if sample is None)
            self._last = self._clock()
        finally:
            self._round = None

    async def _ask(self, node: str) -> Sample | None:
        """None for a node whose kubelet does not answer: what was known of it is too old."""
        try:
            endpoint = self._kubelets.of_node(node)
            session = self._kubelets.session(endpoint)
            async with asyncio.timeout(PATIENCE), session.get(endpoint.url("/stats/summary", [])) as answer:
                answer.raise_for_status()
                return sample_of(msgspec.json.decode(await answer.read()), self._clock())
        except Exception as error:  # whatever is wrong with one of them, all others are measured
            if node not in self._failing:
                log.info("no metrics of a node", node=node, why=f"{type(error).__name__}: {error}")
            return None
