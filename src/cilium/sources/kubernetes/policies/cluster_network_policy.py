"""ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2): rules of the administrator, in order, in tiers.

In: one object as JSON. Out: a `PolicyObject`; content that is wrong becomes its `error`, never an exception.

What this version does not enforce, or does not even know, fails closed as the API wants it: an Accept rule opens
nothing through it, a Deny or Pass rule denies everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from cilium.sources.kubernetes.policies.cidrs import cidr_peer
from cilium.sources.kubernetes.policies.envelope import Content, decode
from cilium.sources.kubernetes.policies.errors import PolicyError, from_decoder
from cilium.sources.kubernetes.policies.ports import SCTP, TCP, UDP, destination_port, named_port
from cilium.sources.kubernetes.policies.selectors import LabelSelector, in_any_namespace, local, requirements
from cilium.sources.kubernetes.policies.wire import (
    ClusterIngress,
    ClusterNetworkPolicy,
    ClusterNetworkPolicySpec,
    ClusterRule,
    ClusterSubject,
    NamespacedPod,
    OneOf,
    Transport,
)
from cilium.tables.labels import NAMESPACE_LABELS
from cilium.tables.rules import (
    Action,
    CIDRPeer,
    DirectionRule,
    Peers,
    PolicyObject,
    PortRange,
    Requirement,
    Rule,
    Selector,
    Tier,
)

MAX_ITEMS = 25
"""Of rules in a direction, of peers and protocols in a rule, of networks in a peer."""
MAX_PRIORITY = 1000
_TIERS = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
_ACTIONS = {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_TRANSPORTS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
_EVERYTHING = frozenset({"0.0.0.0/0", "::/0"})
_WITHOUT_PORTS = frozenset({"networks", "nodes", "domainNames"})
"""Peers whose ports have no names."""
_NODES = tuple(Requirement(f"reserved:{name}", "Exists") for name in ("host", "remote-node"))

T = TypeVar("T")


def decode_cluster_network_policy(
    raw: bytes | msgspec.Raw, *, cluster: str = "default", node_selectors: bool = False
) -> PolicyObject:
    """`cluster` is the name of this cluster: peers are pods of it. `node_selectors`: nodes are told apart."""
    return decode("ClusterNetworkPolicy", raw, lambda _: _Parser(cluster, node_selectors).policy(raw))


class _Parser:
    """Parses one object; collects warnings on the way."""

    def __init__(self, cluster: str, node_selectors: bool) -> None:
        self._cluster, self._node_selectors = cluster, node_selectors
        self._warnings: list[str] = []

    def policy(self, raw: bytes | msgspec.Raw) -> Content:
        spec = msgspec.json.decode(raw, type=ClusterNetworkPolicy).spec
        rule = Rule(
            subject=_subject(spec.subject, "spec.subject"),
            ingress=self._section(spec.ingress or (), "ingress"),
            egress=self._section(spec.egress or (), "egress"),
            tier=_one_of(_TIERS, spec.tier, "spec.tier"),
            priority=_priority(spec),
        )
        return (rule,), tuple(self._warnings)

    def _section(self, rules: Sequence[ClusterRule], section: str) -> tuple[DirectionRule, ...]:
        path = f"spec.{section}"
        _check_length(rules, path, least=0)
        return tuple(self._rule(rule, section, index, f"{path}[{index}]") for index, rule in enumerate(rules))

    def _rule(self, rule: ClusterRule, section: str, index: int, path: str) -> DirectionRule:
        action = _one_of(_ACTIONS, rule.action, f"{path}.action")
        entries, side = (rule.from_, "from") if isinstance(rule, ClusterIngress) else (getattr(rule, "to", ()), "to")
        peers, later = self._peers(entries, action, f"{path}.{side}")
        ports, unknown = _ports(rule.protocols, entries, f"{path}.protocols")
        later += unknown
        if later and action is not Action.ALLOW:
            action, peers, ports = Action.DENY, Peers(wildcard=True), None
        return DirectionRule(
            peers=peers,
            ports=ports,
            action=action,
            index=index,
            section=section,
            name=rule.name,
            unenforced=tuple(later),
        )

    def _peers(self, entries: Sequence[OneOf], action: Action, path: str) -> tuple[Peers, list[str]]:
        """The peers of a rule, and the paths of those that nobody can tell."""
        _check_length(entries, path)
        known = {"namespaces", "pods"} | (_WITHOUT_PORTS if path.endswith(".to") else set())
        selectors: list[Selector] = []
        cidrs: list[CIDRPeer] = []
        later: list[str] = []
        for index, entry in enumerate(entries):
            where, kind = f"{path}[{index}]", _only(entry, f"{path}[{index}]")
            field = f"{where}.{kind}"
            if kind not in known:
                later.append(field if kind else where)
            elif kind == "namespaces":
                terms = _in_namespaces(_value(entry, kind, field, LabelSelector), field)
                selectors.append(local(terms, cluster=self._cluster))
            elif kind == "pods":
                terms = _pods(_value(entry, kind, field, NamespacedPod), field)
                selectors.append(local(terms, cluster=self._cluster))
            elif kind == "networks":
                cidrs += _networks(_value(entry, kind, field, tuple[str, ...]), field)
            elif kind == "nodes":
                found, told = self._nodes(_value(entry, kind, field, LabelSelector), field)
                selectors += found
                later += [] if told else [field]
            else:
                if action is not Action.ALLOW:
                    raise PolicyError(field, "is for rules with action Accept only")
                later.append(field)
        whole = _EVERYTHING & {str(peer.cidr) for peer in cidrs}
        if len(whole) == 1:
            self._warnings.append(
                f"{path}: {min(whole)} means addresses outside of the cluster; with the other family's, everybody"
            )
        return Peers(wildcard=whole == _EVERYTHING, selectors=tuple(selectors), cidrs=tuple(cidrs)), later

    def _nodes(self, selector: LabelSelector, path: str) -> tuple[list[Selector], bool]:
        """Nodes, this one among them, and whether they can be told: all of them can, some of them by a setting."""
        terms = requirements(selector, path, source="node")
        if terms and not self._node_selectors:
            self._warnings.append(f"{path}: needs the setting enable-node-selector-labels, or an empty selector")
            return [], False
        return [Selector((*terms, node)) for node in _NODES], True


def _subject(subject: ClusterSubject, path: str) -> Selector:
    if subject.pods is not None and subject.namespaces is None:
        return Selector(_pods(subject.pods, f"{path}.pods"))
    if subject.namespaces is not None and subject.pods is None:
        return Selector(_in_namespaces(subject.namespaces, f"{path}.namespaces"))
    raise PolicyError(path, "needs either namespaces or pods")


def _pods(pods: NamespacedPod, path: str) -> tuple[Requirement, ...]:
    own = requirements(pods.podSelector, f"{path}.podSelector", source="k8s")
    return (*own, *_in_namespaces(pods.namespaceSelector, f"{path}.namespaceSelector"))


def _in_namespaces(selector: LabelSelector, path: str) -> tuple[Requirement, ...]:
    """Who has no namespace is no pod."""
    return (*requirements(selector, path, source="k8s", prefix=NAMESPACE_LABELS), in_any_namespace())


def _networks(texts: tuple[str, ...], path: str) -> list[CIDRPeer]:
    _check_length(texts, path)
    return [cidr_peer(text, None, f"{path}[{index}]", field="") for index, text in enumerate(texts)]


def _ports(
    protocols: tuple[OneOf, ...] | None, peers: Sequence[OneOf], path: str
) -> tuple[tuple[PortRange, ...] | None, list[str]]:
    """The ports of a rule, None for all traffic, and the paths of what this version does not know."""
    if protocols is None:
        return None, []
    _check_length(protocols, path)
    ranges: list[PortRange] = []
    later: list[str] = []
    for index, entry in enumerate(protocols):
        where, kind = f"{path}[{index}]", _only(entry, f"{path}[{index}]")
        field = f"{where}.{kind}"
        if kind in _TRANSPORTS:
            transport = _value(entry, kind, field, Transport)
            ranges.append(destination_port(_TRANSPORTS[kind], transport.destinationPort, f"{field}.destinationPort"))
        elif kind == "destinationNamedPort":
            if any(_WITHOUT_PORTS & peer.keys() for peer in peers):
                raise PolicyError(
                    field, "cannot be combined with networks, nodes or domainNames: their ports have no names"
                )
            ranges.append(named_port(_value(entry, kind, field, str), field))
        else:
            later.append(field if kind else where)
    return tuple(ranges), later


def _only(entry: OneOf, path: str) -> str:
    """The field that is set; "" if it is one that the API server has dropped. Raises PolicyError for two."""
    if len(entry) > 1:
        raise PolicyError(path, f"sets {' and '.join(sorted(entry))}: write one entry for each")
    return next(iter(entry), "")


def _value(entry: OneOf, kind: str, path: str, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(entry[kind], type=type_)
    except msgspec.DecodeError as error:
        inner = from_decoder(error)
        raise PolicyError(path if inner.path == "object" else f"{path}.{inner.path}", inner.reason) from None


def _one_of(known: dict[str, T], text: str, path: str) -> T:
    if text not in known:
        raise PolicyError(path, f"{text!r} is not one of {', '.join(known)}")
    return known[text]


def _priority(spec: ClusterNetworkPolicySpec) -> int:
    if not 0 <= spec.priority <= MAX_PRIORITY:
        raise PolicyError("spec.priority", f"{spec.priority} is not between 0 and {MAX_PRIORITY}")
    return spec.priority


def _check_length(entries: Sequence[Any], path: str, *, least: int = 1) -> None:
    if not least <= len(entries) <= MAX_ITEMS:
        raise PolicyError(path, f"has {len(entries)} entries; between {least} and {MAX_ITEMS} are allowed")
