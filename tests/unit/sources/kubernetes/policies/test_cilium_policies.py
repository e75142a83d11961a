"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: what the fields mean, and what is refused where."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from cilium.sources.kubernetes.policies import decode_ccnp, decode_cnp, merge_generation
from cilium.tables.rules import Action, CIDRPeer, Peers, PolicyObject, PortRange, Requirement, Rule, Selector

NAMESPACE = Requirement("k8s:io.kubernetes.pod.namespace", "In", ("shop",))
ANY_NAMESPACE = Requirement("k8s:io.kubernetes.pod.namespace", "Exists")
CLUSTER = Requirement("k8s:io.cilium.k8s.policy.cluster", "In", ("default",))


def cnp(spec: Any, **metadata: Any) -> PolicyObject:
    metadata = {"name": "p", "namespace": "shop", "uid": "u", "generation": 3} | metadata
    return decode_cnp(msgspec.json.encode({"kind": "ignored", "metadata": metadata, "spec": spec}))


def ccnp(spec: Any) -> PolicyObject:
    return decode_ccnp(msgspec.json.encode({"metadata": {"name": "p"}, "spec": spec}))


def only(policy: PolicyObject) -> Rule:
    assert not policy.error
    (rule,) = policy.rules
    return rule


def web(**sections: Any) -> dict[str, Any]:
    return {"endpointSelector": {"matchLabels": {"app": "web"}}, **sections}


def peers(element: dict[str, Any], section: str = "ingress", decode: Any = cnp) -> Peers:
    rule = only(decode(web(**{section: [element]})))
    return (rule.ingress or rule.egress)[0].peers


def test_the_object_is_named_and_its_subject_lives_in_its_namespace() -> None:
    policy = cnp(web(ingress=[{}], labels=[{"key": "team", "value": "x", "source": "k8s"}], description="d"))
    assert (policy.key, policy.uid, policy.generation) == ("CiliumNetworkPolicy/shop/p", "u", 3)
    rule = only(policy)
    assert rule.subject == Selector((Requirement("any:app", "In", ("web",)), NAMESPACE))
    assert (rule.labels, rule.description) == (("k8s:team=x",), "d")


def test_a_foreign_namespace_in_the_subject_is_ignored_with_a_warning() -> None:
    spec = {"endpointSelector": {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "other"}}, "ingress": [{}]}
    policy = cnp(spec)
    assert only(policy).subject == Selector((NAMESPACE,))
    assert policy.warnings == ("spec.endpointSelector: selects in namespace shop only; other namespaces are ignored",)


def test_clusterwide_subjects_are_every_endpoint() -> None:
    assert only(ccnp({"endpointSelector": {}, "ingress": [{}]})).subject == Selector()


@pytest.mark.parametrize(
    ("sections", "ingress", "egress"),
    [
        ({"ingress": [{}]}, True, False),
        ({"egressDeny": [{}]}, False, True),
        ({"ingress": [], "egress": [{}]}, False, True),
        ({"ingress": [{}], "egress": [{}], "enableDefaultDeny": {"ingress": False}}, False, True),
        ({"ingress": [{}], "enableDefaultDeny": {"egress": True}}, True, False),
    ],
)
def test_default_deny_is_per_direction(sections: dict[str, Any], ingress: bool, egress: bool) -> None:
    rule = only(cnp(web(**sections)))
    assert (rule.default_deny_ingress, rule.default_deny_egress) == (ingress, egress)


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ({}, Peers()),
        ({"toPorts": []}, Peers()),
        ({"fromEndpoints": [], "toPorts": [{"ports": [{"port": "80"}]}]}, Peers()),
        ({"fromCIDR": []}, Peers()),
        ({"toPorts": [{"ports": [{"port": "80"}]}]}, Peers(wildcard=True)),
        ({"icmps": [{"fields": [{"type": 8}]}]}, Peers(wildcard=True)),
        ({"fromEndpoints": [{}]}, Peers(selectors=(Selector((NAMESPACE, CLUSTER)),))),
        (
            {"fromEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "other"}}]},
            Peers(selectors=(Selector((Requirement("k8s:io.kubernetes.pod.namespace", "In", ("other",)), CLUSTER)),)),
        ),
        (
            {"fromEndpoints": [{"matchLabels": {"reserved:host": ""}}]},
            Peers(selectors=(Selector((Requirement("reserved:host", "In", ("",)),)),)),
        ),
        ({"fromEntities": ["all"]}, Peers(wildcard=True)),
        ({"fromEntities": ["none"]}, Peers()),
        ({"fromEntities": ["world-ipv6"]}, Peers(cidrs=(CIDRPeer(ip_network("::/0"), world_only=True),))),
        (
            {"fromCIDRSet": [{"cidr": "10.1.0.0/8", "except": ["10.9.0.0/16"]}]},
            Peers(cidrs=(CIDRPeer(ip_network("10.0.0.0/8"), (ip_network("10.9.0.0/16"),)),)),
        ),
        ({"fromCIDR": ["2001:db8::1"]}, Peers(cidrs=(CIDRPeer(ip_network("2001:db8::1/128")),))),
    ],
)
def test_peers(element: dict[str, Any], expected: Peers) -> None:
    assert peers(element) == expected


def test_clusterwide_peers_are_managed_pods() -> None:
    assert peers({"fromEndpoints": [{}]}, decode=ccnp) == Peers(selectors=(Selector((ANY_NAMESPACE, CLUSTER)),))


def test_entity_cluster_is_its_reserved_identities_and_the_pods_of_this_cluster() -> None:
    selectors = peers({"toEntities": ["cluster"]}, "egress").selectors
    assert Selector((CLUSTER,)) in selectors
    assert Selector((Requirement("reserved:kube-apiserver", "Exists"),)) in selectors
    assert not any(term.key.startswith("reserved:world") for selector in selectors for term in selector.requirements)


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ({"ports": [{"port": "80"}]}, PortRange(0, 80, 80)),
        ({"ports": [{"port": "0", "protocol": "udp"}]}, PortRange(17)),
        ({"ports": [{"port": "80", "endPort": 90, "protocol": "TCP"}]}, PortRange(6, 80, 90)),
        ({"ports": [{"port": "HTTP", "protocol": "TCP"}]}, PortRange(6, name="http")),
        ({"ports": [{"port": "010", "protocol": "SCTP"}]}, PortRange(132, 8, 8)),
        ({"ports": [{"protocol": "ICMPv6"}]}, PortRange(58)),
    ],
)
def test_ports(element: dict[str, Any], expected: PortRange) -> None:
    rule = only(cnp(web(ingress=[{"toPorts": [element]}])))
    assert rule.ingress[0].ports == (expected,)


def test_icmp_types_by_number_and_name() -> None:
    fields = [{"type": "EchoReply"}, {"type": 8}, {"family": "IPv6", "type": "EchoRequest"}]
    rule = only(cnp(web(egress=[{"icmps": [{"fields": fields}]}])))
    assert rule.egress[0].ports == (PortRange(1, 0, 0), PortRange(1, 8, 8), PortRange(58, 128, 128))
    strange = [
        {"type": "42"},
        {"type": "ExtendedEcho Reply"},
        {"family": "IPv6", "type": "DuplicateAddressRequestCodeSuffix"},
    ]
    rule = only(cnp(web(egress=[{"icmps": [{"fields": strange}]}])))
    assert rule.egress[0].ports == (PortRange(1, 42, 42), PortRange(1, 43, 43), PortRange(58, 157, 157))


@pytest.mark.parametrize(
    ("section", "element", "part"),
    [
        ("egress", {"toFQDNs": [{"matchName": "a.b"}]}, "toFQDNs"),
        ("ingress", {"fromGroups": [{"aws": {"region": "x"}}]}, "fromGroups"),
        ("ingress", {"fromEndpoints": [{}], "authentication": {"mode": "required"}}, "authentication"),
        (
            "ingress",
            {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{}]}}]},
            "toPorts[0].rules",
        ),
    ],
)
def test_what_is_not_enforced_yet_opens_nothing_and_says_so(section: str, element: Any, part: str) -> None:
    rule = only(cnp(web(**{section: [element]})))
    (direction,) = rule.ingress or rule.egress
    assert direction.unenforced == (f"spec.{section}[0].{part}",)
    assert direction.peers == Peers() or direction.ports == ()
    assert rule.default_deny_ingress or rule.default_deny_egress


def test_a_deny_rule_whose_peers_are_not_known_denies_everybody() -> None:
    policy = cnp(web(egressDeny=[{"toGroups": [{"aws": {"securityGroupsNames": ["a"]}}]}]))
    rule = only(policy)
    assert rule.egress[0].peers == Peers(wildcard=True)
    assert rule.egress[0].action is Action.DENY
    assert policy.warnings[0].startswith("spec.egressDeny[0].toGroups: groups of a cloud provider")


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (None, "spec: is missing"),
        ({"endpointSelector": {}}, "spec: has no rules"),
        ({"ingress": [{}]}, "spec.endpointSelector: is missing"),
        (web(ingress=[{}], nodeSelector={}), "spec.nodeSelector: cannot be combined with endpointSelector"),
        ({"nodeSelector": {}, "ingress": [{}]}, "spec.nodeSelector: is for CiliumClusterwideNetworkPolicy only"),
        (web(ingress=[{"formEndpoints": []}]), "spec.ingress[0]: Object contains unknown field 'formEndpoints'"),
        (web(ingress=[{"fromEndpoints": [{}], "fromCIDR": []}]), "spec.ingress[0].fromCIDR: cannot be combined with"),
        (web(ingress=[{"fromRequires": [{}]}]), "spec.ingress[0].fromRequires: is no longer supported"),
        (web(ingress=[{"fromEntities": ["wrld"]}]), "spec.ingress[0].fromEntities[0]: 'wrld' is not one of"),
        (web(ingress=[{"fromCIDR": ["10.0.0/8"]}]), "spec.ingress[0].fromCIDR[0]: '10.0.0/8' is not a CIDR"),
        (
            web(ingress=[{"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}]}]),
            "spec.ingress[0].fromCIDRSet[0].except[0]: 11.0.0.0/16 does not lie inside 10.0.0.0/8",
        ),
        (
            web(ingress=[{}, {"toPorts": [{"ports": [{"port": "1"}, {"port": "99999"}]}]}]),
            "spec.ingress[1].toPorts[0].ports[1].port: 99999 is not between",
        ),
        (
            web(ingress=[{"toPorts": [{"ports": [{"port": "80", "endPort": 70}]}]}]),
            "spec.ingress[0].toPorts[0].ports[0].endPort: 70 is below port 80",
        ),
        (
            web(ingress=[{"toPorts": [{"ports": [{"port": "web", "endPort": 70}]}]}]),
            "spec.ingress[0].toPorts[0].ports[0].endPort: cannot follow a named port",
        ),
        (
            web(ingress=[{"toPorts": [{"ports": [{"port": "80", "protocol": "TPC"}]}]}]),
            "spec.ingress[0].toPorts[0].ports[0].protocol: 'TPC' is not one of",
        ),
        (
            web(ingress=[{"toPorts": [{"ports": [{"port": "1"}] * 41}]}]),
            "spec.ingress[0].toPorts[0].ports: has 41 entries, at most 40",
        ),
        (
            web(ingress=[{"toPorts": [{}], "icmps": [{"fields": [{"type": 8}]}]}]),
            "spec.ingress[0].icmps: cannot be combined with toPorts",
        ),
        (
            web(egress=[{"icmps": [{"fields": [{"type": "Ping"}]}]}]),
            "spec.egress[0].icmps[0].fields[0].type: 'Ping' is not an ICMP type",
        ),
        (
            web(ingress=[{"fromEndpoints": [{"matchExpressions": [{"key": "a", "operator": "Has"}]}]}]),
            "spec.ingress[0].fromEndpoints[0].matchExpressions[0].operator: 'Has' is not one of",
        ),
        (
            web(ingress=[{"fromEndpoints": [{"matchLabels": {"a b": "c"}}]}]),
            "spec.ingress[0].fromEndpoints[0].matchLabels[a b]: 'a b' is not a label key",
        ),
        (web(ingressDeny=[{"toFQDNs": []}]), "spec.ingressDeny[0]: Object contains unknown field 'toFQDNs'"),
        (
            web(ingress=[{"toPorts": [{"ports": [{"port": "80"}], "rules": {"http": []}}]}]),
            "spec.ingress[0].toPorts[0].ports[0].protocol: must be TCP for http rules",
        ),
        (
            web(ingress=[{"toPorts": [{"ports": [{"port": 80}]}]}]),
            "spec.ingress[0].toPorts[0].ports[0].port: Expected 'str | null', got 'int'",
        ),
    ],
)
def test_bad_content_is_an_error_with_a_path_and_no_rules(spec: Any, error: str) -> None:
    policy = cnp(spec)
    assert policy.error.startswith(error)
    assert policy.rules == ()
    assert policy.name == "p"


def test_what_is_no_object_is_an_error_too() -> None:
    assert "truncated" in decode_cnp(b'{"metadata":').error


def test_an_invalid_update_keeps_the_rules_of_the_object_it_updates() -> None:
    good, bad = cnp(web(ingress=[{}])), cnp(web(ingress=[{"fromEntities": ["x"]}]), generation=4)
    merged = merge_generation(good, bad)
    assert (merged.rules, merged.error, merged.generation) == (good.rules, bad.error, 4)
    assert merge_generation(None, bad).rules == ()
    assert merge_generation(good, msgspec.structs.replace(bad, uid="another")).rules == ()
    assert merge_generation(merged, good) == good


def test_specs_are_several_rules() -> None:
    raw = {"metadata": {"name": "p", "namespace": "shop"}, "specs": [web(ingress=[{}]), web(egress=[{}])]}
    policy = decode_cnp(msgspec.json.encode(raw))
    assert [bool(rule.ingress) for rule in policy.rules] == [True, False]
    raw["specs"].append({"endpointSelector": {}})  # type: ignore[attr-defined]  # a list of dicts
    assert decode_cnp(msgspec.json.encode(raw)).error.startswith("specs[2]: has no rules")
