"""Wires the policy engine.

In: rules, identities, endpoints. Out: the policy maps; `endpoint-policies`, `cidr-identities`, `rule-references` and
`policy-status` for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cilium.datapath.maps import BpfMap
from cilium.datapath.runtime import Epoch
from cilium.features.policy.cidrs import CIDRIdentities
from cilium.features.policy.compute import PolicyCompiler
from cilium.features.policy.ops import PolicyMapOps
from cilium.features.policy.release import Release
from cilium.features.policy.resolve import Resolver
from cilium.features.policy.rows import PolicyMapRow, PolicyStatus
from cilium.settings import PolicyEnforcement
from cilium.state import Derivation, Reconciler, Table, Writer
from cilium.state.cell import Cell
from cilium.tables.endpoints import EndpointIdentity, EndpointPolicy
from cilium.tables.identities import CIDRIdentity, IdentityRow
from cilium.tables.kubernetes import CiliumEndpoint, KubeApiservers
from cilium.tables.rules import PolicyObject, RuleReference
from cilium.tables.types import EndpointId, Identity, IPNetwork


@dataclass(frozen=True, kw_only=True)
class PolicyCell:
    cell: Cell
    resolved: Table[str, PolicyObject]
    policy_map: Table[int, PolicyMapRow]
    endpoint_policies: Table[EndpointId, EndpointPolicy]
    cidr_identities: Table[IPNetwork, CIDRIdentity]
    rule_references: Table[int, RuleReference]
    status: Table[str, PolicyStatus]

    @property
    def tables(self) -> list[Table[Any, Any]]:
        """Tables of the engine that people may look at."""
        return [self.resolved, self.cidr_identities, self.endpoint_policies, self.rule_references, self.status]


def build(
    *,
    policies: Table[str, PolicyObject],
    identities: Table[Identity, IdentityRow],
    endpoint_identities: Table[EndpointId, EndpointIdentity],
    cilium_endpoints: Table[str, CiliumEndpoint],
    kube_apiservers: Table[str, KubeApiservers] | None = None,
    referred: Mapping[str, Table[Any, Any]] | None = None,
    entries: BpfMap,
    classes: BpfMap,
    endpoints: BpfMap,
    epoch: Epoch,
    enforcement: PolicyEnforcement = PolicyEnforcement.DEFAULT,
    audit: bool = False,
    dual_stack: bool = True,
    cidrs_match_nodes: bool = False,
    cluster: str = "default",
) -> PolicyCell:
    """`entries`, `classes`, `endpoints`: cilium_policy, cilium_policy_class, cilium_lxc (which is only read).

    `referred`: what rules may refer to, by name: `services`, `endpoint-slices`, `cidr-groups`.
    """
    tables = _Tables()
    maps = PolicyMapOps(entries=entries, classes=classes, endpoints=endpoints, epoch=epoch, wanted=tables.wanted)
    # Patient: policies are changed in place, and half of the rules would close what the other half opens.
    reconciler = Reconciler("policy-map", table=tables.policy_map, operations=maps, order="updates", patient=True)
    inputs: dict[str, Table[Any, Any]] = {
        "policies": tables.resolved,
        "identities": identities,
        "endpoint-identities": endpoint_identities,
        "cilium-endpoints": cilium_endpoints,
    }
    compiler = PolicyCompiler(
        enforcement=enforcement, audit=audit, dual_stack=dual_stack, cidrs_match_nodes=cidrs_match_nodes
    )
    resolution = Derivation(
        "resolved-policies",
        inputs={"policies": policies, **(referred or {})},
        outputs={"resolved-policies": tables.resolved.writer("policy")},
        compute=Resolver(cluster=cluster).compute,
    )
    cidrs = Derivation(
        "cidr-identities",
        inputs={
            "policies": tables.resolved,
            **({} if kube_apiservers is None else {"kube-apiservers": kube_apiservers}),
        },
        outputs={"cidr-identities": tables.cidr_identities.writer("policy")},
        compute=CIDRIdentities(dual_stack=dual_stack).compute,
    )
    compilation = Derivation("policy", inputs=inputs, outputs=tables.plan(), compute=compiler.compute)
    release = Release(rows=tables.policy_map, reconciler=reconciler, gates=tables.gates())
    return PolicyCell(
        cell=Cell(
            name="policy",
            derivations=(resolution, cidrs, compilation),
            reconcilers=(reconciler,),
            tasks=(("policy release", release.run), ("policy sweep", maps.sweep)),
        ),
        resolved=tables.resolved,
        policy_map=tables.policy_map,
        endpoint_policies=tables.endpoint_policies,
        cidr_identities=tables.cidr_identities,
        rule_references=tables.rule_references,
        status=tables.status,
    )


class _Tables:
    """What the engine writes; planned rows become public when the kernel has followed."""

    def __init__(self) -> None:
        self.resolved: Table[str, PolicyObject] = Table("resolved-policies", key=lambda row: row.key)
        self.policy_map: Table[int, PolicyMapRow] = Table("policy-map", key=lambda row: row.key)
        self.cidr_identities: Table[IPNetwork, CIDRIdentity] = Table("cidr-identities", key=lambda row: row.prefix)
        self.rule_references: Table[int, RuleReference] = Table("rule-references", key=lambda row: row.cookie)
        self.endpoint_policies = _endpoint_policies("endpoint-policies")
        self.status = _policy_status("policy-status")
        self._planned_policies = _endpoint_policies("endpoint-policies-planned")
        self._planned_status = _policy_status("policy-status-planned")

    def plan(self) -> dict[str, Writer[Any, Any]]:
        """What the compiler writes."""
        return {
            "policy-map": self.policy_map.writer("policy"),
            "endpoint-policies": self._planned_policies.writer("policy"),
            "policy-status": self._planned_status.writer("policy"),
            "rule-references": self.rule_references.writer("policy"),
        }

    def gates(self) -> list[tuple[Table[Any, Any], Writer[Any, Any]]]:
        return [
            (self._planned_policies, self.endpoint_policies.writer("policy")),
            (self._planned_status, self.status.writer("policy")),
        ]

    def wanted(self) -> set[int]:
        """Policies that endpoints are to have."""
        return {number for row in self._planned_policies.snapshot() for number in (row.ingress, row.egress)}


def _endpoint_policies(name: str) -> Table[EndpointId, EndpointPolicy]:
    return Table(name, key=lambda row: row.endpoint)


def _policy_status(name: str) -> Table[str, PolicyStatus]:
    return Table(name, key=lambda row: row.key)
