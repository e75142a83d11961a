"""A world of policies, labels and identities that changes at random, and what every state of it allows.

In: a random generator. Out: changes of one object each: the world after it, and how to bring it about.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from scenario.cluster import client
from scenario.conformance.agents import Agents, Manifest

CLIENTS, SERVERS = "talk-clients", "talk-servers"
PORTS = {"TCP": 8080, "UDP": 5353}
BYSTANDERS = 3
"""At most."""


@dataclass(frozen=True)
class Pair:
    """What policies may ask of a client, a server and their traffic."""

    role: str  # of the client
    tier: str  # of the clients' namespace
    shade: str  # of the server
    protocol: str


@dataclass(frozen=True)
class Rule:
    """A candidate policy and what it means: whom it is about, and what it lets pass (or denies)."""

    direction: str
    matches: Callable[[Pair], bool]
    spec: dict[str, Any]
    selects: Callable[[Pair], bool] = lambda pair: True
    deny: bool = False
    kubernetes: bool = False

    def manifest(self, name: str) -> Manifest:
        namespace = SERVERS if self.direction == "ingress" else CLIENTS
        version, kind = (
            ("networking.k8s.io/v1", "NetworkPolicy") if self.kubernetes else ("cilium.io/v2", "CiliumNetworkPolicy")
        )
        meta = {"name": name, "namespace": namespace}
        return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": self.spec}


def _clients(**labels: str) -> dict[str, Any]:
    return {"matchLabels": {"k8s:io.kubernetes.pod.namespace": CLIENTS, **labels}}


def _servers(**labels: str) -> dict[str, Any]:
    return {"matchLabels": {"k8s:io.kubernetes.pod.namespace": SERVERS, **labels}}


def _port(protocol: str) -> list[dict[str, Any]]:
    return [{"ports": [{"port": str(PORTS[protocol]), "protocol": protocol}]}]


def _ingress(*elements: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"endpointSelector": {}, "ingress": list(elements), **more}


def _egress(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"endpointSelector": {}, "egress": list(elements)}


TIER_X = {"io.cilium.k8s.namespace.labels.tier": "x"}
NOBODY: dict[str, Any] = {"matchLabels": {"role": "nobody"}}
DARK = {"matchLabels": {"shade": "dark"}}


def _from_pods(*roles: str) -> dict[str, Any]:
    selector = {"matchExpressions": [{"key": "role", "operator": "In", "values": list(roles)}]}
    peers = [{"namespaceSelector": {}, "podSelector": selector}]
    return {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": peers}]}


def _not_b(**ports: Any) -> dict[str, Any]:
    return _ingress({"fromEndpoints": [NOBODY]}, ingressDeny=[{"fromEndpoints": [_clients(role="b")], **ports}])


RULES: dict[str, tuple[Rule, ...]] = {
    "from-a": (
        Rule("ingress", lambda pair: pair.role == "a", _ingress({"fromEndpoints": [_clients(role="a")]})),
        Rule("ingress", lambda pair: pair.role == "a" and pair.protocol == "TCP",
             _ingress({"fromEndpoints": [_clients(role="a")], "toPorts": _port("TCP")})),
    ),
    "tier-x": (
        Rule("ingress", lambda pair: pair.tier == "x" and pair.protocol == "TCP",
             _ingress({"fromEndpoints": [_clients(**TIER_X)], "toPorts": _port("TCP")})),
        Rule("ingress", lambda pair: pair.tier == "x", _ingress({"fromEndpoints": [_clients(**TIER_X)]})),
    ),
    "from-b": (
        Rule("ingress", lambda pair: pair.role == "b", _from_pods("b"), kubernetes=True),
        Rule("ingress", lambda pair: True, _from_pods("a", "b"), kubernetes=True),
    ),
    "not-b": (
        Rule("ingress", lambda pair: pair.role == "b" and pair.protocol == "UDP", _not_b(toPorts=_port("UDP")),
             deny=True),
        Rule("ingress", lambda pair: pair.role == "b", _not_b(), deny=True),
    ),
    "dark": (
        Rule("ingress", lambda pair: pair.role == "a", selects=lambda pair: pair.shade == "dark",
             spec=_ingress({"fromEndpoints": [_clients(role="a")]}) | {"endpointSelector": DARK}),
    ),
    "to-udp": (
        Rule("egress", lambda pair: pair.protocol == "UDP",
             _egress({"toEndpoints": [_servers()], "toPorts": _port("UDP")})),
    ),
    "to-dark": (
        Rule("egress", lambda pair: pair.shade == "dark", _egress({"toEndpoints": [_servers(shade="dark")]})),
        Rule("egress", lambda pair: pair.shade == "light", _egress({"toEndpoints": [_servers(shade="light")]})),
    ),
    "to-cluster": (Rule("egress", lambda pair: True, _egress({"toEntities": ["cluster"]})),),
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """What the API was told: labels of pods and of the clients' namespace, policies by name with their version."""

    roles: tuple[tuple[str, str], ...] = (("c1", "a"), ("c2", "a"))
    shades: tuple[tuple[str, str], ...] = (("s1", "light"), ("s2", "light"))
    tier: str = "x"
    policies: frozenset[tuple[str, int]] = field(default_factory=frozenset)
    bystanders: frozenset[str] = field(default_factory=frozenset)

    def allows(self, client: str, server: str, protocol: str) -> bool:
        pair = Pair(dict(self.roles)[client], self.tier, dict(self.shades)[server], protocol)
        active = [RULES[name][version] for name, version in self.policies]
        for direction in ("ingress", "egress"):
            rules = [rule for rule in active if rule.direction == direction and rule.selects(pair)]
            matching = [rule for rule in rules if rule.matches(pair)]
            if rules and (not matching or any(rule.deny for rule in matching)):
                return False
        return True


Wait = Callable[[], None]


@dataclass(frozen=True)
class Change:
    """Of one object, `what`: `turn` says what the world is then, `begin` tells the API and returns how to wait."""

    what: str
    turn: Callable[[World], World]
    begin: Callable[[], Wait]

    def __str__(self) -> str:
        return self.what


class Changes:
    """Draws changes. `addresses`: of the pods that talk, by name."""

    def __init__(self, agents: Agents, addresses: dict[str, list[str]], choice: random.Random) -> None:
        self._agents, self._addresses, self._choice = agents, addresses, choice
        self._number = 0

    def draw(self, world: World) -> list[Change]:
        """One, or two of different objects at once."""
        changes = [self._one(world)]
        second = self._one(world)
        if self._choice.random() < 0.3 and second.what != changes[0].what:
            changes.append(second)
        return changes

    def _one(self, world: World) -> Change:
        kinds = (self._policy, self._role, self._shade, self._stamp, self._bystander, self._tier)
        return self._choice.choices(kinds, weights=(50, 12, 12, 10, 10, 6))[0](world)

    def _policy(self, world: World) -> Change:
        """Comes, changes, or goes."""
        name = self._choice.choice(sorted(RULES))
        version: int | None = self._choice.randrange(len(RULES[name]))
        if version == dict(world.policies).get(name):
            version = None
        after = frozenset() if version is None else frozenset({(name, version)})

        def begin() -> Wait:
            if version is None:
                gone = self._agents.withdraw(RULES[name][0].manifest(name))
                return lambda: self._agents.await_gone(gone)
            wanted = self._agents.tell(RULES[name][version].manifest(name))
            return lambda: self._agents.await_policies(wanted)

        return Change(f"policy {name}", lambda old: replace(old, policies=_others(old, name) | after), begin)

    def _role(self, world: World) -> Change:
        pod, role = self._choice.choice(world.roles)
        other = "b" if role == "a" else "a"
        return Change(
            pod,
            lambda old: replace(old, roles=tuple((dict(old.roles) | {pod: other}).items())),
            lambda: self._label(CLIENTS, pod, "role", other),
        )

    def _shade(self, world: World) -> Change:
        pod, shade = self._choice.choice(world.shades)
        other = "dark" if shade == "light" else "light"
        return Change(
            pod,
            lambda old: replace(old, shades=tuple((dict(old.shades) | {pod: other}).items())),
            lambda: self._label(SERVERS, pod, "shade", other),
        )

    def _stamp(self, world: World) -> Change:
        """Another identity, of which no policy speaks."""
        pod = self._choice.choice([name for name, _ in (*world.roles, *world.shades)])
        self._number += 1
        namespace, stamp = CLIENTS if pod in dict(world.roles) else SERVERS, f"n{self._number}"
        return Change(pod, lambda old: old, lambda: self._label(namespace, pod, "stamp", stamp))

    def _tier(self, world: World) -> Change:
        other = "y" if world.tier == "x" else "x"

        def begin() -> Wait:
            self._agents.cluster.kubectl("label", "namespace", CLIENTS, f"tier={other}", "--overwrite")
            label = f"k8s:io.cilium.k8s.namespace.labels.tier={other}"
            wanted = {address: label for pod, _ in world.roles for address in self._addresses[pod]}
            return lambda: self._agents.await_labels(wanted)

        return Change("tier", lambda old: replace(old, tier=other), begin)

    def _bystander(self, world: World) -> Change:
        """A pod with labels that policies speak of, and an identity of its own: comes, or goes."""
        if len(world.bystanders) >= BYSTANDERS or (world.bystanders and self._choice.random() < 0.4):
            name = self._choice.choice(sorted(world.bystanders))

            def leave() -> Wait:
                self._agents.cluster.kubectl("-n", CLIENTS, "delete", "pod", name, "--wait=false")
                return lambda: None

            return Change(name, lambda old: replace(old, bystanders=old.bystanders - {name}), leave)
        self._number += 1
        name, role = f"by{self._number}", self._choice.choice("ab")
        manifest = client(name, self._choice.choice(("node1", "node2")), role=role, stamp=name)
        manifest["metadata"]["namespace"] = CLIENTS

        def come() -> Wait:
            self._agents.cluster.apply(manifest)
            return lambda: None

        return Change(name, lambda old: replace(old, bystanders=old.bystanders | {name}), come)

    def _label(self, namespace: str, pod: str, key: str, text: str) -> Wait:
        self._agents.cluster.kubectl("-n", namespace, "label", "pod", pod, f"{key}={text}", "--overwrite")
        wanted = dict.fromkeys(self._addresses[pod], f"k8s:{key}={text}")
        return lambda: self._agents.await_labels(wanted)


def _others(world: World, name: str) -> frozenset[tuple[str, int]]:
    return frozenset(policy for policy in world.policies if policy[0] != name)


def between(old: World, changes: list[Change]) -> Iterator[World]:
    """Every state that the world may be in while these changes happen at once."""
    states = [old]
    for change in changes:
        states += [change.turn(state) for state in states]
    return iter(dict.fromkeys(states))
