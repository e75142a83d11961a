"""What policies mean where it is often got wrong: one test or more per item of the list in docs/policy-conformance.md,
from the API object to the verdict. The number in a name is the item's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from property.policy_node import DECODERS, Node, lookup
from property.policy_oracle import CLUSTER_KEY, NS, Peer
from property.policy_world import ADDRESSES, PODS, RESERVED, pod

from cilium.settings import PolicyEnforcement

WEB, API, DB, BANK_WEB, BANK_DB, LABS, ELSEWHERE = PODS
HOST, HEALTH, REMOTE, KUBE, INIT = RESERVED
INGRESS, UNMANAGED = Peer(8, {"reserved:ingress": ""}), Peer(3, {"reserved:unmanaged": ""})
WORLD4, WORLD6 = ADDRESSES[4], ADDRESSES[5]
TEN = ADDRESSES[0]
HTTP, HTTPS, DNS = (6, 80), (6, 443), (17, 53)
CNP, CCNP, KNP = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"


def policy(spec: Any, kind: str = CNP, name: str = "p", namespace: str = "shop") -> dict[str, Any]:
    if kind != KNP and "endpointSelector" not in spec and "nodeSelector" not in spec:
        spec = {"endpointSelector": {}, **spec}
    metadata = {"name": name, "uid": "u"} | ({} if kind == CCNP else {"namespace": namespace})
    return {"kind": kind, "metadata": metadata, "spec": spec}


def cluster(*policies: dict[str, Any], mode: PolicyEnforcement = PolicyEnforcement.DEFAULT) -> Node:
    node = Node(mode)
    for peer in (*PODS, *RESERVED, INGRESS, UNMANAGED):
        node.add_peer(peer)
        node.add_endpoint(peer)
    for world in (Peer(9, {"reserved:world-ipv4": ""}), Peer(10, {"reserved:world-ipv6": ""})):
        node.add_peer(world)
    for each in policies:
        node.add_policy(each)
    node.settle()
    return node


def passes(node: Node, peer: Peer, flow: tuple[int, int] = HTTP, *, subject: Peer = WEB, to: bool = False) -> bool:
    """Ingress of `subject` from `peer`; with `to` its egress."""
    return lookup(node.class_of(subject, "egress" if to else "ingress", peer), *flow)


def who(node: Node, *, to: bool = False, flow: tuple[int, int] = HTTP) -> set[Peer]:
    """Everybody whom the subject hears (or reaches)."""
    return {peer for peer in (*PODS, *RESERVED, INGRESS, UNMANAGED, *ADDRESSES) if passes(node, peer, flow, to=to)}


def error(spec: Any, kind: str = CNP) -> str:
    return DECODERS[kind](msgspec.json.encode(policy(spec, kind))).error


def ports(*entries: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"ports": list(entries), **more}]


def labelled(**labels: str) -> dict[str, Any]:
    return {"matchLabels": labels}


FROM_API = {"ingress": [{"fromEndpoints": [labelled(app="api")]}]}
EVERYBODY = set[Peer]((*PODS, *RESERVED, INGRESS, UNMANAGED, *ADDRESSES))


# -- 1, 2: default deny ------------------------------------------------------------------------------------------


def test_01_default_deny_is_per_direction() -> None:
    node = cluster(policy(FROM_API))
    assert who(node) == {API}
    assert who(node, to=True) == EVERYBODY


def test_01_default_deny_is_on_when_any_policy_asks_for_it() -> None:
    soft = policy({**FROM_API, "enableDefaultDeny": {"ingress": False}}, name="soft")
    assert who(cluster(soft)) == EVERYBODY
    assert who(cluster(soft, policy({"ingress": [{"fromEndpoints": [labelled(app="db")]}]}))) == {API, DB}


def test_01_without_default_deny_a_denial_still_acts() -> None:
    node = cluster(
        policy({"ingressDeny": [{"fromEndpoints": [labelled(app="api")]}], "enableDefaultDeny": {"ingress": False}})
    )
    assert who(node) == EVERYBODY - {API}


def test_01_pods_without_labels_yet_and_mode_always_are_closed_and_mode_never_opens_everything() -> None:
    assert not passes(cluster(), API, subject=INIT)
    assert passes(cluster(), API, subject=WEB)
    assert who(cluster(mode=PolicyEnforcement.ALWAYS)) == set()
    assert who(cluster(policy({"ingress": [{}]}), mode=PolicyEnforcement.NEVER)) == EVERYBODY


def test_02_four_empty_sections_are_refused() -> None:
    assert error({"ingress": [], "egress": [], "ingressDeny": [], "egressDeny": []}).startswith("spec: has no rules")


def test_02_an_element_without_peers_selects_nobody_and_an_empty_list_switches_nothing_on() -> None:
    assert who(cluster(policy({"ingress": [{}]}))) == set()
    node = cluster(policy({"ingress": [], "egress": [{}]}))
    assert (who(node), who(node, to=True)) == (EVERYBODY, set())


def test_02_in_a_networkpolicy_an_empty_element_allows_everything_and_an_empty_list_nothing() -> None:
    assert who(cluster(policy({"podSelector": {}, "ingress": [{}]}, KNP))) == EVERYBODY
    assert who(cluster(policy({"podSelector": {}, "ingress": [], "policyTypes": ["Ingress"]}, KNP))) == set()


# -- 3 to 5: selectors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peers", ["fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "fromNodes"])
def test_03_an_empty_list_of_peers_selects_nobody(peers: str) -> None:
    assert who(cluster(policy({"ingress": [{peers: [], "toPorts": ports({"port": "80"})}]}))) == set()


def test_03_no_list_of_peers_is_any_peer_when_there_are_ports() -> None:
    node = cluster(policy({"ingress": [{"toPorts": ports({"port": "80"})}]}))
    assert (who(node), who(node, flow=HTTPS)) == (EVERYBODY, set())


def test_03_the_empty_selector_is_the_namespace_and_clusterwide_every_managed_pod() -> None:
    rule = {"ingress": [{"fromEndpoints": [{}]}]}
    assert who(cluster(policy(rule))) == {WEB, API, DB}
    assert who(cluster(policy(rule, CCNP))) == {WEB, API, DB, BANK_WEB, BANK_DB, LABS}


def test_04_a_policy_selects_in_its_own_namespace_only() -> None:
    foreign = policy({"endpointSelector": labelled(**{NS: "bank"}), "ingress": [{}]})
    node = cluster(foreign)
    assert passes(node, API, subject=BANK_WEB)
    assert not passes(node, API, subject=WEB)
    assert "other namespaces are ignored" in DECODERS[CNP](msgspec.json.encode(foreign)).warnings[0]


@pytest.mark.parametrize(
    "term",
    [
        {"key": "reserved:host", "operator": "DoesNotExist"},
        {"key": "reserved:host", "operator": "NotIn", "values": ["x"]},
        {"key": "reserved:health", "operator": "Exists"},
        {"key": NS, "operator": "Exists"},
        {"key": NS, "operator": "In", "values": ["bank", "shop"]},
    ],
)
def test_04_no_term_lets_a_policy_out_of_its_namespace(term: dict[str, Any]) -> None:
    node = cluster(policy({"endpointSelector": {"matchExpressions": [term]}, "ingress": [{}]}))
    assert all(passes(node, API, subject=subject) for subject in (BANK_WEB, BANK_DB, LABS, HEALTH))


def test_04_peers_get_the_namespace_unless_they_name_one() -> None:
    assert who(cluster(policy({"ingress": [{"fromEndpoints": [labelled(app="web")]}]}))) == {WEB}
    named = labelled(app="web", **{NS: "bank"})
    assert who(cluster(policy({"ingress": [{"fromEndpoints": [named]}]}))) == {BANK_WEB}


def test_04_a_peer_that_is_not_reserved_is_still_one_of_the_namespace() -> None:
    term = {"matchExpressions": [{"key": "reserved:host", "operator": "DoesNotExist"}]}
    assert who(cluster(policy({"ingress": [{"fromEndpoints": [term]}]}))) == {WEB, API, DB}


def test_04_node_selectors_are_for_clusterwide_policies_and_stand_alone() -> None:
    assert error({"nodeSelector": {}, "ingress": [{}]}).startswith("spec.nodeSelector: is for")
    both = {"nodeSelector": {}, "endpointSelector": {}, "ingress": [{}]}
    assert error(both, CCNP).startswith("spec.nodeSelector: cannot be combined")


@pytest.mark.parametrize("kind", [CNP, CCNP, KNP])
def test_05_peers_are_of_this_cluster_unless_another_is_named(kind: str) -> None:
    rule = {"ingress": [{"from": [{"podSelector": {}}]}]} if kind == KNP else {"ingress": [{"fromEndpoints": [{}]}]}
    subject = {"podSelector": {}} if kind == KNP else {"endpointSelector": {}}
    assert ELSEWHERE not in who(cluster(policy({**subject, **rule}, kind)))
    if kind != KNP:
        named = {"ingress": [{"fromEndpoints": [labelled(**{CLUSTER_KEY: "elsewhere"})]}]}
        assert who(cluster(policy(named, kind))) == {ELSEWHERE}


# -- 6 to 10: combinations ---------------------------------------------------------------------------------------


def test_06_deny_beats_allow_whatever_the_width_of_their_ports() -> None:
    everything, one = {"fromEntities": ["all"]}, {"fromEntities": ["all"], "toPorts": ports({"port": "80"})}
    assert who(cluster(policy({"ingress": [everything], "ingressDeny": [one]}))) == set()
    assert who(cluster(policy({"ingress": [everything], "ingressDeny": [one]})), flow=HTTPS) == EVERYBODY
    assert who(cluster(policy({"ingress": [one], "ingressDeny": [everything]}))) == set()


@pytest.mark.parametrize(
    ("section", "element"),
    [
        ("ingressDeny", {"toPorts": ports({"port": "80", "protocol": "TCP"}, rules={"http": [{}]})}),
        ("egressDeny", {"toFQDNs": [{"matchName": "a.b"}]}),
        ("egressDeny", {"toPorts": ports({"port": "443"}, serverNames=["a.b"])}),
        ("ingressDeny", {"fromEndpoints": [{}], "authentication": {"mode": "required"}}),
    ],
)
def test_06_deny_rules_have_no_parts_above_l4(section: str, element: dict[str, Any]) -> None:
    assert "unknown field" in error({section: [element]})


def test_07_one_kind_of_peer_per_rule() -> None:
    found = error({"ingress": [{"fromEndpoints": [{}], "fromEntities": ["world"]}]})
    assert found.startswith("spec.ingress[0].fromEntities: cannot be combined with fromEndpoints")


def test_07_members_of_a_list_are_alternatives_and_peers_and_ports_must_both_match() -> None:
    element = {
        "fromEndpoints": [labelled(app="api"), labelled(app="db")],
        "toPorts": [*ports({"port": "80"}), *ports({"port": "81"})],
    }
    node = cluster(policy({"ingress": [element]}))
    assert (who(node), who(node, flow=(6, 81)), who(node, flow=HTTPS)) == ({API, DB}, {API, DB}, set())


@pytest.mark.parametrize(("section", "field"), [("ingress", "fromRequires"), ("egress", "toRequires")])
def test_07_requires_must_be_empty(section: str, field: str) -> None:
    assert error({section: [{field: [{}]}]}).startswith(f"spec.{section}[0].{field}: is no longer supported")
    assert not error({section: [{field: []}]})


def test_08_different_protocols_above_l4_on_one_port_are_refused() -> None:
    rule = ports({"port": "80", "protocol": "TCP"}, rules={"http": [], "dns": []})
    assert error({"egress": [{"toPorts": rule}]}).startswith("spec.egress[0].toPorts[0].rules: names two")


def test_08_what_is_filtered_above_l4_stays_closed_until_it_can_be_and_a_plain_rule_opens_it() -> None:
    l7 = {"fromEndpoints": [{}], "toPorts": ports({"port": "80", "protocol": "TCP"}, rules={"http": [{"path": "/a"}]})}
    plain = {"fromEndpoints": [{}], "toPorts": ports({"port": "80", "protocol": "TCP"})}
    assert who(cluster(policy({"ingress": [l7]}))) == set()
    assert who(cluster(policy({"ingress": [l7, plain]}))) == {WEB, API, DB}


@pytest.mark.parametrize(
    ("section", "entry", "kind", "path"),
    [
        ("ingress", {"port": "80"}, "http", "ports[0].protocol"),
        ("ingress", {"port": "80", "protocol": "ANY"}, "http", "ports[0].protocol"),
        ("ingress", {"port": "0", "protocol": "TCP"}, "http", "ports[0].port"),
        ("ingress", {"port": "53", "protocol": "UDP"}, "dns", "rules.dns"),
        ("egress", {"port": "53", "protocol": "SCTP"}, "dns", "ports[0].protocol"),
        ("egress", {"port": "0", "protocol": "UDP"}, "dns", "ports[0].port"),
        ("egress", {"port": "53", "endPort": 54, "protocol": "UDP"}, "dns", "ports[0].endPort"),
    ],
)
def test_09_what_rules_above_l4_demand_of_their_port(section: str, entry: dict[str, Any], kind: str, path: str) -> None:
    found = error({section: [{"toPorts": ports(entry, rules={kind: []})}]})
    assert found.startswith(f"spec.{section}[0].toPorts[0].{path}: ")


def test_09_rules_above_l4_need_ports_and_are_http_or_dns() -> None:
    assert error({"egress": [{"toPorts": [{"rules": {"dns": []}}]}]}).startswith(
        "spec.egress[0].toPorts[0].ports: must"
    )
    kafka = ports({"port": "9092", "protocol": "TCP"}, rules={"kafka": []})
    assert error({"ingress": [{"toPorts": kafka}]}).startswith("spec.ingress[0].toPorts[0].rules.kafka: is not one of")
    assert not error({"egress": [{"toPorts": ports({"port": "53"}, rules={"dns": [{"matchPattern": "*"}]})}]})


@pytest.mark.parametrize("section", ["ingress", "egress"])
def test_09_host_policies_have_no_http(section: str) -> None:
    rule = ports({"port": "80", "protocol": "TCP"}, rules={"http": []})
    found = error({"nodeSelector": {}, section: [{"toPorts": rule}]}, CCNP)
    assert found.startswith(f"spec.{section}[0].toPorts[0].rules.http: is not possible for nodes")


def test_10_without_default_deny_rules_above_l4_do_not_begin_to_filter() -> None:
    l7 = {"fromEndpoints": [{}], "toPorts": ports({"port": "80", "protocol": "TCP"}, rules={"http": [{"path": "/a"}]})}
    assert who(cluster(policy({"ingress": [l7], "enableDefaultDeny": {"ingress": False}}))) == EVERYBODY


# -- 11 to 15: peers of other kinds -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "path"),
    [
        ({}, "toFQDNs[0]"),
        ({"matchName": "a.b", "matchPattern": "*.b"}, "toFQDNs[0]"),
        ({"matchName": "*.b"}, "toFQDNs[0].matchName"),
        ({"matchName": ""}, "toFQDNs[0].matchName"),
        ({"matchPattern": "a b"}, "toFQDNs[0].matchPattern"),
        ({"matchPattern": "a" * 256}, "toFQDNs[0].matchPattern"),
        ({"matchname": "a.b"}, "toFQDNs[0]"),
    ],
)
def test_11_a_name_is_a_name_or_a_pattern(selector: dict[str, Any], path: str) -> None:
    assert error({"egress": [{"toFQDNs": [selector]}]}).startswith(f"spec.egress[0].{path}: ")


def test_11_names_stand_alone_and_until_they_are_resolved_nothing_is_open() -> None:
    names = [{"matchName": "Web.World.test"}, {"matchPattern": "**.world.test"}, {"matchPattern": "*"}]
    assert error({"egress": [{"toFQDNs": names, "toEndpoints": [{}]}]}).startswith("spec.egress[0].toFQDNs: cannot be")
    assert who(cluster(policy({"egress": [{"toFQDNs": names}]})), to=True) == set()


def test_12_cidrs_are_about_the_world_only() -> None:
    anywhere = {"egress": [{"toCIDR": ["0.0.0.0/0", "::/0"]}]}
    assert who(cluster(policy(anywhere)), to=True) == set(ADDRESSES)


def test_12_an_exception_is_of_its_own_cidr() -> None:
    first = {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}
    assert TEN not in who(cluster(policy({"egress": [{"toCIDRSet": [first]}]})), to=True)
    both = {"egress": [{"toCIDRSet": [first, {"cidr": "10.1.2.0/24"}]}]}
    assert TEN in who(cluster(policy(both)), to=True)
    outside = {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}
    assert error({"egress": [{"toCIDRSet": [outside]}]}).startswith("spec.egress[0].toCIDRSet[0].except[0]: ")


@pytest.mark.parametrize("entry", [{}, {"cidr": "10.0.0.0/8", "cidrGroupRef": "g"}, {"except": []}])
def test_12_one_of_cidr_and_groups(entry: dict[str, Any]) -> None:
    assert error({"egress": [{"toCIDRSet": [entry]}]}).startswith("spec.egress[0].toCIDRSet[0]: needs exactly one of")


INSIDE = {HOST, REMOTE, INIT, INGRESS, HEALTH, UNMANAGED, KUBE}
HERE = {peer for peer in PODS if peer is not ELSEWHERE}


@pytest.mark.parametrize(
    ("entity", "expected"),
    [
        ("all", EVERYBODY),
        ("world", set(ADDRESSES)),
        ("world-ipv4", {peer for peer in ADDRESSES if peer.address and peer.address.version == 4}),
        ("world-ipv6", {peer for peer in ADDRESSES if peer.address and peer.address.version == 6}),
        ("cluster", INSIDE | HERE),
        ("cluster-mesh", INSIDE | set(PODS)),
        ("host", {HOST}),
        ("remote-node", {REMOTE}),
        ("kube-apiserver", {KUBE}),
        ("health", {HEALTH}),
        ("init", {INIT}),
        ("ingress", {INGRESS}),
        ("unmanaged", {UNMANAGED}),
        ("none", set()),
    ],
)
def test_13_entities(entity: str, expected: set[Peer]) -> None:
    assert who(cluster(policy({"ingress": [{"fromEntities": [entity]}]}))) == expected


def test_15_groups_open_nothing() -> None:
    node = cluster(policy({"egress": [{"toGroups": [{"aws": {"labels": {"a": "b"}}}]}]}))
    assert who(node, to=True) == set()


# -- 16, 17: ports and types ---------------------------------------------------------------------------------------


def test_16_a_named_port_is_that_of_each_peer_whatever_its_case() -> None:
    node = cluster(policy({"egress": [{"toEndpoints": [{}], "toPorts": ports({"port": "HTTP", "protocol": "TCP"})}]}))
    assert passes(node, API, (6, 9090), to=True)
    assert not passes(node, API, (6, 8080), to=True)
    assert passes(node, WEB, (6, 8080), subject=API, to=True)
    assert not passes(node, DB, (6, 8080), to=True)


def test_16_a_number_may_be_octal_and_a_range_ends_where_it_says() -> None:
    assert who(cluster(policy({"ingress": [{"toPorts": ports({"port": "0120"})}]}))) == EVERYBODY
    node = cluster(policy({"ingress": [{"toPorts": ports({"port": "1000", "endPort": 2047, "protocol": "TCP"})}]}))
    found = [port for port in (999, 1000, 1023, 1024, 2047, 2048) if passes(node, API, (6, port))]
    assert found == [1000, 1023, 1024, 2047]


def test_16_at_most_forty_ports_and_types() -> None:
    assert error({"ingress": [{"toPorts": ports(*[{"port": "1"}] * 41)}]}).endswith("at most 40 are allowed")
    assert error({"ingress": [{"icmps": [{"fields": [{"type": 8}] * 41}]}]}).endswith("at most 40 are allowed")
    assert not error({"ingress": [{"toPorts": ports(*[{"port": "1"}] * 40)}]})


def test_17_icmp_is_a_rule_of_its_own_by_number_or_name_per_family() -> None:
    together = {"icmps": [{"fields": [{"type": 8}]}], "toPorts": ports({"port": "80"})}
    assert error({"ingress": [together]}).startswith("spec.ingress[0].icmps: cannot be combined with toPorts")
    fields = [{"type": "EchoRequest", "family": "IPv4"}, {"type": 128, "family": "IPv6"}]
    node = cluster(policy({"ingress": [{"icmps": [{"fields": fields}]}]}))
    assert passes(node, API, (1, 8))
    assert passes(node, API, (58, 128))
    assert not any(passes(node, API, flow) for flow in ((1, 0), (58, 129), (1, 128), HTTP))


@pytest.mark.parametrize("protocol", ["VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"])
def test_17_protocols_without_ports_are_behind_a_flag(protocol: str) -> None:
    assert "enable-extended-ip-protocols" in error(
        {"ingress": [{"toPorts": ports({"port": "0", "protocol": protocol})}]}
    )


# -- 18 to 20: what is held for later ------------------------------------------------------------------------------


def test_18_server_names() -> None:
    https = {"port": "443", "protocol": "TCP"}
    assert error({"egress": [{"toPorts": ports(https, serverNames=[""])}]}).startswith(
        "spec.egress[0].toPorts[0].serverNames[0]: '' is not"
    )
    both = ports(https, serverNames=["a.b"], rules={"http": []})
    assert error({"egress": [{"toPorts": both}]}).startswith(
        "spec.egress[0].toPorts[0].serverNames: needs terminatingTLS"
    )
    assert not error({"egress": [{"toPorts": ports(https, serverNames=["*.b", "**.c"])}]})


@pytest.mark.parametrize(
    ("section", "more", "priority", "path"),
    [
        ("ingress", {}, 1, "listener"),
        ("egress", {"rules": {"http": []}}, 1, "listener"),
        ("egress", {}, 0, "listener.priority"),
        ("egress", {}, 101, "listener.priority"),
    ],
)
def test_19_listeners(section: str, more: dict[str, Any], priority: int, path: str) -> None:
    listener = {"envoyConfig": {"name": "e"}, "name": "l", "priority": priority}
    rule = ports({"port": "80", "protocol": "TCP"}, listener=listener, **more)
    assert error({section: [{"toPorts": rule}]}).startswith(f"spec.{section}[0].toPorts[0].{path}: ")


def test_20_modes_of_authentication() -> None:
    def rule(mode: str) -> dict[str, Any]:
        return {"ingress": [{"fromEndpoints": [{}], "authentication": {"mode": mode}}]}

    assert who(cluster(policy(rule("disabled")))) == {WEB, API, DB}
    assert who(cluster(policy(rule("required")))) == set()
    assert who(cluster(policy(rule("test-always-fail")))) == set()
    assert error(rule("maybe")).startswith("spec.ingress[0].authentication.mode: 'maybe' is not one of")


# -- 22: Kubernetes' own -------------------------------------------------------------------------------------------


def knp(*peers: dict[str, Any]) -> Node:
    return cluster(policy({"podSelector": {}, "ingress": [{"from": list(peers)}]}, KNP))


def test_22_two_selectors_in_one_peer_must_both_match_and_two_peers_are_alternatives() -> None:
    pods, namespaces = {"podSelector": labelled(app="web")}, {"namespaceSelector": labelled(team="b")}
    assert who(knp({**pods, **namespaces})) == {BANK_WEB}
    assert who(knp(pods, namespaces)) == {WEB, BANK_WEB, BANK_DB}


def test_22_an_empty_namespace_selector_is_every_namespace_also_one_without_labels() -> None:
    assert who(knp({"namespaceSelector": {}})) == {WEB, API, DB, BANK_WEB, BANK_DB, LABS}


def test_22_blocks_do_not_select_pods_by_their_address() -> None:
    assert who(knp({"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}})) == set(ADDRESSES)


def test_22_policy_types_default_to_ingress_and_to_both_with_egress_rules() -> None:
    node = cluster(policy({"podSelector": {}}, KNP))
    assert (who(node), who(node, to=True)) == (set(), EVERYBODY)
    node = cluster(policy({"podSelector": {}, "egress": [{}]}, KNP))
    assert (who(node), who(node, to=True)) == (set(), EVERYBODY)
    node = cluster(policy({"podSelector": {}, "egress": [{"to": [{"podSelector": {}}]}]}, KNP))
    assert (who(node), who(node, to=True)) == (set(), {WEB, API, DB})


def test_22_a_named_pod_of_another_port_is_another_peer() -> None:
    """A named port of a NetworkPolicy is resolved per peer too."""
    rule = {"podSelector": {}, "egress": [{"ports": [{"port": "http"}]}], "policyTypes": ["Egress"]}
    node = cluster(policy(rule, KNP))
    assert passes(node, API, (6, 9090), to=True)
    assert not passes(node, API, (6, 8080), to=True)
    assert not passes(node, pod(1042, "labs", "x"), (6, 8080), to=True)
