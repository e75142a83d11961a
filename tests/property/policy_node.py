"""A node's policy engine on real tables, and the datapath's two lookups in Python."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
from property.policy_oracle import Group, Peer, Service

from cilium.features.policy.cidrs import CIDRIdentities
from cilium.features.policy.compute import PolicyCompiler
from cilium.features.policy.resolve import Resolver
from cilium.features.policy.rows import PolicyClass, PolicyMapRow, PolicyMembers, Verdict
from cilium.settings import PolicyEnforcement
from cilium.sources.kubernetes.policies import decode_ccnp, decode_cluster_network_policy, decode_cnp, decode_knp
from cilium.state import Derivation, Table
from cilium.tables.audit import ANNOTATION
from cilium.tables.endpoints import EndpointIdentity
from cilium.tables.identities import IdentityRow
from cilium.tables.kubernetes import CiliumEndpoint, NamedPort, Namespace
from cilium.tables.rules import CIDRGroup
from cilium.tables.services import EndpointSlice, SliceEndpoint
from cilium.tables.services import Service as KubeService
from cilium.tables.types import ClassId, Identity, Labels

DECODERS = {
    "CiliumNetworkPolicy": decode_cnp,
    "CiliumClusterwideNetworkPolicy": decode_ccnp,
    "NetworkPolicy": decode_knp,
    "ClusterNetworkPolicy": decode_cluster_network_policy,
}
ANYTHING = PolicyClass(ClassId(0), (Verdict(0, 0, 0, 1, False, 4),))
PROTOCOL_NAMES = {6: "TCP", 17: "UDP", 132: "SCTP"}


def labels_of(peer: Peer) -> Labels:
    return tuple(sorted(f"{key}={value}" if value else key for key, value in peer.labels.items()))


def ports_of(peer: Peer) -> tuple[NamedPort, ...]:
    return tuple(NamedPort(name, port, PROTOCOL_NAMES[protocol]) for (name, protocol), port in peer.named_ports.items())


class Node:
    """Inputs are set by the methods below; `settle` computes; `class_of` and `lookup` ask."""

    def __init__(
        self,
        enforcement: PolicyEnforcement = PolicyEnforcement.DEFAULT,
        *,
        dual_stack: bool = True,
        **compiler: Any,
    ) -> None:
        self.objects = Table("policies", key=lambda row: row.key)
        self.namespaces = Table("namespaces", key=lambda row: row.name)
        self.services = Table("services", key=lambda row: row.key)
        self.slices = Table(
            "endpoint-slices", key=lambda row: row.key, indexes={"service": lambda row: (row.service_key,)}
        )
        self.groups = Table("cidr-groups", key=lambda row: row.name)
        self.policies = Table("resolved-policies", key=lambda row: row.key)
        self.identities = Table("identities", key=lambda row: row.id)
        self.endpoints = Table("endpoint-identities", key=lambda row: row.endpoint)
        self.cilium_endpoints = Table("cilium-endpoints", key=lambda row: row.key)
        self.cidrs = Table("cidr-identities", key=lambda row: row.prefix)
        self.rows: Table[int, PolicyMapRow] = Table("policy-map", key=lambda row: row.key)
        self.endpoint_policies = Table("endpoint-policies", key=lambda row: row.endpoint)
        self.references = Table("rule-references", key=lambda row: row.cookie)
        self.status = Table("policy-status", key=lambda row: row.key)
        referring = (self.objects, self.namespaces, self.services, self.slices, self.groups)
        self.write = {
            table.name: table.writer("test")
            for table in (*referring, self.identities, self.endpoints, self.cilium_endpoints)
        }
        self.resolution = Derivation(
            "resolved-policies",
            inputs={table.name: table for table in referring},
            outputs={"resolved-policies": self.policies.writer("policy")},
            compute=Resolver().compute,
        )
        self._cidr_changes = self.cidrs.changes()
        self.cidr_derivation = Derivation(
            "cidr-identities",
            inputs={"policies": self.policies},
            outputs={"cidr-identities": self.cidrs.writer("policy")},
            compute=CIDRIdentities(dual_stack=dual_stack).compute,
        )
        self._compile(PolicyCompiler(enforcement=enforcement, dual_stack=dual_stack, **compiler))

    def _compile(self, compiler: PolicyCompiler) -> None:
        self.compiler = compiler
        self.derivation = Derivation(
            "policy",
            inputs={
                "policies": self.policies,
                "identities": self.identities,
                "endpoint-identities": self.endpoints,
                "cilium-endpoints": self.cilium_endpoints,
            },
            outputs={
                "policy-map": self.rows.writer("policy"),
                "endpoint-policies": self.endpoint_policies.writer("policy"),
                "rule-references": self.references.writer("policy"),
                "policy-status": self.status.writer("policy"),
                "judged-identities": Table("judged-identities", key=lambda row: row.id).writer("policy"),
            },
            compute=self.compiler.compute,
        )

    def add_policy(self, policy: dict[str, Any]) -> None:
        row = DECODERS[policy["kind"]](msgspec.json.encode(policy))
        assert not row.error, row.error
        self.write["policies"].upsert(row)

    def remove_policy(self, key: str) -> None:
        self.write["policies"].delete(key)

    def add_service(self, service: Service) -> None:
        labels, selector = (
            tuple(sorted(f"k8s:{key}={value}" for key, value in each.items()))
            for each in (service.labels, service.selector)
        )
        self.write["services"].upsert(
            KubeService(service.namespace, service.name, "ClusterIP", labels=labels, selector=selector)
        )
        ends = tuple(SliceEndpoint(ip_address(text), True, True, False) for text in service.addresses)
        self.write["endpoint-slices"].upsert(EndpointSlice(service.namespace, service.name, service.name, ends))

    def remove_service(self, service: Service) -> None:
        self.write["services"].delete(f"{service.namespace}/{service.name}")

    def add_group(self, group: Group) -> None:
        labels = tuple(sorted(f"k8s:{key}={value}" for key, value in group.labels.items()))
        self.write["cidr-groups"].upsert(CIDRGroup(group.name, "u", labels, tuple(map(ip_network, group.cidrs))))

    def remove_group(self, group: Group) -> None:
        self.write["cidr-groups"].delete(group.name)

    def audit_namespaces(self, names: Collection[str]) -> None:
        """These and no others."""
        for row in self.namespaces.snapshot():
            self.write["namespaces"].delete(row.name)
        for name in names:
            self.write["namespaces"].upsert(Namespace(name, {}, {ANNOTATION: "enabled"}))

    def add_peer(self, peer: Peer) -> None:
        self.write["identities"].upsert(IdentityRow(Identity(peer.identity), labels_of(peer), "cluster"))
        ports = ports_of(peer)
        if ports:
            self.write["cilium-endpoints"].upsert(
                CiliumEndpoint("ns", str(peer.identity), 1, Identity(peer.identity), (), (), None, ports)
            )

    def remove_peer(self, peer: Peer) -> None:
        self.write["identities"].delete(peer.identity)
        self.write["cilium-endpoints"].delete(f"ns/{peer.identity}")

    def add_endpoint(self, peer: Peer) -> None:
        self.write["endpoint-identities"].upsert(
            EndpointIdentity(peer.identity, Identity(peer.identity), labels_of(peer), ports_of(peer))
        )

    def remove_endpoint(self, peer: Peer) -> None:
        self.write["endpoint-identities"].delete(peer.identity)

    def settle(self) -> None:
        """As in the agent: CIDR identities come back by way of the table of identities."""
        self.resolution.step()
        self.cidr_derivation.step()
        for change in self._cidr_changes.pop():
            if change.old is not None and (change.new is None or change.old.identity != change.new.identity):
                self.write["identities"].delete(change.old.identity)
            if change.new is not None:
                self.write["identities"].upsert(IdentityRow(change.new.identity, change.new.labels, "cidr"))
        self.derivation.step()

    # The datapath.

    def identity_of(self, peer: Peer) -> int:
        if peer.address is None:
            return peer.identity
        covering = [row for row in self.cidrs.snapshot() if peer.address in row.prefix]
        longest = max(covering, key=lambda row: row.prefix.prefixlen, default=None)
        return longest.identity if longest else {4: 9, 6: 10}[peer.address.version]

    def class_of(self, subject: Peer, direction: str, peer: Peer) -> PolicyClass | None:
        """The first lookup; None: no row, nothing passes. ANYTHING: not enforced."""
        row = self.endpoint_policies.snapshot()[subject.identity]
        policy = row.ingress if direction == "ingress" else row.egress
        if policy == 0:
            return ANYTHING
        rows = self.rows.snapshot()
        groups = [row for row in rows if isinstance(row, PolicyMembers) and row.policy == policy]
        for identity in (self.identity_of(peer), 0):
            found = [row.class_id for row in groups if identity in row.identities]
            assert len(found) <= 1, "an identity has one class in a policy"
            if found:
                return rows[found[0]]
        return None


def lookup(row: PolicyClass | None, protocol: int, port: int) -> bool:
    return judge(row, protocol, port) != "denied"


def judge(row: PolicyClass | None, protocol: int, port: int) -> str:
    """The second lookup: the longest prefix decides; no prefix: denied."""
    verdict = decide(row, protocol, port)
    if verdict is None:
        return "denied"
    return ("audited" if verdict.audit else "denied") if verdict.deny else "allowed"


def decide(row: PolicyClass | None, protocol: int, port: int) -> Verdict | None:
    best, verdict = -1, None
    for rule in row.verdicts if row else ():
        free = 24 - rule.prefix
        matches = rule.prefix == 0 or (
            rule.protocol == protocol and (rule.prefix == 8 or rule.port >> free == port >> free)
        )
        if matches and rule.prefix > best:
            best, verdict = rule.prefix, rule
    return verdict
