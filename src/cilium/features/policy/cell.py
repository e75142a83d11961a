"""Wires the policy engine.

In: rules, identities, endpoints. Out: the policy maps; `endpoint-policies`, `cidr-identities`, `rule-references` and
`policy-status` for others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cilium.datapath.maps import BpfMap
from cilium.datapath.runtime import Epoch
from cilium.features.policy.cidrs import CIDRIdentities
from cilium.features.policy.compute import PolicyCompiler
from cilium.features.policy.counters import CounterOps
from cilium.features.policy.ops import PolicyMapOps
from cilium.features.policy.release import Release
from cilium.features.policy.resolve import Resolver
from cilium.features.policy.rows import HostPolicyTrial, PolicyMapRow, PolicyStatus
from cilium.features.policy.trial_cell import HostFirewall, build_trials
from cilium.settings import PolicyEnforcement
from cilium.state import Derivation, Reconciler, Table, Writer
from cilium.state.cell import Cell
from cilium.state.status import RowStatus
from cilium.tables.endpoints import EndpointIdentity, EndpointPolicy
from cilium.tables.identities import CIDRIdentity, IdentityRow, JudgedIdentity
from cilium.tables.kubernetes import CiliumEndpoint, KubeApiservers
from cilium.tables.rules import PolicyObject, RuleReference, SelectorUse
from cilium.tables.types import EndpointId, Identity, IPNetwork

COMPILED = ("policies", "identities", "endpoint-identities", "cilium-endpoints")
"""The compiler's inputs."""


@dataclass(frozen=True, kw_only=True)
class PolicyCell:
    cell: Cell
    resolved: Table[str, PolicyObject]
    """As they are enforced: with references resolved, and with those rules about this node that are in force."""
    policy_map: Table[int, PolicyMapRow]
    endpoint_policies: Table[EndpointId, EndpointPolicy]
    cidr_identities: Table[IPNetwork, CIDRIdentity]
    judged_identities: Table[Identity, JudgedIdentity]
    rule_references: Table[int, RuleReference]
    status: Table[str, PolicyStatus]
    map_status: Table[int, RowStatus[int]]
    """How far the kernel follows `policy_map`."""
    selectors: Callable[[], Sequence[SelectorUse]]
    """Everybody whom rules name, at the moment."""
    trials: Table[str, HostPolicyTrial] | None = None
    """None: without a host firewall."""
    more_tables: list[Table[Any, Any]] = field(default_factory=list)

    @property
    def tables(self) -> list[Table[Any, Any]]:
        """Tables of the engine that people may look at."""
        return [
            self.resolved,
            self.cidr_identities,
            self.judged_identities,
            self.endpoint_policies,
            self.rule_references,
            self.status,
            *self.more_tables,
        ]


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
    counters: BpfMap,
    epoch: Epoch,
    enforcement: PolicyEnforcement = PolicyEnforcement.DEFAULT,
    audit: bool = False,
    dual_stack: bool = True,
    cidrs_match_nodes: bool = False,
    cluster: str = "default",
    host_firewall: HostFirewall | None = None,
) -> PolicyCell:
    """`host_firewall`: None: nothing is enforced on the node itself. `referred`: tables of what rules refer to."""
    tables = _Tables()
    trials = build_trials(host_firewall, resolved=tables.resolved)
    maps = PolicyMapOps(entries=entries, classes=classes, endpoints=endpoints, epoch=epoch, wanted=tables.wanted)
    # Patient: policies are changed in place, and half of the rules would close what the other half opens.
    reconciler = Reconciler("policy-map", table=tables.policy_map, operations=maps, order="updates", patient=True)
    counting = Reconciler("policy-counters", table=tables.rule_references, operations=CounterOps(counters))
    compiler = PolicyCompiler(
        enforcement=enforcement,
        audit=audit,
        dual_stack=dual_stack,
        cidrs_match_nodes=cidrs_match_nodes,
        host_firewall=host_firewall is not None,
        host_audit=host_firewall is not None and host_firewall.audit,
    )
    resolution = _resolution(policies, referred or {}, tables.resolved, cluster=cluster)
    cidrs = _cidr_identities(trials.enforced, kube_apiservers, tables.cidr_identities, dual_stack=dual_stack)
    inputs = (trials.enforced, identities, endpoint_identities, cilium_endpoints)
    compilation = _compilation(dict(zip(COMPILED, inputs, strict=True)), tables, compiler)
    release = Release(rows=tables.policy_map, reconciler=reconciler, gates=tables.gates(), present=maps.present)
    return PolicyCell(
        cell=Cell(
            name="policy",
            derivations=(resolution, *trials.derivations, cidrs, compilation),
            reconcilers=(reconciler, counting, *trials.reconcilers),
            tasks=(("policy release", release.run), ("policy sweep", maps.sweep), *trials.tasks),
        ),
        resolved=trials.enforced,
        policy_map=tables.policy_map,
        endpoint_policies=tables.endpoint_policies,
        cidr_identities=tables.cidr_identities,
        judged_identities=tables.judged,
        rule_references=tables.rule_references,
        status=tables.status,
        map_status=reconciler.status,
        selectors=compiler.selectors,
        trials=trials.rows,
        more_tables=trials.tables,
    )


def _compilation(inputs: Mapping[str, Table[Any, Any]], tables: _Tables, compiler: PolicyCompiler) -> Derivation:
    return Derivation("policy", inputs=inputs, outputs=tables.plan(), compute=compiler.compute)


def _resolution(
    policies: Table[str, PolicyObject],
    referred: Mapping[str, Table[Any, Any]],
    output: Table[str, PolicyObject],
    *,
    cluster: str,
) -> Derivation:
    return Derivation(
        "resolved-policies",
        inputs={"policies": policies, **referred},
        outputs={"resolved-policies": output.writer("policy")},
        compute=Resolver(cluster=cluster).compute,
    )


def _cidr_identities(
    policies: Table[str, PolicyObject],
    kube_apiservers: Table[str, KubeApiservers] | None,
    output: Table[IPNetwork, CIDRIdentity],
    *,
    dual_stack: bool,
) -> Derivation:
    return Derivation(
        "cidr-identities",
        inputs={
            "policies": policies,
            **({} if kube_apiservers is None else {"kube-apiservers": kube_apiservers}),
        },
        outputs={"cidr-identities": output.writer("policy")},
        compute=CIDRIdentities(dual_stack=dual_stack).compute,
    )


class _Tables:
    """What the engine writes; planned rows become public when the kernel has followed."""

    def __init__(self) -> None:
        self.resolved: Table[str, PolicyObject] = Table("resolved-policies", key=lambda row: row.key)
        self.policy_map: Table[int, PolicyMapRow] = Table("policy-map", key=lambda row: row.key)
        self.cidr_identities: Table[IPNetwork, CIDRIdentity] = Table("cidr-identities", key=lambda row: row.prefix)
        self.rule_references: Table[int, RuleReference] = Table(
            "rule-references", key=lambda row: row.cookie, indexes={"policy": lambda row: (row.policy,)}
        )
        self.endpoint_policies = _endpoint_policies("endpoint-policies")
        self.status = _policy_status("policy-status")
        self.judged: Table[Identity, JudgedIdentity] = Table("judged-identities", key=lambda row: row.id)
        self._planned_judged: Table[Identity, JudgedIdentity] = Table(
            "judged-identities-planned", key=lambda row: row.id
        )
        self._planned_policies = _endpoint_policies("endpoint-policies-planned")
        self._planned_status = _policy_status("policy-status-planned")

    def plan(self) -> dict[str, Writer[Any, Any]]:
        """What the compiler writes."""
        return {
            "policy-map": self.policy_map.writer("policy"),
            "endpoint-policies": self._planned_policies.writer("policy"),
            "policy-status": self._planned_status.writer("policy"),
            "rule-references": self.rule_references.writer("policy"),
            "judged-identities": self._planned_judged.writer("policy"),
        }

    def gates(self) -> list[tuple[Table[Any, Any], Writer[Any, Any]]]:
        return [
            (self._planned_policies, self.endpoint_policies.writer("policy")),
            (self._planned_judged, self.judged.writer("policy")),
            (self._planned_status, self.status.writer("policy")),
        ]

    def wanted(self) -> set[int]:
        """Policies that endpoints are to have."""
        return {number for row in self._planned_policies.snapshot() for number in (row.ingress, row.egress)}


def _endpoint_policies(name: str) -> Table[EndpointId, EndpointPolicy]:
    return Table(name, key=lambda row: row.endpoint)


def _policy_status(name: str) -> Table[str, PolicyStatus]:
    return Table(name, key=lambda row: row.key)
