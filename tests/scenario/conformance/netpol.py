"""The world of Kubernetes' NetworkPolicy cases: three namespaces of three pods, who all ask each other and the world.

In: a case's policies and label changes. Out: what every question is expected to come to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scenario.conformance.agents import Manifest
from scenario.conformance.stage import Flow

NAMESPACES, PODS = ("x", "y", "z"), ("a", "b", "c")
NODE = dict(zip(PODS, ("node1", "node2", "node3"), strict=True))
PORTS = [(f"serve-{port}-{protocol.lower()}", protocol, port) for protocol in ("TCP", "UDP") for port in (80, 81)]
WORLD = {"world/1": {4: "203.0.113.10", 6: "2001:db8::10"}, "world/2": {4: "203.0.113.11", 6: "2001:db8::11"}}


@dataclass(frozen=True, slots=True)
class Ask:
    """A flow by the names of its ends; the world is a namespace with the pods 1 and 2."""

    source_ns: str
    source: str
    ns: str
    pod: str
    kind: str
    port: int

    @property
    def within(self) -> bool:
        return self.source_ns == self.ns

    @property
    def end(self) -> str:
        return f"{self.ns}/{self.pod}"

    @property
    def begin(self) -> str:
        return f"{self.source_ns}/{self.source}"


def _asks() -> list[Ask]:
    pods = [(namespace, pod) for namespace in NAMESPACES for pod in PODS]
    inside = [
        Ask(*source, *target, kind.lower(), port)
        for source in pods
        for target in pods
        if source != target
        for _, kind, port in PORTS
    ]
    return inside + [Ask(*source, "world", number, "tcp", 80) for source in pods for number in ("1", "2")]


ASKS = _asks()
Passes = Callable[[Ask], bool]


def flows(passes: Passes) -> dict[Flow, bool]:
    return {Flow(ask.begin, ask.end, ask.kind, ask.port, version): passes(ask) for ask in ASKS for version in (4, 6)}


@dataclass(frozen=True)
class Step:
    """A state of the world: these policies, and labels of namespaces (`x`) and pods (`x/a`) that differ from the usual.
    `None` takes a label away."""

    policies: tuple[Manifest, ...]
    passes: Passes
    labels: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One after the other."""

    name: str
    steps: tuple[Step, ...]


def case(name: str, passes: Passes, *policies: Manifest) -> Case:
    """One of a single state."""
    return Case(name, (Step(policies, passes),))


def usual_labels(what: str) -> dict[str, str]:
    """Of a namespace or pod."""
    namespace, _, pod = what.partition("/")
    return {"pod": pod} if pod else {"ns": namespace}


def policy(
    namespace: str, *types: str, name: str = "case", pods: Any = None, ingress: Any = None, egress: Any = None
) -> Manifest:
    """A NetworkPolicy; `types` as in policyTypes, `pods` its podSelector."""
    spec: dict[str, Any] = {"podSelector": pods or {}}
    spec |= {"policyTypes": list(types)} if types else {}
    spec |= {} if ingress is None else {"ingress": ingress}
    spec |= {} if egress is None else {"egress": egress}
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    }  # fmt: skip


def pods(**labels: str) -> dict[str, Any]:
    return {"matchLabels": labels}


def among(key: str, *values: str, operator: str = "In") -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def pod_peer(selector: Any) -> dict[str, Any]:
    return {"podSelector": selector}


def ns_peer(selector: Any) -> dict[str, Any]:
    return {"namespaceSelector": selector}


def both(namespaces: Any, selector: Any) -> dict[str, Any]:
    """One peer: AND."""
    return {"namespaceSelector": namespaces, "podSelector": selector}


def port(port: int | str | None = None, protocol: str | None = None, end: int | None = None) -> dict[str, Any]:
    entry = {"port": port, "protocol": protocol, "endPort": end}
    return {key: value for key, value in entry.items() if value is not None}
