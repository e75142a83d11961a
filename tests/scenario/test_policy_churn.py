"""Policies, labels and identities change at random while pods talk: what is forbidden before and after a change never
passes, what is allowed before and after is never lost. Both address families, TCP and UDP, same node and across nodes.

For SECONDS; `CILIUM_SOAK=N` makes N changes instead. `CILIUM_SOAK_SEED` chooses them: a run prints its seed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scenario.churn import CLIENTS, PORTS, SERVERS, Changes, World, between
from scenario.cluster import Cluster, addresses, client, server
from scenario.conformance.agents import Agents
from scenario.talk import KINDS, Sample, Talker, Target

pytestmark = pytest.mark.scenario
CHANGES = int(os.environ.get("CILIUM_SOAK", "0"))
SEED = int(os.environ.get("CILIUM_SOAK_SEED") or random.SystemRandom().randrange(1_000_000))
SECONDS = 10
SETTLED = 10.0
CALM = 15 * 10**9  # a connection that was blocked waits up to this long before it tries again (RFC 6298 back-off)


@dataclass(frozen=True)
class Period:
    """Between `begin` and `end` the world was in one of `worlds`; more than one: on its way. ns."""

    begin: int
    end: int
    worlds: tuple[World, ...]
    why: str = "at rest"


class Stage:
    """The pods, their talk, and who changes the world."""

    def __init__(self, cluster: Cluster, talkers: dict[str, Talker]) -> None:
        self.cluster, self.talkers = cluster, talkers
        self.world = World()
        self.periods: list[Period] = []
        self._rest_since = time.monotonic_ns()

    def change(self, changes: Changes) -> None:
        """One change, or two at once; returns when all nodes know and every stream that it concerns has felt it."""
        old = self.world
        drawn = changes.draw(old)
        begin = time.monotonic_ns()
        self.periods.append(Period(self._rest_since, begin, (old,)))
        states = tuple(between(old, drawn))
        self.world = states[-1]
        waits = [change.begin() for change in drawn]
        for wait in waits:
            wait()
        why = " and ".join(map(str, drawn))
        self._await(old, begin, why)
        self._rest_since = time.monotonic_ns()
        self.periods.append(Period(begin, self._rest_since, states, why))

    def _await(self, old: World, begin: int, why: str) -> None:
        """A change is felt when a question that was asked after it met the new answer; unfelt changes settle too."""
        for name, talker in self.talkers.items():
            for index, target in enumerate(talker.targets):
                allowed, before = (world.allows(name, target.server, target.protocol) for world in (self.world, old))
                if target.kind.endswith("-new") and allowed != before:
                    self.cluster.eventually(
                        lambda talker=talker, index=index, allowed=allowed: felt(talker, index, begin, allowed),
                        f"{name} {target} is {'allowed' if allowed else 'forbidden'} after {why} (seed {SEED})",
                        SETTLED,
                    )
        time.sleep(0.3)  # what nobody feels takes no longer than what somebody does

    def finish(self) -> None:
        for talker in self.talkers.values():
            talker.stop()
        self.periods.append(Period(self._rest_since, time.monotonic_ns(), (self.world,)))


def felt(talker: Talker, index: int, begin: int, allowed: bool) -> bool:
    last = [sample for sample in talker.samples[index][-5:] if sample.sent > begin]
    return bool(last) and bool(last[-1].answered) == allowed


@pytest.fixture
def stage(cluster: Cluster) -> Iterator[Stage]:
    with cluster.namespace(CLIENTS), cluster.namespace(SERVERS):
        cluster.kubectl("label", "namespace", CLIENTS, "tier=x")
        for manifest, namespace in (
            (client("c1", "node1", role="a"), CLIENTS), (client("c2", "node2", role="a"), CLIENTS),
            (server("s1", "node1", shade="light"), SERVERS), (server("s2", "node2", shade="light"), SERVERS),
        ):  # fmt: skip
            manifest["metadata"]["namespace"] = namespace
            cluster.apply(manifest)
        for namespace in (CLIENTS, SERVERS):
            cluster.wait_ready(namespace)
        servers = cluster.get("-n", SERVERS, "pods")["items"]
        targets = [
            Target(kind, address, PORTS[kind[:3].upper()], pod["metadata"]["name"])
            for pod in servers
            for address in addresses(pod).values()
            for kind in KINDS
        ]
        pods = cluster.get("-n", CLIENTS, "pods")["items"]
        talkers = {pod["metadata"]["name"]: Talker(cluster, pod, targets) for pod in pods}
        made = Stage(cluster, talkers)
        try:
            yield made
        finally:
            for talker in talkers.values():
                talker.kill()


@pytest.fixture
def changes(cluster: Cluster, stage: Stage) -> Iterator[Changes]:
    pods = [pod for namespace in (CLIENTS, SERVERS) for pod in cluster.get("-n", namespace, "pods")["items"]]
    agents = Agents(cluster)
    try:
        known = {pod["metadata"]["name"]: list(addresses(pod).values()) for pod in pods}
        yield Changes(agents, known, random.Random(SEED))
    finally:
        agents.close()


def test_nothing_forbidden_passes_and_nothing_allowed_is_lost(stage: Stage, changes: Changes) -> None:
    print(f"CILIUM_SOAK_SEED={SEED}")
    for talker in stage.talkers.values():
        stage.cluster.eventually(lambda talker=talker: all(talker.samples), "every stream has begun")
    until, made = time.monotonic() + SECONDS, 0
    while made < CHANGES or (not CHANGES and time.monotonic() < until):
        stage.change(changes)
        made += 1
    stage.finish()
    wrong: list[str] = []
    asked = judged = 0
    for name, talker in stage.talkers.items():
        for target, samples in zip(talker.targets, talker.samples, strict=True):
            found = Judge(stage.periods, name, target)
            wrong += [f"{name} {target}: {fault}" for sample in samples if (fault := found.fault(sample))]
            asked, judged = asked + len(samples), judged + found.judged
    print(f"{made} changes, seed {SEED}: {asked} questions, {judged} of them with one possible outcome")
    assert judged > asked / 8, "hardly anything was judged"
    assert not wrong, f"seed {SEED}: {len(wrong)} of {judged}:\n" + "\n".join(wrong[:20])


class Judge:
    """What may have become of one stream's questions."""

    def __init__(self, periods: list[Period], name: str, target: Target) -> None:
        self._target, self.judged = target, 0
        self._periods = [
            (period, {world.allows(name, target.server, target.protocol) for world in period.worlds})
            for period in periods
        ]

    def _possible(self, begin: int, end: int) -> set[bool]:
        return set().union(*(kinds for period, kinds in self._periods if period.begin < end and period.end > begin))

    def fault(self, sample: Sample) -> str:
        patience = 2 * 10**9
        possible = self._possible(sample.sent, sample.answered or sample.sent + patience)
        if self._target.kind == "tcp" and not sample.answered:
            possible |= self._possible(sample.sent - CALM, sample.sent)
        if len(possible) != 1:
            return ""
        self.judged += 1
        if possible == {False} and sample.answered:
            return f"passed while forbidden: {sample}, {self._around(sample)}"
        if possible == {True} and not sample.answered:
            return f"lost while allowed: {sample}, {self._around(sample)}"
        return ""

    def _around(self, sample: Sample) -> str:
        last = [period for period, _ in self._periods if period.begin < sample.sent][-2:]
        times = [(sample.sent - period.begin) / 1e9 for period in last]
        return f"{times} s after {[(period.why, period.worlds[-1]) for period in last]}"
