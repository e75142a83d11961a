"""Kubernetes NetworkPolicy (networking.k8s.io/v1).

In: one object as JSON. Out: a `PolicyObject`; content that is wrong becomes its `error`, never an exception.

Absent and empty lists mean the same here: no `from` is any peer, no `ports` is every port.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cilium.sources.kubernetes.policies.cidrs import cidr_peer
from cilium.sources.kubernetes.policies.envelope import decode
from cilium.sources.kubernetes.policies.errors import PolicyError
from cilium.sources.kubernetes.policies.ports import network_policy_port
from cilium.sources.kubernetes.policies.selectors import (
    in_any_namespace,
    in_namespace,
    local,
    requirements,
)
from cilium.sources.kubernetes.policies.wire import (
    NetworkPolicy,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    NetworkPolicySpec,
)
from cilium.tables.labels import NAMESPACE_LABELS
from cilium.tables.rules import CIDRPeer, DirectionRule, Peers, PolicyObject, Requirement, Rule, Selector

_Element = tuple[tuple[NetworkPolicyPeer, ...] | None, tuple[NetworkPolicyPort, ...] | None]


def decode_knp(raw: bytes | msgspec.Raw, *, cluster: str = "default") -> PolicyObject:
    """`cluster` is the name of this cluster: peers are pods of it."""
    return decode("NetworkPolicy", raw, lambda namespace: _Parser(namespace, cluster).policy(raw))


class _Parser:
    def __init__(self, namespace: str, cluster: str) -> None:
        self._namespace = namespace
        self._cluster = cluster

    def policy(self, raw: bytes | msgspec.Raw) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
        spec = msgspec.json.decode(raw, type=NetworkPolicy).spec
        types = self._types(spec)
        subject = requirements(spec.podSelector, "spec.podSelector", source="k8s")
        ingress = self._section("ingress", "from", [(rule.from_, rule.ports) for rule in spec.ingress or ()])
        egress = self._section("egress", "to", [(rule.to, rule.ports) for rule in spec.egress or ()])
        rule = Rule(
            subject=Selector((*subject, in_namespace(self._namespace))),
            ingress=ingress if "Ingress" in types else (),
            egress=egress if "Egress" in types else (),
            default_deny_ingress="Ingress" in types,
            default_deny_egress="Egress" in types,
        )
        return (rule,), ()

    def _types(self, spec: NetworkPolicySpec) -> tuple[str, ...]:
        if not spec.policyTypes:
            return ("Ingress", "Egress") if spec.egress else ("Ingress",)
        for index, kind in enumerate(spec.policyTypes):
            if kind not in {"Ingress", "Egress"}:
                raise PolicyError(f"spec.policyTypes[{index}]", f"{kind!r} is not Ingress or Egress")
        return spec.policyTypes

    def _section(self, section: str, side: str, elements: Iterable[_Element]) -> tuple[DirectionRule, ...]:
        rules = []
        for index, (peers, ports) in enumerate(elements):
            path = f"spec.{section}[{index}]"
            ranges = [network_policy_port(port, f"{path}.ports[{number}]") for number, port in enumerate(ports or ())]
            rules.append(
                DirectionRule(
                    peers=self._peers(peers, f"{path}.{side}"),
                    ports=tuple(ranges) if ranges else None,
                    index=index,
                    section=section,
                )
            )
        return tuple(rules)

    def _peers(self, entries: tuple[NetworkPolicyPeer, ...] | None, path: str) -> Peers:
        if not entries:
            return Peers(wildcard=True)
        selectors: list[Selector] = []
        cidrs: list[CIDRPeer] = []
        for index, peer in enumerate(entries):
            where = f"{path}[{index}]"
            pods = peer.podSelector is not None or peer.namespaceSelector is not None
            if pods == (peer.ipBlock is not None):
                raise PolicyError(where, "needs either ipBlock, or podSelector and/or namespaceSelector")
            if peer.ipBlock is not None:
                cidrs.append(cidr_peer(peer.ipBlock.cidr, peer.ipBlock.except_, f"{where}.ipBlock"))
            else:
                selectors.append(self._pods(peer, where))
        return Peers(selectors=tuple(selectors), cidrs=tuple(cidrs))

    def _pods(self, peer: NetworkPolicyPeer, path: str) -> Selector:
        """podSelector and namespaceSelector in one peer are ANDed; without the latter: pods of the policy's own."""
        terms: tuple[Requirement, ...] = ()
        if peer.podSelector is not None:
            terms = requirements(peer.podSelector, f"{path}.podSelector", source="k8s")
        if peer.namespaceSelector is None:
            return local((*terms, in_namespace(self._namespace)), cluster=self._cluster)
        namespaces = requirements(
            peer.namespaceSelector, f"{path}.namespaceSelector", source="k8s", prefix=NAMESPACE_LABELS
        )
        # A namespace without a matching label is one all the same for NotIn and DoesNotExist, a peer without a
        # namespace is none.
        return local((*terms, *namespaces, in_any_namespace()), cluster=self._cluster)
