"""Kubernetes NetworkPolicy: where it differs from Cilium's own kinds."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from cilium.sources.kubernetes.policies import decode_knp
from cilium.tables.rules import CIDRPeer, Peers, PolicyObject, PortRange, Requirement, Rule, Selector

NAMESPACE = Requirement("k8s:io.kubernetes.pod.namespace", "In", ("shop",))
ANY_NAMESPACE = Requirement("k8s:io.kubernetes.pod.namespace", "Exists")
CLUSTER = Requirement("k8s:io.cilium.k8s.policy.cluster", "In", ("default",))
TEAM = Requirement("k8s:io.cilium.k8s.namespace.labels.team", "In", ("x",))


def knp(**spec: Any) -> PolicyObject:
    return decode_knp(msgspec.json.encode({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec}))


def only(policy: PolicyObject) -> Rule:
    assert not policy.error
    (rule,) = policy.rules
    return rule


@pytest.mark.parametrize(
    ("spec", "ingress", "egress"),
    [
        ({}, True, False),
        ({"egress": [{}]}, True, True),
        ({"egress": [{}], "policyTypes": ["Egress"]}, False, True),
        ({"ingress": [{}], "policyTypes": ["Egress"]}, False, True),
    ],
)
def test_policy_types(spec: dict[str, Any], ingress: bool, egress: bool) -> None:
    rule = only(knp(**spec))
    assert (rule.default_deny_ingress, rule.default_deny_egress) == (ingress, egress)
    assert not rule.ingress or ingress


def test_an_empty_element_allows_everything_and_an_empty_list_nothing() -> None:
    assert only(knp(ingress=[{}])).ingress[0].peers == Peers(wildcard=True)
    assert only(knp(ingress=[{}])).ingress[0].ports is None
    assert only(knp(ingress=[], policyTypes=["Ingress"])).ingress == ()


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (
            {"podSelector": {"matchLabels": {"app": "a"}}},
            Peers(selectors=(Selector((Requirement("k8s:app", "In", ("a",)), NAMESPACE, CLUSTER)),)),
        ),
        ({"namespaceSelector": {}}, Peers(selectors=(Selector((ANY_NAMESPACE, CLUSTER)),))),
        (
            {"podSelector": {}, "namespaceSelector": {"matchLabels": {"team": "x"}}},
            Peers(selectors=(Selector((TEAM, ANY_NAMESPACE, CLUSTER)),)),
        ),
        (
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
            Peers(cidrs=(CIDRPeer(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)),)),
        ),
    ],
)
def test_peers(peer: dict[str, Any], expected: Peers) -> None:
    assert only(knp(ingress=[{"from": [peer]}])).ingress[0].peers == expected


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"port": 80}, PortRange(6, 80, 80)),
        ({"protocol": "UDP"}, PortRange(17)),
        ({"port": "dns", "protocol": "UDP"}, PortRange(17, name="dns")),
        ({"port": 80, "endPort": 81, "protocol": "SCTP"}, PortRange(132, 80, 81)),
    ],
)
def test_ports(port: dict[str, Any], expected: PortRange) -> None:
    assert only(knp(egress=[{"ports": [port]}])).egress[0].ports == (expected,)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"policyTypes": ["Both"]}, "spec.policyTypes[0]: 'Both' is not Ingress or Egress"),
        ({"ingress": [{"from": [{}]}]}, "spec.ingress[0].from[0]: needs either ipBlock"),
        (
            {"ingress": [{"from": [{"podSelector": {}, "ipBlock": {"cidr": "::/0"}}]}]},
            "spec.ingress[0].from[0]: needs either ipBlock",
        ),
        ({"egress": [{"ports": [{"port": 0}]}]}, "spec.egress[0].ports[0].port: 0 is not between 1 and 65535"),
        ({"egress": [{"ports": [{"endPort": 5}]}]}, "spec.egress[0].ports[0].endPort: needs port"),
        ({"egress": [{"ports": [{"protocol": "ICMP"}]}]}, "spec.egress[0].ports[0].protocol: 'ICMP' is not one of"),
    ],
)
def test_bad_content_is_an_error_with_a_path(spec: dict[str, Any], error: str) -> None:
    policy = knp(**spec)
    assert policy.error.startswith(error)
    assert policy.rules == ()
