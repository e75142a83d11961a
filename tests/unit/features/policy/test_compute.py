"""What the compiler decides beside verdicts: who is enforced, who shares, which numbers stay."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from property.policy_node import Node, lookup
from property.policy_oracle import Peer
from property.policy_world import PODS, pod

from cilium.features.policy.rows import PolicyClass, PolicyMembers
from cilium.settings import PolicyEnforcement
from cilium.tables.rules import FIRST_COOKIE, NO_DEFAULT_DENY
from cilium.tables.types import EndpointId

WEB, API, DB = PODS[:3]
HOST, INIT = Peer(1, {"reserved:host": ""}), Peer(5, {"reserved:init": ""})


def cnp(name: str = "p", app: str = "web", **sections: Any) -> dict[str, Any]:
    return {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop", "uid": "u"},
        "spec": {"endpointSelector": {"matchLabels": {"app": app} if app else {}}, **sections},
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


def test_rows_are_classes_and_their_members_only() -> None:
    node = settled(Node(), cnp(**FROM_API))
    kinds = {type(row) for row in node.rows.snapshot()}
    assert kinds == {PolicyClass, PolicyMembers}
