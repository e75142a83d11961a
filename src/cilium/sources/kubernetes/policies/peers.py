"""The L3 half of a Cilium rule: at most one kind of peer, resolved for the namespace of its policy.

In: an element of ingress, egress, ingressDeny or egressDeny. Out: `Peers` and what of it is not enforced.
"""

from __future__ import annotations

from typing import Any

from cilium.sources.kubernetes.policies.cidrs import cidr_peer, entities
from cilium.sources.kubernetes.policies.errors import PolicyError
from cilium.sources.kubernetes.policies.l7 import check_fqdns
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
from cilium.tables.rules import Peers, Selector

_MEMBERS = ("Endpoints", "CIDR", "CIDRSet", "Entities", "Groups", "Nodes", "Services", "FQDNs")
_LATER = ("Groups", "Nodes", "Services", "FQDNs")


class PeerContext:
    """What peer selectors are resolved against: the policy's namespace ("" for clusterwide) and the cluster's name."""

    def __init__(self, *, namespace: str, cluster: str) -> None:
        self.namespace = namespace
        self.cluster = cluster

    def selector(self, selector: LabelSelector, path: str) -> Selector:
        """An entry of fromEndpoints or toEndpoints. Raises PolicyError."""
        terms = requirements(selector, path, source="any")
        if is_reserved(terms):
            return Selector(terms)
        if not names(terms, NAMESPACE, NAMESPACE_LABELS):
            terms += (in_namespace(self.namespace),) if self.namespace else (in_any_namespace(),)
        return local(terms, cluster=self.cluster)

    def peers(self, element: Element, path: str) -> tuple[Peers, tuple[str, ...]]:
        """The peers of an element, and the paths in it that this version does not enforce.

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
        return self._members(kind, entries, f"{path}.{side}{kind}")

    def _members(self, kind: str, entries: tuple[Any, ...], path: str) -> tuple[Peers, tuple[str, ...]]:
        if kind == "FQDNs":
            check_fqdns(entries, path)
        if kind in _LATER:
            return Peers(), (path,) if entries else ()
        if kind == "Entities":
            return entities(entries, path, cluster=self.cluster), ()
        if kind == "Endpoints":
            selectors = [self.selector(entry, f"{path}[{index}]") for index, entry in enumerate(entries)]
            return Peers(selectors=tuple(selectors)), ()
        if kind == "CIDR":
            cidrs = [cidr_peer(text, None, f"{path}[{index}]", field="") for index, text in enumerate(entries)]
            return Peers(cidrs=tuple(cidrs)), ()
        return _cidr_set(entries, path)


def _cidr_set(entries: tuple[CIDRRule, ...], path: str) -> tuple[Peers, tuple[str, ...]]:
    cidrs, later = [], []
    for index, entry in enumerate(entries):
        where = f"{path}[{index}]"
        given = [name for name in ("cidr", "cidrGroupRef", "cidrGroupSelector") if getattr(entry, name) is not None]
        if len(given) != 1:
            raise PolicyError(where, "needs exactly one of cidr, cidrGroupRef and cidrGroupSelector")
        if entry.cidr is None:
            later.append(f"{where}.{given[0]}")
        else:
            cidrs.append(cidr_peer(entry.cidr, entry.except_, where))
    return Peers(cidrs=tuple(cidrs)), tuple(later)
