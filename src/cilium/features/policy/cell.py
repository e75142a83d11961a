"""Wires the policy engine.

In: rules, identities, endpoints. Out: the policy maps; `endpoint-policies`, `cidr-identities`, `rule-references` and
`policy-status` for others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cilium.datapath.maps import BpfMap
from cilium.features.policy.cidrs import CIDRIdentities
from cilium.features.policy.compute import Enforcement, PolicyCompiler
from cilium.features.policy.ops import Epoch, PolicyMaps
from cilium.features.policy.release import Release
from cilium.features.policy.rows import PolicyMapRow, PolicyStatus
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.endpoints import EndpointIdentity, EndpointPolicy
from cilium.tables.identities import CIDRIdentity, IdentityRow
from cilium.tables.kubernetes import CiliumEndpoint
from cilium.tables.rules import PolicyObject, RuleReference
from cilium.tables.types import EndpointId, Identity, IPNetwork


class PatientReconciler(Reconciler[int, PolicyMapRow]):
    """Leaves the maps of the last agent alone until the whole plan is known: policies are changed in place, and half
    of the rules would close what the other half opens."""

    async def run(self) -> None:
        await self._table.wait_initialized()
        await super().run()


@dataclass(frozen=True, kw_only=True)
class PolicyCell:
    cell: Cell
    policy_map: Table[int, PolicyMapRow]
    endpoint_policies: Table[EndpointId, EndpointPolicy]
    cidr_identities: Table[IPNetwork, CIDRIdentity]
    rule_references: Table[int, RuleReference]
    status: Table[str, PolicyStatus]


def build(
    *,
    policies: Table[str, PolicyObject],
    identities: Table[Identity, IdentityRow],
    endpoint_identities: Table[EndpointId, EndpointIdentity],
    cilium_endpoints: Table[str, CiliumEndpoint],
    entries: BpfMap,
    classes: BpfMap,
    endpoints: BpfMap,
    epoch: Epoch,
    enforcement: Enforcement = "default",
    audit: bool = False,
    dual_stack: bool = True,
) -> PolicyCell:
    """`entries`, `classes`, `endpoints`: cilium_policy, cilium_policy_class, cilium_lxc (which is only read)."""
    policy_map: Table[int, PolicyMapRow] = Table("policy-map", key=lambda row: row.key)
    planned_endpoints, endpoint_policies = (_endpoint_policies(suffix) for suffix in ("-planned", ""))
    planned_status, status = (_policy_status(suffix) for suffix in ("-planned", ""))
    cidr_identities: Table[IPNetwork, CIDRIdentity] = Table("cidr-identities", key=lambda row: row.prefix)
    rule_references: Table[int, RuleReference] = Table("rule-references", key=lambda row: row.cookie)

    def wanted() -> set[int]:
        return {number for row in planned_endpoints.snapshot() for number in (row.ingress, row.egress)}

    maps = PolicyMaps(entries=entries, classes=classes, endpoints=endpoints, epoch=epoch, wanted=wanted)
    reconciler = PatientReconciler("policy-map", table=policy_map, operations=maps, order="updates")
    inputs: dict[str, Table[Any, Any]] = {
        "policies": policies,
        "identities": identities,
        "endpoint-identities": endpoint_identities,
        "cilium-endpoints": cilium_endpoints,
    }
    compiler = PolicyCompiler(enforcement=enforcement, audit=audit, dual_stack=dual_stack)
    derivations = (
        Derivation(
            "cidr-identities",
            inputs={"policies": policies},
            outputs={"cidr-identities": cidr_identities.writer("policy")},
            compute=CIDRIdentities(dual_stack=dual_stack).compute,
        ),
        Derivation(
            "policy",
            inputs=inputs,
            outputs={
                "policy-map": policy_map.writer("policy"),
                "endpoint-policies": planned_endpoints.writer("policy"),
                "policy-status": planned_status.writer("policy"),
                "rule-references": rule_references.writer("policy"),
            },
            compute=compiler.compute,
        ),
    )
    release = Release(
        rows=policy_map,
        reconciler=reconciler,
        gates=[
            (planned_endpoints, endpoint_policies.writer("policy")),
            (planned_status, status.writer("policy")),
        ],
    )
    return PolicyCell(
        cell=Cell(
            name="policy",
            derivations=derivations,
            reconcilers=(reconciler,),
            tasks=(("policy release", release.run), ("policy sweep", maps.sweep)),
        ),
        policy_map=policy_map,
        endpoint_policies=endpoint_policies,
        cidr_identities=cidr_identities,
        rule_references=rule_references,
        status=status,
    )


def _endpoint_policies(suffix: str) -> Table[EndpointId, EndpointPolicy]:
    return Table(f"endpoint-policies{suffix}", key=lambda row: row.endpoint)


def _policy_status(suffix: str) -> Table[str, PolicyStatus]:
    return Table(f"policy-status{suffix}", key=lambda row: row.key)
