"""The L3 half of a Cilium rule: at most one kind of peer, resolved for the namespace of its policy.

In: an element of ingress, egress, ingressDeny or egressDeny. Out: `Peers`, what of it is not enforced, and warnings.
"""

from __future__ import annotations

from typing import Any

from cilium.sources.kubernetes.policies.cidrs import cidr_peer, entities
from cilium.sources.kubernetes.policies.errors import PolicyError
from cilium.sources.kubernetes.policies.l7 import check_fqdn
from cilium.sources.kubernetes.policies.references import group_peer, service_peer
from cilium.sources.kubernetes.policies.selectors import (
    LabelSelector,
    in_any_namespace,
    in_namespace,
    is_reserved,
    local,
    names,
    requirements,
)
from cilium.sources.kubernetes.policies.wire import CIDRRule, Element, Sources
from cilium.tables.labels import NAMESPACE, NAMESPACE_LABELS
from cilium.tables.rules import Peers, Requirement, Selector

_MEMBERS = ("Endpoints", "CIDR", "CIDRSet", "Entities", "Groups", "Nodes", "Services", "FQDNs")
_NODES = tuple(Requirement(f"reserved:{name}", "Exists") for name in ("host", "remote-node"))


class PeerContext:
    """What peers are resolved against: the policy's namespace ("" for clusterwide) and the cluster's name.

    `node_selectors`: nodes have identities that tell them apart. `warnings` is added to.
    """

    def __init__(self, *, namespace: str, cluster: str, node_selectors: bool, warnings: list[str]) -> None:
        self.namespace = namespace
        self.cluster = cluster
        self._node_selectors = node_selectors
        self._warnings = warnings

    def selector(self, selector: LabelSelector, path: str) -> Selector:
        """An entry of fromEndpoints or toEndpoints. Raises PolicyError."""
        terms = requirements(selector, path, source="any")
        if is_reserved(terms):
            return Selector(terms)
        if not names(terms, NAMESPACE, NAMESPACE_LABELS):
            terms += (in_namespace(self.namespace),) if self.namespace else (in_any_namespace(),)
        return local(terms, cluster=self.cluster)

    def peers(self, element: Element, path: str, *, deny: bool) -> tuple[Peers, tuple[str, ...]]:
        """The peers of an element, and the paths in it that this version does not enforce.

        Peers that cannot be told: an allow rule opens nothing to them, a deny rule denies all who might be meant.

        An absent list leaves any peer if there are ports, and nobody if there are none; an empty list selects nobody.
        Raises PolicyError for two kinds of peers and for what is wrong inside of one.
        """
        side = "from" if isinstance(element, Sources) else "to"
        if getattr(element, f"{side}Requires"):
            raise PolicyError(f"{path}.{side}Requires", "is no longer supported: write the labels into the selectors")
        present = {
            kind: entries for kind in _MEMBERS if (entries := getattr(element, f"{side}{kind}", None)) is not None
        }
        if len(present) > 1:
            first, second = (f"{side}{kind}" for kind in list(present)[:2])
            raise PolicyError(f"{path}.{second}", f"cannot be combined with {first}: write two rules")
        if not present:
            return Peers(wildcard=bool(element.toPorts or element.icmps)), ()
        ((kind, entries),) = present.items()
        where = f"{path}.{side}{kind}"
        if kind == "Nodes":
            return self._nodes(entries, where, deny=deny), ()
        if kind in {"Groups", "FQDNs"}:
            return Peers(wildcard=deny and bool(entries)), self._later(kind, entries, where)
        return self._members(kind, entries, where), ()

    def _members(self, kind: str, entries: tuple[Any, ...], path: str) -> Peers:
        numbered = [(entry, f"{path}[{index}]") for index, entry in enumerate(entries)]
        if kind == "Entities":
            return entities(entries, path, cluster=self.cluster)
        if kind == "Endpoints":
            return Peers(selectors=tuple(self.selector(entry, where) for entry, where in numbered))
        if kind == "Services":
            return Peers(services=tuple(service_peer(entry, where) for entry, where in numbered))
        if kind == "CIDR":
            return Peers(cidrs=tuple(cidr_peer(text, None, where, field="") for text, where in numbered))
        return _cidr_set(numbered)

    def _later(self, kind: str, entries: tuple[Any, ...], path: str) -> tuple[str, ...]:
        """What this version does not enforce is checked, and told."""
        if kind == "FQDNs":
            for index, entry in enumerate(entries):
                check_fqdn(entry, f"{path}[{index}]")
        elif entries:
            self._warnings.append(
                f"{path}: groups of a cloud provider are not looked up; write their addresses into a CiliumCIDRGroup "
                "and refer to it by cidrGroupRef"
            )
        return (path,) if entries else ()

    def _nodes(self, entries: tuple[LabelSelector, ...], path: str, *, deny: bool) -> Peers:
        """Nodes by their labels, this node among them. Where nodes are not told apart it is all of them or none."""
        terms = [_node_terms(entry, f"{path}[{index}]") for index, entry in enumerate(entries)]
        if self._node_selectors:
            return Peers(selectors=tuple(Selector((*one, node)) for one in terms for node in _NODES))
        if not entries:
            return Peers()
        effect = "every node is denied" if deny else "nothing is opened to nodes"
        self._warnings.append(f"{path}: needs the setting enable-node-selector-labels; until then {effect}")
        return Peers(selectors=tuple(Selector((node,)) for node in _NODES)) if deny else Peers()


def _node_terms(selector: LabelSelector, path: str) -> tuple[Requirement, ...]:
    terms = requirements(selector, path, source="node")
    for term in terms:
        if not term.key.startswith("node:"):
            raise PolicyError(path, f"{term.key!r} is no label of a node: write the key without a source")
    return terms


def _cidr_set(entries: list[tuple[CIDRRule, str]]) -> Peers:
    cidrs, groups = [], []
    for entry, path in entries:
        given = [name for name in ("cidr", "cidrGroupRef", "cidrGroupSelector") if getattr(entry, name) is not None]
        if len(given) != 1:
            raise PolicyError(path, "needs exactly one of cidr, cidrGroupRef and cidrGroupSelector")
        if entry.cidr is None:
            groups.append(group_peer(entry, path))
        else:
            cidrs.append(cidr_peer(entry.cidr, entry.except_, path))
    return Peers(cidrs=tuple(cidrs), cidr_groups=tuple(groups))
