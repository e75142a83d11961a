"""Policies and labels change at random while pods talk: what is forbidden before and after a change never passes, what
is allowed before and after is never lost. Both address families, TCP and UDP, same node and across nodes.

`CILIUM_SOAK=N` makes N changes instead of few; `CILIUM_SOAK_SEED` chooses them.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from scenario.cluster import Cluster, addresses, client, server
from scenario.talk import KINDS, Sample, Talker, Target

pytestmark = pytest.mark.scenario
CLIENTS, SERVERS = "talk-clients", "talk-servers"
CHANGES = int(os.environ.get("CILIUM_SOAK", "4"))
SEED = int(os.environ.get("CILIUM_SOAK_SEED", "1"))
PORTS = {"TCP": 8080, "UDP": 5353}
SETTLED = 10.0
CALM = 15 * 10**9  # a connection that was blocked waits up to this long before it tries again (RFC 6298 back-off)


@dataclass(frozen=True)
class World:
    """What the API was told: labels of clients and of their namespace, names of policies."""

    roles: tuple[tuple[str, str], ...] = (("c1", "a"), ("c2", "a"))
    tier: str = "x"
    policies: frozenset[str] = field(default_factory=frozenset)

    def allows(self, client: str, protocol: str) -> bool:
        """The same for every server: policies select them by what they have in common."""
        role = dict(self.roles)[client]
        for direction in ("ingress", "egress"):
            rules = [RULES[name] for name in self.policies if RULES[name].direction == direction]
            matching = [rule for rule in rules if rule.matches(role, self.tier, protocol)]
            if rules and (not matching or any(rule.deny for rule in matching)):
                return False
        return True


@dataclass(frozen=True)
class Rule:
    """A candidate policy and what it means."""

    direction: str
    matches: Callable[[str, str, str], bool]
    spec: dict[str, Any]
    deny: bool = False
    kubernetes: bool = False

    def manifest(self, name: str) -> dict[str, Any]:
        namespace = SERVERS if self.direction == "ingress" else CLIENTS
        version, kind = (
            ("networking.k8s.io/v1", "NetworkPolicy") if self.kubernetes else ("cilium.io/v2", "CiliumNetworkPolicy")
        )
        meta = {"name": name, "namespace": namespace}
        return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": self.spec}


def clients(**labels: str) -> dict[str, Any]:
    return {"matchLabels": {"k8s:io.kubernetes.pod.namespace": CLIENTS, **labels}}


def port(protocol: str) -> list[dict[str, Any]]:
    return [{"ports": [{"port": str(PORTS[protocol]), "protocol": protocol}]}]


TO_SERVERS = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": SERVERS}}
NOBODY: dict[str, Any] = {"matchLabels": {"role": "nobody"}}
RULES = {
    "from-a": Rule("ingress", lambda role, tier, protocol: role == "a",
                   {"endpointSelector": {}, "ingress": [{"fromEndpoints": [clients(role="a")]}]}),
    "tier-x-tcp": Rule("ingress", lambda role, tier, protocol: tier == "x" and protocol == "TCP",
                       {"endpointSelector": {}, "ingress": [
                           {"fromEndpoints": [clients(**{"io.cilium.k8s.namespace.labels.tier": "x"})],
                            "toPorts": port("TCP")}]}),
    "from-b": Rule("ingress", lambda role, tier, protocol: role == "b",
                   {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
                       {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"role": "b"}}}]}]},
                   kubernetes=True),
    "not-b-udp": Rule("ingress", lambda role, tier, protocol: role == "b" and protocol == "UDP",
                      {"endpointSelector": {}, "ingress": [{"fromEndpoints": [NOBODY]}], "ingressDeny": [
                          {"fromEndpoints": [clients(role="b")], "toPorts": port("UDP")}]}, deny=True),
    "to-udp": Rule("egress", lambda role, tier, protocol: protocol == "UDP",
                   {"endpointSelector": {}, "egress": [{"toEndpoints": [TO_SERVERS], "toPorts": port("UDP")}]}),
    "to-cluster": Rule("egress", lambda role, tier, protocol: True,
                       {"endpointSelector": {}, "egress": [{"toEntities": ["cluster"]}]}),
}  # fmt: skip


@dataclass(frozen=True)
class Period:
    """Between `begin` and `end` the world was on its way from `old` to `new`; equal: at rest. ns."""

    begin: int
    end: int
    old: World
    new: World


class Stage:
    """The pods, their talk, and who changes the world."""

    def __init__(self, cluster: Cluster, talkers: dict[str, Talker]) -> None:
        self.cluster, self.talkers = cluster, talkers
        self.world = World()
        self.periods: list[Period] = []
        self._rest_since = time.monotonic_ns()

    def change(self, choice: random.Random) -> None:
        """One change of one object; returns when every stream that it concerns has felt it."""
        old = self.world
        begin = time.monotonic_ns()
        self.periods.append(Period(self._rest_since, begin, old, old))
        self.world = new = self._apply(choice)
        self._await(old, new, begin)
        self._rest_since = time.monotonic_ns()
        self.periods.append(Period(begin, self._rest_since, old, new))

    def _apply(self, choice: random.Random) -> World:
        old, what = self.world, choice.random()
        if what < 0.6:
            name = choice.choice(sorted(RULES))
            manifest = RULES[name].manifest(name)
            if name in old.policies:
                self.cluster.kubectl("-n", manifest["metadata"]["namespace"], "delete", manifest["kind"], name)
            else:
                self.cluster.apply(manifest)
            return replace(old, policies=old.policies ^ {name})
        if what < 0.85:
            roles = dict(old.roles)
            pod = choice.choice(sorted(roles))
            roles[pod] = "b" if roles[pod] == "a" else "a"
            self.cluster.kubectl("-n", CLIENTS, "label", "pod", pod, f"role={roles[pod]}", "--overwrite")
            return replace(old, roles=tuple(roles.items()))
        tier = "y" if old.tier == "x" else "x"
        self.cluster.kubectl("label", "namespace", CLIENTS, f"tier={tier}", "--overwrite")
        return replace(old, tier=tier)

    def _await(self, old: World, new: World, begin: int) -> None:
        """A change is felt when a question that was asked after it met the new answer; unfelt changes settle too."""
        for name, talker in self.talkers.items():
            for index, target in enumerate(talker.targets):
                allowed = new.allows(name, target.protocol)
                if target.kind.endswith("-new") and allowed != old.allows(name, target.protocol):
                    self.cluster.eventually(
                        lambda talker=talker, index=index, allowed=allowed: felt(talker, index, begin, allowed),
                        f"{name} {target} is {'allowed' if allowed else 'forbidden'} after {old} became {new}",
                        SETTLED,
                    )
        time.sleep(0.3)  # what nobody feels takes no longer than what somebody does

    def finish(self) -> None:
        for talker in self.talkers.values():
            talker.stop()
        self.periods.append(Period(self._rest_since, time.monotonic_ns(), self.world, self.world))


def felt(talker: Talker, index: int, begin: int, allowed: bool) -> bool:
    last = [sample for sample in talker.samples[index][-5:] if sample.sent > begin]
    return bool(last) and bool(last[-1].answered) == allowed


@pytest.fixture
def stage(cluster: Cluster) -> Iterator[Stage]:
    with cluster.namespace(CLIENTS), cluster.namespace(SERVERS):
        cluster.kubectl("label", "namespace", CLIENTS, "tier=x")
        for manifest, namespace in (
            (client("c1", "node1", role="a"), CLIENTS), (client("c2", "node2", role="a"), CLIENTS),
            (server("s1", "node1"), SERVERS), (server("s2", "node2"), SERVERS),
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


def test_nothing_forbidden_passes_and_nothing_allowed_is_lost(stage: Stage) -> None:
    for talker in stage.talkers.values():
        stage.cluster.eventually(lambda talker=talker: all(talker.samples), "every stream has begun")
    choice = random.Random(SEED)
    for _ in range(CHANGES):
        stage.change(choice)
    stage.finish()
    wrong: list[str] = []
    asked = judged = 0
    for name, talker in stage.talkers.items():
        for target, samples in zip(talker.targets, talker.samples, strict=True):
            found = Judge(stage.periods, name, target)
            wrong += [f"{name} {target}: {fault}" for sample in samples if (fault := found.fault(sample))]
            asked, judged = asked + len(samples), judged + found.judged
    print(f"{CHANGES} changes, seed {SEED}: {asked} questions, {judged} of them with one possible outcome")
    assert judged > asked / 3, "hardly anything was judged"
    assert not wrong, f"{len(wrong)} of {judged}:\n" + "\n".join(wrong[:20])


class Judge:
    """What may have become of one stream's questions."""

    def __init__(self, periods: list[Period], name: str, target: Target) -> None:
        self._target, self.judged = target, 0
        self._periods = [
            (period, {period.old.allows(name, target.protocol), period.new.allows(name, target.protocol)})
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
        return f"{[(sample.sent - period.begin) / 1e9 for period in last]} s after {last}"
