"""The compiler: rules, identities and endpoints become the rows of the policy maps.

In: `policies`, `identities`, `endpoint-identities`, `cilium-endpoints`. Out: `policy-map`, and, as planned (the kernel
has to follow first, see release.py), `endpoint-policies`, `policy-status` and `judged-identities`; `rule-references`.

A policy is built from differences: a changed rule concerns the identities it is about, a changed identity the
policies whose rules are about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
from pyroaring import BitMap

from cilium.features.policy.builder import PolicyMap
from cilium.features.policy.cidrs import cidr_selectors
from cilium.features.policy.repository import Repository, RuleSet, unenforced
from cilium.features.policy.rows import PolicyStatus, standing
from cilium.features.policy.selectors import SelectorCache
from cilium.features.policy.subjects import PROTOCOLS, Subject, SubjectKey, is_init
from cilium.settings import PolicyEnforcement
from cilium.state import Change, RowChanges, View
from cilium.tables.endpoints import EndpointIdentity, EndpointPolicy
from cilium.tables.identities import IdentityRow, JudgedIdentity, Reserved, is_own
from cilium.tables.kubernetes import CiliumEndpoint, NamedPort
from cilium.tables.names import object_name
from cilium.tables.rules import PolicyObject, SelectorUse
from cilium.tables.types import EndpointId, Identity, Labels, PolicyId

NOT_ENFORCED = PolicyId(0)


class PolicyCompiler:
    """`compute` is the compute function of one derivation; everything else is its cache."""

    def __init__(
        self,
        *,
        enforcement: PolicyEnforcement = PolicyEnforcement.DEFAULT,
        dual_stack: bool = True,
        audit: bool = False,
        cidrs_match_nodes: bool = False,
        host_firewall: bool = False,
        host_audit: bool = False,
    ) -> None:
        """`host_audit`: nothing is dropped for the sake of policies on the node."""
        self._enforcement, self._audit = enforcement, audit
        self._host_firewall, self._host_audit = host_firewall, host_audit
        self._peers, self._selections = SelectorCache(), SelectorCache()
        self._repository = Repository(
            peers=self._peers,
            subjects=self._selections,
            selectors_of=partial(cidr_selectors, dual_stack=dual_stack, nodes=cidrs_match_nodes),
            host_firewall=host_firewall,
        )
        self._map = PolicyMap(self._repository)
        self._labels: dict[Identity, Labels] = {}
        self._ports: dict[Identity, dict[NamedPort, int]] = {}
        self._subjects: dict[SubjectKey, Subject] = {}
        self._by_number: dict[int, Subject] = {}
        self._endpoints: dict[EndpointId, tuple[EndpointIdentity, Subject | None]] = {}
        self._next_subject = 0
        self._revision = 0
        """Changed policies so far: who changed N of them waits for N more, however they arrive (`policy wait`)."""
        self._dirty: set[int] = set()
        """Subjects whose rules have changed."""

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        touched = self._take_identities(view)
        status = self._take_policies(view)
        gone = self._take_endpoints(view)
        self._build(touched)
        self._repository.collect()
        upserts, deletes = self._map.flush()
        references, forgotten = self._repository.flush_references()
        revision = self._revision
        return {
            "policy-map": RowChanges(upserts=upserts, deletes=deletes),
            "endpoint-policies": RowChanges(
                upserts=[self._endpoint_policy(endpoint, revision) for endpoint in self._endpoints], deletes=gone
            ),
            "policy-status": RowChanges(
                upserts=[
                    _status(policy, revision, host_firewall=self._host_firewall)
                    for policy in status.values()
                    if policy is not None
                ],
                deletes=[key for key, policy in status.items() if policy is None],
            ),
            "rule-references": RowChanges(upserts=references, deletes=forgotten),
            "judged-identities": _own(view),
        }

    def selectors(self) -> list[SelectorUse]:
        """Everybody whom rules name, as of the last computation."""
        found = []
        for number, selector, uses in self._peers.used():
            users = self._repository.users(number)
            if not users:
                continue  # what a named port means at its pods
            policies = dict.fromkeys(object_name(rule.kind, rule.namespace, rule.name) for rule in users)
            members = self._peers.members(number)
            found.append(SelectorUse(selector, tuple(policies), uses, tuple(members)))
        return found

    # ------------------------------------------------------------------------------------------------------ intake

    def _take_identities(self, view: View) -> BitMap:
        """Applies changes of labels and of peers' named ports; returns the identities concerned."""
        concerned: dict[Identity, None] = {}
        change: Change[Any, Any]
        for change in view.changes["identities"]:
            row: IdentityRow | None = change.new
            if change.key == Reserved.UNKNOWN:  # its entry is that of the rest
                continue
            concerned[change.key] = None
            if row is None:
                self._labels.pop(change.key, None)
            else:
                self._labels[row.id] = row.labels
        for name in ("cilium-endpoints", "endpoint-identities"):
            for change in view.changes.get(name, ()):
                if change.old is not None:
                    concerned |= dict.fromkeys(self._count_ports(change.old, -1))
                if change.new is not None:
                    concerned |= dict.fromkeys(self._count_ports(change.new, 1))
        touched = BitMap()
        for identity in concerned:
            labels = self._labels.get(identity)
            if labels is None:
                changed = self._peers.remove(identity)
            else:
                changed = self._peers.upsert(identity, (*labels, *self._port_labels(identity)))
            if changed:
                touched.add(identity)
        return touched

    def _count_ports(self, row: CiliumEndpoint | EndpointIdentity, weight: int) -> Iterable[Identity]:
        """An identity has the named ports of all its pods."""
        if not row.named_ports:
            return ()
        ports = self._ports.setdefault(row.identity, {})
        for port in row.named_ports:
            ports[port] = ports.get(port, 0) + weight
            if not ports[port]:
                del ports[port]
        if not ports:
            del self._ports[row.identity]
        return (row.identity,)

    def _port_labels(self, identity: Identity) -> Iterable[str]:
        for port in self._ports.get(identity, ()):
            self._fact(port)
            yield named_port_label(port)

    def _fact(self, port: NamedPort) -> int:
        number, new = self._repository.fact(port.name.lower(), PROTOCOLS.get(port.protocol, 0), port.port)
        if new:  # egress rules with this name have one more port to look at
            self._dirty.update(self._by_number)
        return number

    def _take_policies(self, view: View) -> dict[str, PolicyObject | None]:
        """Applies changes of rules to the subjects they select; returns the objects concerned."""
        status: dict[str, PolicyObject | None] = {}
        changes = sorted(view.changes["policies"], key=lambda change: str(change.key))
        self._revision += len(changes)
        for change in changes:
            status[change.key] = change.new
            removed, added = self._repository.replace(change.key, change.new, self._revision)
            for rule_set in removed:
                self._join(rule_set.subject, rule_set, -1)
                self._repository.release_subject(rule_set)
            for rule_set in added:
                self._join(rule_set.subject, rule_set, 1)
        return status

    def _join(self, selector: int, rule_set: RuleSet, weight: int) -> None:
        for number in self._selections.members(selector):
            self._by_number[number].join(rule_set, weight)
            self._dirty.add(number)

    def _take_endpoints(self, view: View) -> list[EndpointId]:
        """Moves endpoints between subjects; returns the endpoints that are gone."""
        gone: list[EndpointId] = []
        left: list[Subject] = []
        for change in view.changes["endpoint-identities"]:
            row: EndpointIdentity | None = change.new
            _, before = self._endpoints.pop(change.key, (None, None))
            after = None if row is None else self._subject(row)
            if before is not None and before is not after:
                before.endpoints.discard(change.key)
                left.append(before)
            if row is None:
                gone.append(change.key)
                continue
            self._endpoints[change.key] = (row, after)
            if after is not None:
                after.endpoints.add(change.key)
        for subject in left:
            if not subject.endpoints and subject.number in self._by_number:
                self._forget(subject)
        return gone

    # ---------------------------------------------------------------------------------------------------- subjects

    def _subject(self, row: EndpointIdentity) -> Subject | None:
        """The subject of an endpoint; None: nothing is enforced on it."""
        node = int(row.identity) == Reserved.HOST
        if (node and not self._host_firewall) or self._enforcement is PolicyEnforcement.NEVER:
            return None
        key = (row.identity, tuple(sorted(row.named_ports, key=msgspec.structs.astuple)))
        subject = self._subjects.get(key)
        if subject is None:
            # A node that is closed without a rule could not even learn of one that opens it.
            forced = not node and (self._enforcement is PolicyEnforcement.ALWAYS or is_init(row.labels))
            facts = BitMap(map(self._fact, key[1]))
            subject = Subject(self._next_subject, key, forced=forced, facts=facts, node=node)
            self._next_subject += 1
            self._subjects[key] = self._by_number[subject.number] = subject
            self._selections.upsert(subject.number, row.labels)
            for selector in self._selections.selecting(subject.number):
                for rule_set in self._repository.by_subject.get(selector, ()):
                    subject.join(rule_set, 1)
            self._dirty.add(subject.number)
        return subject

    def _forget(self, subject: Subject) -> None:
        for side in subject.sides:
            self._map.leave(side)
        del self._subjects[subject.key], self._by_number[subject.number]
        self._selections.remove(subject.number)
        self._dirty.discard(subject.number)

    # ------------------------------------------------------------------------------------------------------ output

    def _build(self, touched: BitMap) -> None:
        for number in sorted(self._dirty):
            for side in self._by_number[number].sides:
                self._map.settle(side)
        self._dirty.clear()
        self._map.move(touched)

    def _endpoint_policy(self, endpoint: EndpointId, revision: int) -> EndpointPolicy:
        row, subject = self._endpoints[endpoint]
        policies = (None, None) if subject is None else (subject.ingress.policy, subject.egress.policy)
        ingress, egress = (NOT_ENFORCED if policy is None else policy.number for policy in policies)
        return EndpointPolicy(
            endpoint=endpoint,
            identity=row.identity,
            ingress=ingress,
            egress=egress,
            revision=revision,
            audit=self._audit or (self._host_audit and int(row.identity) == Reserved.HOST),
        )


def _own(view: View) -> RowChanges[Identity, JudgedIdentity]:
    """Identities of this node's own making that came and went, and are compiled."""
    changes = [change for change in view.changes["identities"] if is_own(change.key)]
    return RowChanges(
        upserts=[JudgedIdentity(change.key) for change in changes if change.new is not None],
        deletes=[change.key for change in changes if change.new is None],
    )


def named_port_label(port: NamedPort) -> str:
    """A label that only this engine knows: the peers' named ports go through the selector cache like all else."""
    return f"named-port:{port.name.lower()}/{PROTOCOLS.get(port.protocol, 0)}={port.port}"


def _status(policy: PolicyObject, revision: int, *, host_firewall: bool) -> PolicyStatus:
    return PolicyStatus(
        kind=policy.kind,
        namespace=policy.namespace,
        name=policy.name,
        generation=policy.generation,
        valid=not policy.error,
        error=f"{policy.error}; {standing(policy)}" if policy.error else "",
        revision=revision,
        uid=policy.uid,
        enforced=policy.enforced,
        warnings=policy.warnings,
        unenforced=unenforced(policy.rules, host_firewall=host_firewall),
        audit=policy.audit,
    )
