"""Wires the trials of rules about this node, between resolution and compiler; nothing at all without a host firewall.

In: `resolved-policies`, this node's labels, contact to the API server. Out: `enforced-policies`, `host-policy-trials`,
Events.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from cilium.features.policy.node_rules import NodeRules
from cilium.features.policy.rows import HostPolicyTrial
from cilium.features.policy.trial_events import TrialEvents, Writes
from cilium.features.policy.trial_file import TrialFile
from cilium.features.policy.trial_run import Contact, TrialRun
from cilium.features.policy.trials import Trials
from cilium.state import Derivation, Reconciler, Table
from cilium.tables.kubernetes import KubeNode
from cilium.tables.rules import PolicyObject

RETRY = 2.0
"""Seconds at most until an Event is tried again: the node has just got its contact back."""


@dataclass(frozen=True, kw_only=True)
class HostFirewall:
    """What policies on the node itself need. `lost`, `trial`: seconds, see trials.Trials; `begun`, `rolled_back`: see
    trial_run.TrialRun; `audit`: nothing is dropped on the node.
    """

    node: str
    kube_nodes: Table[str, KubeNode]
    contact: Contact
    file: TrialFile
    lost: float
    trial: float
    begun: Callable[[], None]
    rolled_back: Callable[[], None]
    writes: Writes
    audit: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialStage:
    """`enforced`: what is to be compiled."""

    enforced: Table[str, PolicyObject]
    rows: Table[str, HostPolicyTrial] | None = None
    derivations: tuple[Derivation, ...] = ()
    reconcilers: tuple[Reconciler[Any, Any], ...] = ()
    tasks: tuple[tuple[str, Callable[[], Coroutine[Any, Any, None]]], ...] = ()
    tables: list[Table[Any, Any]] = field(default_factory=list)


def build_trials(firewall: HostFirewall | None, *, resolved: Table[str, PolicyObject]) -> TrialStage:
    if firewall is None:
        return TrialStage(enforced=resolved)
    enforced: Table[str, PolicyObject] = Table("enforced-policies", key=lambda row: row.key)
    rows: Table[str, HostPolicyTrial] = Table("host-policy-trials", key=lambda row: row.key)
    run = TrialRun(
        trials=Trials(lost=firewall.lost, trial=firewall.trial),
        file=firewall.file,
        contact=firewall.contact,
        node=firewall.node,
        policies=resolved,
        kube_nodes=firewall.kube_nodes,
        writer=rows.writer("policy"),
        begun=firewall.begun,
        rolled_back=firewall.rolled_back,
        audit=firewall.audit,
    )
    derivation = Derivation(
        "enforced-policies",
        inputs={"resolved-policies": resolved, "host-policy-trials": rows},
        outputs={"enforced-policies": enforced.writer("policy")},
        compute=NodeRules(audit=firewall.audit).compute,
    )
    events = TrialEvents(writes=firewall.writes, node=firewall.node)
    return TrialStage(
        enforced=enforced,
        rows=rows,
        derivations=(derivation,),
        reconcilers=(Reconciler("host-policy-events", table=rows, operations=events, retry_max=RETRY),),
        tasks=(("host policy trials", run.run),),
        tables=[resolved, rows],
    )
