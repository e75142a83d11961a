"""Which policies are named when default deny drops."""

from typing import Any

import msgspec
import pytest

from cilium.datapath.generated import FlowDirection
from cilium.hubble.default_deny import DefaultDeny
from cilium.state import Table
from cilium.tables.endpoints import EndpointIdentity
from cilium.tables.matching import selects
from cilium.tables.rules import PolicyObject, Requirement, Rule, RuleReference, Selector

LABELS = ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop", "reserved:init")
IN, OUT = FlowDirection.INGRESS, FlowDirection.EGRESS


def policy(name: str, *rules: Rule) -> PolicyObject:
    return PolicyObject("CiliumNetworkPolicy", "shop", name, name, 1, rules)


def rule(key: str, value: str, **fields: Any) -> Rule:
    return Rule(subject=Selector((Requirement(key, "In", (value,)),)), **fields)


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        (Requirement("k8s:app", "In", ("web", "db")), True),
        (Requirement("any:app", "In", ("web",)), True),
        (Requirement("k8s:app", "In", ("db",)), False),
        (Requirement("k8s:app", "NotIn", ("db",)), True),
        (Requirement("k8s:tier", "NotIn", ("db",)), True),
        (Requirement("any:app", "NotIn", ("web",)), False),
        (Requirement("reserved:init", "Exists"), True),
        (Requirement("any:init", "Exists"), True),
        (Requirement("k8s:init", "Exists"), False),
        (Requirement("k8s:init", "DoesNotExist"), True),
        (Requirement("k8s:app", "DoesNotExist"), False),
    ],
)
def test_terms(requirement: Requirement, expected: bool) -> None:
    assert selects(Selector((requirement,)), LABELS) is expected


def test_policies_that_close_are_named_with_their_labels_and_revision() -> None:
    policies: Table[str, PolicyObject] = Table("policies", key=lambda row: row.key)
    endpoints: Table[int, EndpointIdentity] = Table("endpoint-identities", key=lambda row: row.endpoint)
    references: Table[int, RuleReference] = Table(
        "rule-references", key=lambda row: row.cookie, indexes={"policy": lambda row: (row.policy,)}
    )
    closing = rule("k8s:app", "web", default_deny_ingress=True, labels=("unspec:team=a",))
    policies.writer("test").commit(upserts=[policy("in", closing)])
    endpoints.writer("test").commit(upserts=[EndpointIdentity(7, 1000, LABELS)])  # type: ignore[arg-type]
    references.writer("test").commit(
        upserts=[
            RuleReference(cookie, "CiliumNetworkPolicy", "shop", name, "ingress", cookie, revision=revision)
            for cookie, name, revision in ((300, "in", 4), (301, "in", 6), (302, "other", 9))
        ]
    )
    (named,) = DefaultDeny(policies, endpoints, references)(7, IN)
    assert (named.cookie, named.name, named.labels, named.revision) == (0, "in", ("unspec:team=a",), 6)
    assert named.place == ""


def test_answers_follow_policies_and_endpoints() -> None:
    policies: Table[str, PolicyObject] = Table("policies", key=lambda row: row.key)
    endpoints: Table[int, EndpointIdentity] = Table("endpoint-identities", key=lambda row: row.endpoint)
    objects, rows = policies.writer("test"), endpoints.writer("test")
    ask = DefaultDeny(policies, endpoints)
    assert ask(7, IN) == ()
    rows.commit(upserts=[EndpointIdentity(7, 1000, LABELS)])  # type: ignore[arg-type]
    assert ask(7, IN) == ()
    objects.commit(
        upserts=[
            policy("both", rule("k8s:app", "web", default_deny_ingress=True, default_deny_egress=True)),
            policy("in", rule("k8s:app", "web", default_deny_ingress=True)),
            policy("open", rule("k8s:app", "web")),
            policy("other", rule("k8s:app", "db", default_deny_ingress=True)),
            policy("nodes", rule("k8s:app", "web", default_deny_ingress=True, node_subject=True)),
        ]
    )
    assert [one.name for one in ask(7, IN)] == ["both", "in"]
    assert [one.name for one in ask(7, OUT)] == ["both"]
    tried = msgspec.structs.replace(policy("tried", rule("k8s:app", "web", default_deny_ingress=True)), audit=True)
    objects.commit(upserts=[tried])
    assert [one.name for one in ask(7, IN)] == ["both", "in"]
    assert [one.name for one in ask(7, IN, True)] == ["both", "in", "tried"]
    objects.commit(deletes=["CiliumNetworkPolicy/shop/in"])
    assert [one.name for one in ask(7, IN)] == ["both"]
    rows.commit(upserts=[EndpointIdentity(7, 1001, ("k8s:app=db",))])  # type: ignore[arg-type]
    assert [one.name for one in ask(7, IN)] == ["other"]


def test_the_node_is_closed_by_rules_about_nodes_alone() -> None:
    """Of which there are here only those that select this node, by labels that its identity does not bear."""
    policies: Table[str, PolicyObject] = Table("policies", key=lambda row: row.key)
    endpoints: Table[int, EndpointIdentity] = Table("endpoint-identities", key=lambda row: row.endpoint)
    everybody = Rule(subject=Selector(), default_deny_ingress=True)
    guarded = rule("k8s:guarded", "yes", default_deny_ingress=True, node_subject=True)
    policies.writer("test").commit(upserts=[policy("pods", everybody), policy("nodes", guarded)])
    rows = [EndpointIdentity(7, 1000, LABELS), EndpointIdentity(65535, 1, ("reserved:host",))]  # type: ignore[arg-type]
    endpoints.writer("test").commit(upserts=rows)
    ask = DefaultDeny(policies, endpoints)
    assert [one.name for one in ask(65535, IN)] == ["nodes"]
    assert [one.name for one in ask(7, IN)] == ["pods"]
