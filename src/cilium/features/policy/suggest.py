"""Least-privilege policies out of what was seen: what passed is allowed, everything else is closed.

In: the workloads of the cluster with their labels, observations. Out: one CiliumNetworkPolicy per workload of a
namespace that was seen, as plain data, with what was denied beside it. The same input gives the same output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cilium.tables.labels import NAMESPACE
from cilium.tables.types import IPNetwork

MANY_CIDRS = 20
"""More addresses outside than this, on the same ports, are the world."""
PREFERRED = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "app",
    "k8s-app",
    "component",
    "name",
    "role",
    "tier",
)
"""Labels by which people tell workloads apart, the best first."""
DNS_PORTS = ((6, 53), (17, 53))
_NAMES = {6: "TCP", 17: "UDP", 132: "SCTP"}
_FAMILIES = {1: "IPv4", 58: "IPv6"}
_ECHO = {1: 8, 58: 128}

Place = tuple[str, str]
"""Namespace and name of a workload."""
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Other:
    """The other end of an observation: a workload, or an entity, or an address outside."""

    workload: Place | None = None
    entity: str = ""
    network: IPNetwork | None = None
    name: str = ""


@dataclass(frozen=True)
class Observation:
    """`protocol` and `port` as in Traffic; `passed`: it was seen to arrive."""

    workload: Place
    egress: bool
    other: Other
    protocol: int
    port: int
    passed: bool


@dataclass
class Suggestion:
    workload: Place
    policy: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    """What is not in it, and why."""


def suggest(
    namespace: str, workloads: Mapping[Place, Labels], observations: Iterable[Observation]
) -> tuple[list[Suggestion], list[str]]:
    """The policies, and the workloads of the namespace that nobody was seen to talk to."""
    selectors = Selectors(workloads)
    seen: dict[Place, list[Observation]] = {}
    for one in observations:
        if one.workload[0] == namespace and one.workload in workloads:
            seen.setdefault(one.workload, []).append(one)
    suggestions = [_suggestion(place, seen[place], selectors) for place in sorted(seen)]
    silent = [name for space, name in sorted(workloads) if space == namespace and (space, name) not in seen]
    return suggestions, silent


class Selectors:
    """The fewest labels that tell a workload from the others of its namespace."""

    def __init__(self, workloads: Mapping[Place, Labels]) -> None:
        self._workloads = workloads
        self._chosen: dict[Place, dict[str, str]] = {}

    def of(self, place: Place) -> dict[str, str]:
        if place not in self._chosen:
            own = self._workloads[place]
            rest = [labels for other, labels in self._workloads.items() if other != place and other[0] == place[0]]
            self._chosen[place] = choose(own, rest)
        return self._chosen[place]

    def ambiguous(self, place: Place) -> list[str]:
        """Workloads of the namespace that the same selector selects."""
        chosen = self.of(place).items()
        return sorted(
            other[1]
            for other, labels in self._workloads.items()
            if other != place and other[0] == place[0] and chosen <= labels.items()
        )


def choose(own: Labels, others: Sequence[Labels]) -> dict[str, str]:
    """Labels that matter: each leaves out somebody, or is the first that people would name."""
    chosen: dict[str, str] = {}
    for key in (*(key for key in PREFERRED if key in own), *sorted(own.keys() - set(PREFERRED))):
        remaining = [labels for labels in others if labels.get(key) == own[key]]
        if not chosen or len(remaining) < len(others):
            chosen[key] = own[key]
            others = remaining
        if not others:
            break
    return chosen


def _suggestion(place: Place, seen: Sequence[Observation], selectors: Selectors) -> Suggestion:
    namespace, name = place
    passed = [one for one in seen if one.passed]
    allowed = {_key(one) for one in passed}
    spec: dict[str, Any] = {"endpointSelector": _matching(selectors.of(place))}
    for section, egress in (("ingress", False), ("egress", True)):
        part = [one for one in passed if one.egress is egress]
        # A list with an empty rule closes the direction; an empty list would leave it open.
        spec[section] = _rules(place, part, "to" if egress else "from", selectors) or [{}]
    policy = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    denied = sorted({_text(one) for one in seen if not one.passed and _key(one) not in allowed})
    notes = [f"denied, and left out: {text}" for text in denied]
    if shared := selectors.ambiguous(place):
        notes.append(f"its labels select {', '.join(shared)} too")
    return Suggestion(place, policy, notes)


def _key(one: Observation) -> tuple[object, ...]:
    return one.egress, one.other, one.protocol, one.port


def _text(one: Observation) -> str:
    traffic = f"{_NAMES.get(one.protocol) or f'ICMP{_FAMILIES.get(one.protocol, one.protocol)} type'} {one.port}"
    return f"{'egress to' if one.egress else 'ingress from'} {one.other.name}, {traffic}"


def _rules(place: Place, seen: Iterable[Observation], side: str, selectors: Selectors) -> list[dict[str, Any]]:
    """Elements of a section: peers of one kind on the same traffic share one."""
    traffic: dict[tuple[str, str], set[tuple[int, int]]] = {}
    peers: dict[tuple[str, str], Any] = {}
    for one in seen:
        kind, peer = _peer(place, one.other, selectors)
        key = kind, repr(peer)
        peers[key] = peer
        traffic.setdefault(key, set()).update(DNS_PORTS if _is_dns(one) else {(one.protocol, one.port)})
    grouped: dict[tuple[str, tuple[tuple[int, int], ...]], list[Any]] = {}
    for key in sorted(peers):
        for ports in _apart(traffic[key]):
            grouped.setdefault((key[0], ports), []).append(peers[key])
    rules = []
    for (kind, ports), members in sorted(grouped.items(), key=lambda item: (_KINDS.index(item[0][0]), item[0][1])):
        many = kind == "CIDR" and len(members) > MANY_CIDRS
        peers_of_rule = {f"{side}Entities": ["world"]} if many else {f"{side}{kind}": members}
        rules.append({**peers_of_rule, **_l4(ports)})
    return rules


_KINDS = ("Endpoints", "Entities", "CIDR")


def _peer(place: Place, other: Other, selectors: Selectors) -> tuple[str, Any]:
    """The field it stands in, without from or to, and its entry there."""
    if other.workload is not None:
        labels = dict(selectors.of(other.workload))
        if other.workload[0] != place[0]:
            labels = {f"k8s:{NAMESPACE}": other.workload[0], **labels}
        return "Endpoints", _matching(labels)
    if other.network is not None:
        return "CIDR", str(other.network)
    return "Entities", other.entity


def _matching(labels: Labels) -> dict[str, Any]:
    return {"matchLabels": dict(labels)} if labels else {}


def _is_dns(one: Observation) -> bool:
    """A resolver is asked again over TCP if the answer does not fit."""
    return one.egress and (one.protocol, one.port) in DNS_PORTS and one.other.workload is not None


def _apart(traffic: Iterable[tuple[int, int]]) -> Iterable[tuple[tuple[int, int], ...]]:
    """Ports and ICMP types stand in different rules."""
    ordered = sorted(traffic)
    for part in (
        tuple(one for one in ordered if one[0] in _NAMES),
        tuple(one for one in ordered if one[0] in _FAMILIES),
    ):
        if part:
            yield part


def _l4(traffic: Sequence[tuple[int, int]]) -> dict[str, Any]:
    if traffic[0][0] in _FAMILIES:
        fields = [{"family": _FAMILIES[protocol], "type": kind} for protocol, kind in traffic]
        return {"icmps": [{"fields": fields}]}
    return {"toPorts": [{"ports": [{"port": str(port), "protocol": _NAMES[protocol]} for protocol, port in traffic]}]}


def is_request(protocol: int, port: int) -> bool:
    """Whether it opens a connection: of ICMP, echo requests do."""
    return protocol in _NAMES or _ECHO.get(protocol) == port
