"""What the compiler decides beside verdicts: who is enforced, who shares, which numbers stay."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from property.policy_node import Node, judge, lookup
from property.policy_oracle import Peer
from property.policy_world import PODS, pod

from cilium.features.policy.rows import PolicyClass, PolicyMembers
from cilium.settings import PolicyEnforcement
from cilium.tables.audit import ANNOTATION
from cilium.tables.rules import FIRST_COOKIE, NO_DEFAULT_DENY, Action
from cilium.tables.types import EndpointId

WEB, API, DB = PODS[:3]
HOST, INIT = Peer(1, {"reserved:host": ""}), Peer(5, {"reserved:init": ""})


def cnp(name: str = "p", app: str = "web", **sections: Any) -> dict[str, Any]:
    return {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop", "uid": "u"},
        "spec": {"endpointSelector": {"matchLabels": {"app": app} if app else {}}, **sections},
    }


def tier(name: str, action: str, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    rule = {"name": "from-pods", "action": action, "from": [{"namespaces": {}}]}
    return {
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "t", "uid": "u", "annotations": annotations or {}},
        "spec": {"tier": name, "priority": 1, "subject": {"namespaces": {}}, "ingress": [rule]},
    }


FROM_API = {"ingress": [{"fromEndpoints": [{"matchLabels": {"app": "api"}}]}]}


def settled(node: Node, *policies: dict[str, Any], pods: tuple[Peer, ...] = (WEB, API, DB)) -> Node:
    for peer in pods:
        node.add_peer(peer)
        node.add_endpoint(peer)
    for policy in policies:
        node.add_policy(policy)
    node.settle()
    return node


def sides(node: Node, peer: Peer) -> tuple[int, int]:
    row = node.endpoint_policies.snapshot()[EndpointId(peer.identity)]
    return row.ingress, row.egress


def content(node: Node) -> set[Any]:
    return {
        (row.policy, row.class_id, tuple(row.identities)) if isinstance(row, PolicyMembers) else row
        for row in node.rows.snapshot()
    }


@pytest.mark.parametrize(
    ("enforcement", "expected"),
    [
        (
            PolicyEnforcement.DEFAULT,
            {WEB: (True, False), API: (False, False), HOST: (False, False), INIT: (True, True)},
        ),
        ("always", {WEB: (True, True), API: (True, True), HOST: (False, False), INIT: (True, True)}),
        (
            PolicyEnforcement.NEVER,
            {WEB: (False, False), API: (False, False), HOST: (False, False), INIT: (False, False)},
        ),
    ],
)
def test_enforcement_modes(enforcement: str, expected: dict[Peer, tuple[bool, bool]]) -> None:
    node = settled(Node(PolicyEnforcement(enforcement)), cnp(**FROM_API), pods=tuple(expected))
    assert {peer: tuple(map(bool, sides(node, peer))) for peer in expected} == expected


def test_endpoints_with_the_same_rules_share_a_policy() -> None:
    node = settled(Node(), cnp(app="", ingress=[{"fromEndpoints": [{}]}]))
    assert sides(node, WEB) == sides(node, API) == sides(node, DB)
    node.add_policy(cnp("q", **FROM_API))
    node.settle()
    assert sides(node, WEB) != sides(node, API) == sides(node, DB)
    node.remove_policy("CiliumNetworkPolicy/shop/q")
    node.settle()
    assert sides(node, WEB) == sides(node, API)


def test_an_edit_leaves_policy_and_cookie_alone() -> None:
    node = settled(Node(), cnp(**FROM_API))
    before, cookies = sides(node, WEB), set(node.references.snapshot().keys())
    assert lookup(node.class_of(WEB, "ingress", API), 6, 80)
    node.add_policy(cnp(ingress=[{"fromEndpoints": [{"matchLabels": {"app": "db"}}]}]))
    node.settle()
    assert sides(node, WEB) == before
    assert set(node.references.snapshot().keys()) == cookies
    assert not lookup(node.class_of(WEB, "ingress", API), 6, 80)
    assert lookup(node.class_of(WEB, "ingress", DB), 6, 80)


def test_numbers_are_the_same_in_another_life_whatever_the_order() -> None:
    policies = [cnp(str(n), app, **FROM_API) for n, app in enumerate(("web", "api", "", "db"))]
    first, second = settled(Node(), *policies), settled(Node(), pods=(DB, API, WEB))
    for policy in reversed(policies):
        second.add_policy(policy)
        second.settle()
    assert content(first) == content(second)
    assert [sides(first, peer) for peer in (WEB, API, DB)] == [sides(second, peer) for peer in (WEB, API, DB)]


def test_references_outlive_their_rule_and_come_back_with_it() -> None:
    node = settled(Node(), cnp(**FROM_API))
    (reference,) = (row for row in node.references.snapshot() if row.cookie >= FIRST_COOKIE)
    assert (reference.name, reference.section, reference.index, reference.deleted) == ("p", "ingress", 0, False)
    node.remove_policy("CiliumNetworkPolicy/shop/p")
    node.settle()
    assert node.references.snapshot()[reference.cookie].deleted
    node.add_policy(cnp(**FROM_API))
    node.settle()
    again = node.references.snapshot()[reference.cookie]
    assert again.revision > reference.revision
    assert msgspec.structs.replace(again, revision=reference.revision) == reference


def test_without_default_deny_a_denial_is_a_hole_in_everything() -> None:
    deny = [{"fromEndpoints": [{"matchLabels": {"app": "api"}}]}]
    node = settled(Node(), cnp(ingressDeny=deny, enableDefaultDeny={"ingress": False}))
    assert not lookup(node.class_of(WEB, "ingress", API), 6, 80)
    assert lookup(node.class_of(WEB, "ingress", DB), 6, 80)
    everyone = node.class_of(WEB, "ingress", Peer(4711, {}))
    assert everyone is not None
    assert [verdict.cookie for verdict in everyone.verdicts] == [NO_DEFAULT_DENY]


def test_only_rules_that_open_and_do_not_close_enforce_nothing() -> None:
    node = settled(Node(), cnp(**FROM_API, enableDefaultDeny={"ingress": False}))
    assert sides(node, WEB) == (0, 0)
    assert not len(node.rows)


@pytest.mark.parametrize(
    ("policies", "enforcement", "expected"),
    [
        pytest.param([], PolicyEnforcement.DEFAULT, "allowed", id="baseline accepts"),
        pytest.param([], PolicyEnforcement.ALWAYS, "allowed", id="and opens what is closed without a policy"),
        pytest.param(["closes"], PolicyEnforcement.DEFAULT, "denied", id="a policy that closes ends it"),
        pytest.param(["audited"], PolicyEnforcement.DEFAULT, "audited", id="on trial"),
        pytest.param(["audited"], PolicyEnforcement.ALWAYS, "audited", id="on trial, beside what is open there"),
        pytest.param(["audited", "closes"], PolicyEnforcement.DEFAULT, "denied", id="on trial, beside one that closes"),
    ],
)
def test_who_asks_the_baseline(policies: list[str], enforcement: PolicyEnforcement, expected: str) -> None:
    baseline = tier("Baseline", "Accept")
    chosen = [cnp(name, ingress=[{}]) for name in policies]
    for policy in chosen:
        policy["metadata"]["annotations"] = {ANNOTATION: "enabled"} if policy["metadata"]["name"] == "audited" else {}
    node = settled(Node(enforcement), baseline, *chosen)
    assert judge(node.class_of(WEB, "ingress", API), 6, 80) == expected
    stranger = "denied" if enforcement is PolicyEnforcement.ALWAYS or expected == "denied" else expected
    assert judge(node.class_of(WEB, "ingress", HOST), 6, 80) == stranger


def test_a_rule_that_changes_its_tier_or_audit_mode_keeps_policy_and_cookie() -> None:
    node = settled(Node(), tier("Admin", "Deny"))
    before, references = sides(node, WEB), set(node.references.snapshot().keys())
    assert judge(node.class_of(WEB, "ingress", API), 6, 80) == "denied"
    node.add_policy(tier("Baseline", "Deny", annotations={ANNOTATION: "enabled"}))
    node.settle()
    assert judge(node.class_of(WEB, "ingress", API), 6, 80) == "audited"
    assert (sides(node, WEB), set(node.references.snapshot().keys())) == (before, references)
    (status,) = node.status.snapshot()
    assert status.audit
    node.add_policy(tier("Baseline", "Accept"))
    node.settle()
    assert sides(node, WEB) == (0, 0), "without default deny and without a denial nothing is enforced"
    node.remove_policy("ClusterNetworkPolicy//t")
    node.settle()
    assert not len(node.rows)


def test_a_reference_has_the_name_of_its_rule() -> None:
    node = settled(Node(), tier("Admin", "Deny"))
    (reference,) = (row for row in node.references.snapshot() if row.cookie >= FIRST_COOKIE)
    assert reference.place == "spec.ingress[0] (from-pods)"
    assert (reference.kind, reference.namespace, reference.rule, reference.action) == (
        "ClusterNetworkPolicy", "", "from-pods", Action.DENY,
    )  # fmt: skip


def test_a_named_port_means_the_port_of_each_peer() -> None:
    to_http = [{"toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}]
    node = settled(Node(), cnp(app="db", egress=to_http))
    assert lookup(node.class_of(DB, "egress", WEB), 6, 8080)
    assert lookup(node.class_of(DB, "egress", API), 6, 9090)
    assert not lookup(node.class_of(DB, "egress", API), 6, 8080)
    late = pod(2000, "labs", "late", ports={("http", 6): 1234})
    node.add_peer(late)
    node.settle()
    assert lookup(node.class_of(DB, "egress", late), 6, 1234)
    node.remove_peer(late)
    node.settle()
    assert not lookup(node.class_of(DB, "egress", late), 6, 1234)


def test_the_status_names_what_is_not_enforced() -> None:
    node = settled(Node(), cnp(egress=[{"toFQDNs": [{"matchName": "example.org"}]}]))
    (status,) = node.status.snapshot()
    assert status.unenforced == ("spec.egress[0].toFQDNs",)
    assert status.revision == node.policies.revision
    assert sides(node, WEB)[1], "it closes what it says it closes"


def test_policies_that_arrive_together_are_as_many_revisions() -> None:
    node = settled(Node(), cnp("first", **FROM_API))
    before = max(status.revision for status in node.status.snapshot())
    node.add_policy(cnp("second", **FROM_API))
    node.add_policy(cnp("third", **FROM_API))
    node.settle()
    assert max(status.revision for status in node.status.snapshot()) == before + 2


def test_rows_are_classes_and_their_members_only() -> None:
    node = settled(Node(), cnp(**FROM_API))
    kinds = {type(row) for row in node.rows.snapshot()}
    assert kinds == {PolicyClass, PolicyMembers}


# ------------------------------------------------------------------------------------------------------ the node itself


def ccnp(name: str = "hosts", subject: str = "nodeSelector", **sections: Any) -> dict[str, Any]:
    return {
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": name, "uid": "u"},
        "spec": {subject: {}, **sections},
    }


TO_API = {"egress": [{"toEndpoints": [{"matchLabels": {"app": "api"}}]}]}


def test_rules_about_nodes_are_the_nodes_alone() -> None:
    node = settled(Node(host_firewall=True), ccnp(**FROM_API), pods=(WEB, API, HOST))
    assert [tuple(map(bool, sides(node, peer))) for peer in (WEB, HOST)] == [(False, False), (True, False)]
    assert lookup(node.class_of(HOST, "ingress", API), 6, 80)
    assert not lookup(node.class_of(HOST, "ingress", WEB), 6, 80)
    node.add_policy(ccnp("pods", "endpointSelector", **TO_API))
    node.settle()
    assert [tuple(map(bool, sides(node, peer))) for peer in (WEB, HOST)] == [(False, True), (True, False)]
    for name in ("hosts", "pods"):
        node.remove_policy(f"CiliumClusterwideNetworkPolicy//{name}")
    node.settle()
    assert sides(node, WEB) == sides(node, HOST) == (0, 0)


def test_a_node_that_comes_after_the_rules_has_only_its_own() -> None:
    node = settled(Node(host_firewall=True), ccnp(**FROM_API), ccnp("pods", "endpointSelector", **TO_API), pods=())
    settled(node, pods=(WEB, API, HOST))
    assert [tuple(map(bool, sides(node, peer))) for peer in (WEB, HOST)] == [(False, True), (True, False)]


@pytest.mark.parametrize("enforcement", [PolicyEnforcement.ALWAYS, PolicyEnforcement.NEVER])
def test_modes_close_no_node(enforcement: PolicyEnforcement) -> None:
    node = settled(Node(enforcement, host_firewall=True), pods=(WEB, HOST))
    assert sides(node, HOST) == (0, 0)
    node = settled(node, ccnp(**FROM_API), pods=())
    assert bool(sides(node, HOST)[0]) is (enforcement is PolicyEnforcement.ALWAYS)


def test_a_dry_run_is_of_the_node_alone() -> None:
    node = settled(Node(host_firewall=True, host_audit=True), ccnp(**FROM_API), pods=(WEB, HOST))
    rows = node.endpoint_policies.snapshot()
    assert [rows[EndpointId(peer.identity)].audit for peer in (WEB, HOST)] == [False, True]


def test_without_the_firewall_the_status_says_so() -> None:
    paths = {}
    for on in (False, True):
        node = settled(Node(host_firewall=on), ccnp(**FROM_API), pods=(HOST,))
        (status,) = node.status.snapshot()
        paths[on] = status.unenforced
        assert bool(sides(node, HOST)[0]) is on
    assert paths == {False: ("nodeSelector (hostFirewall.enabled is false)",), True: ()}


def test_one_audited_policy_audits_the_node() -> None:
    policy = ccnp(**FROM_API)
    policy["metadata"]["annotations"] = {ANNOTATION: "enabled"}
    node = settled(Node(host_firewall=True), policy, pods=(WEB, API, HOST))
    assert judge(node.class_of(HOST, "ingress", WEB), 6, 80) == "audited"
