"""Whether a rule is about a party and about traffic, and if not, what it lacks, in words.

In: selectors, peers and ports of rules; a party; traffic. Out: `Miss`es, none if it matches.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cilium.features.policy.explain.rows import PROTOCOL_NAMES, PROTOCOLS, Lack, Miss, Party, Traffic
from cilium.tables.kubernetes import NamedPort
from cilium.tables.labels import CLUSTER, NAMESPACE, NAMESPACE_LABELS
from cilium.tables.matching import holds
from cilium.tables.rules import CIDRPeer, Peers, PortRange, Requirement, Rule, Selector
from cilium.tables.types import IPNetwork

ANY_PROTOCOLS = (6, 17, 132)
"""What protocol ANY beside a port means."""


def selects(selector: Selector, party: Party) -> list[Requirement]:
    """The terms that fail; none: it selects the party."""
    return [term for term in selector.requirements if not holds(term, party.labels)]


def subject_terms(rule: Rule, party: Party) -> list[Requirement]:
    """The terms of the rule's subject that fail; nodes are selected by the labels of their objects."""
    labels = party.labels if party.node_labels is None else party.node_labels
    return [term for term in rule.subject.requirements if not holds(term, labels)]


def about(peers: Peers, party: Party) -> bool:
    """Whether one of the peers is the party."""
    if peers.wildcard:
        return True
    if any(not selects(selector, party) for selector in peers.selectors):
        return True
    return any(contains(cidr, party) for cidr in peers.cidrs)


def contains(peer: CIDRPeer, party: Party) -> bool:
    """Whether the CIDR holds all of the party, and none of its exceptions anything of it."""
    if not peer.cidr.prefixlen and party.outside:
        inside = _of_family(party, peer.cidr.version)
    else:
        inside = any(_within(network, peer.cidr) for network in party.networks)
    if peer.world_only and not party.outside:
        return False
    return inside and not any(_overlap(network, hole) for hole in peer.excepts for network in party.networks)


def _of_family(party: Party, version: int) -> bool:
    """The world has a label per family, or one for both; then the address tells."""
    if "reserved:world" in party.labels and party.networks:
        return any(network.version == version for network in party.networks)
    return bool({"reserved:world", f"reserved:world-ipv{version}"}.intersection(party.labels))


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # versions are equal


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def carries(ports: tuple[PortRange, ...] | None, traffic: Traffic, named: Iterable[NamedPort]) -> bool:
    """Whether the L4 half is about the traffic; `named` are the named ports of its destination."""
    return ports is None or any(_carries(port, traffic, named) for port in ports)


def _carries(port: PortRange, traffic: Traffic, named: Iterable[NamedPort]) -> bool:
    if traffic.protocol not in protocols(port):
        return False
    if port.name:
        return traffic.port in numbers_of(port.name, traffic.protocol, named)
    return port.first <= traffic.port <= port.last


def protocols(port: PortRange) -> tuple[int, ...]:
    return (port.protocol,) if port.protocol else ANY_PROTOCOLS


def numbers_of(name: str, protocol: int, named: Iterable[NamedPort]) -> list[int]:
    """What a named port means at its owner."""
    return [one.port for one in named if one.name.lower() == name and PROTOCOLS.get(one.protocol) == protocol]


# ------------------------------------------------------------------------------------------------------------ why not


def peer_misses(peers: Peers, party: Party) -> list[Miss]:
    """What the nearest of the peers lacks, one miss per term; call it if `about` says no."""
    candidates = [[_term(term, party) for term in selects(selector, party)] for selector in peers.selectors]
    candidates += [[Miss(Lack.PEER, _cidr(cidr, party))] for cidr in peers.cidrs]
    if not candidates:
        return [Miss(Lack.PEER, "it names nobody")]
    return min(candidates, key=len)


def subject_misses(rule: Rule, party: Party) -> list[Miss]:
    labels = party.labels if party.node_labels is None else party.node_labels
    seen = msgspec.structs.replace(party, labels=labels)
    return [Miss(Lack.SUBJECT, _term(term, seen).text) for term in subject_terms(rule, party)]


def port_misses(ports: tuple[PortRange, ...] | None, traffic: Traffic, named: Iterable[NamedPort]) -> list[Miss]:
    """Call it if `carries` says no."""
    if not ports:
        return [Miss(Lack.PORT, "it opens no port")]
    named = tuple(named)
    listed = ", ".join(dict.fromkeys(_with_meaning(port, named) for port in ports))
    same_port = [port for port in ports if not port.name and port.first <= traffic.port <= port.last]
    lack = Lack.PROTOCOL if same_port else Lack.PORT
    return [Miss(lack, f"it is about {listed}, not {traffic}")]


def _with_meaning(port: PortRange, named: tuple[NamedPort, ...]) -> str:
    if not port.name:
        return port_text(port)
    meant = sorted({number for protocol in protocols(port) for number in numbers_of(port.name, protocol, named)})
    return f"{port_text(port)} ({', '.join(map(str, meant)) if meant else 'a name that the destination does not have'})"


def port_text(port: PortRange) -> str:
    """`TCP 80`, `ANY 1-79`, `TCP http`, `ICMP type 8`."""
    protocol = PROTOCOL_NAMES.get(port.protocol, str(port.protocol)) if port.protocol else "ANY"
    if port.name:
        return f"{protocol} {port.name}"
    if (port.first, port.last) == (0, 65535):
        return protocol
    ports = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    return f"{protocol} {'type ' if port.protocol in (1, 58) else ''}{ports}"


def _term(term: Requirement, party: Party) -> Miss:
    label = bare(term.key)
    values = sorted({value for name, _, value in (one.partition("=") for one in party.labels) if _same(name, term.key)})
    has = f"{party.name} has {', '.join(map(repr, values))}" if values else f"{party.name} has no such label"
    if label == NAMESPACE and term.operator == "In":
        where = f"{party.name} is in {values[0]}" if values else f"{party.name} is in no namespace"
        return Miss(Lack.PEER, f"namespace {' or '.join(term.values)}: {where}")
    if label == NAMESPACE:
        return Miss(Lack.PEER, f"a pod of any namespace: {party.name} is none")
    if label == CLUSTER and not values:
        return Miss(Lack.PEER, f"a pod of this cluster: {party.name} is none")
    label = label.replace(NAMESPACE_LABELS, "namespace label ")
    match term.operator:
        case "In":
            wanted = " or ".join(f"{label}={value}" for value in term.values)
        case "NotIn":
            wanted = " and ".join(f"{label}!={value}" for value in term.values)
        case "Exists":
            wanted = label
        case _:
            wanted, has = f"no {label}", f"{party.name} has {', '.join(map(repr, values))}"
    return Miss(Lack.PEER, f"{wanted}: {has}")


def _same(name: str, key: str) -> bool:
    return name == key or (key.startswith("any:") and name.partition(":")[2] == key[4:])


def bare(key: str) -> str:
    """A label's key as people write it: only telling sources stay."""
    source, _, name = key.partition(":")
    return name if source in ("any", "k8s") else key


def _cidr(peer: CIDRPeer, party: Party) -> str:
    if not party.networks:
        why = "its address is not known" if party.outside else "it is known by its labels, CIDRs are about the world"
        return f"{peer.cidr}: {party.name}: {why}"
    for hole in peer.excepts:
        if any(_overlap(network, hole) for network in party.networks):
            return f"{peer.cidr}: except {hole} takes out {party.name}"
    if any(_overlap(network, peer.cidr) and not _within(network, peer.cidr) for network in party.networks):
        return f"{peer.cidr}: it is only a part of {party.name}; ask for an address"
    return f"{peer.cidr}: {party.name} is not in it"
