"""Peers that other objects or settings decide about: services, CIDR groups, nodes; protocols; what is logged."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from cilium.settings import PolicySettings
from cilium.sources.kubernetes.policies import decode_ccnp, decode_cnp
from cilium.tables.rules import (
    CIDRGroupPeer,
    DirectionRule,
    Peers,
    PolicyObject,
    PortRange,
    Requirement,
    Selector,
    ServicePeer,
)

HOST, REMOTE = (Requirement(f"reserved:{name}", "Exists") for name in ("host", "remote-node"))
APP = Selector((Requirement("any:app", "In", ("x",)),))


def cnp(section: str, element: dict[str, Any], **settings: Any) -> PolicyObject:
    spec = {"endpointSelector": {}, section: [element]}
    raw = msgspec.json.encode({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec})
    return decode_cnp(raw, settings=PolicySettings(**settings))


def only(policy: PolicyObject) -> DirectionRule:
    assert not policy.error
    (rule,) = policy.rules
    (direction,) = rule.ingress or rule.egress
    return direction


def test_services_by_name_and_by_label() -> None:
    by_name = {"k8sService": {"serviceName": "db", "namespace": "data"}}
    by_label = {"k8sServiceSelector": {"selector": {"matchLabels": {"app": "x"}}}}
    element = {"toServices": [by_name, by_label], "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}
    direction = only(cnp("egressDeny", element))
    assert direction.peers.services == (
        ServicePeer("data", "db", path="spec.egressDeny[0].toServices[0]"),
        ServicePeer("", "", APP, path="spec.egressDeny[0].toServices[1]"),
    )
    assert direction.ports == (PortRange(6, 80, 80),)
    assert (direction.peers.wildcard, direction.unenforced) == (False, ())


def test_cidr_groups_by_name_and_by_label() -> None:
    by_label = {"cidrGroupSelector": {"matchLabels": {"app": "x"}}, "except": ["10.1.0.0/16", "2001:db8::/48"]}
    direction = only(cnp("ingress", {"fromCIDRSet": [{"cidrGroupRef": "g"}, {"cidr": "10.0.0.0/8"}, by_label]}))
    holes = (ip_network("10.1.0.0/16"), ip_network("2001:db8::/48"))
    assert direction.peers.cidr_groups == (
        CIDRGroupPeer("g", path="spec.ingress[0].fromCIDRSet[0]"),
        CIDRGroupPeer("", APP, holes, path="spec.ingress[0].fromCIDRSet[2]"),
    )
    assert len(direction.peers.cidrs) == 1


def test_nodes_by_label_this_one_among_them() -> None:
    element = {"toNodes": [{"matchLabels": {"node-role.kubernetes.io/db": ""}}]}
    role = Requirement("node:node-role.kubernetes.io/db", "In", ("",))
    policy = cnp("egress", element, node_selectors=True)
    assert only(policy).peers == Peers(selectors=(Selector((role, HOST)), Selector((role, REMOTE))))
    assert policy.warnings == ()


@pytest.mark.parametrize(
    ("section", "selectors"), [("ingress", ()), ("ingressDeny", (Selector((HOST,)), Selector((REMOTE,))))]
)
def test_without_the_setting_no_node_is_let_in_and_every_node_denied(section: str, selectors: Any) -> None:
    policy = cnp(section, {"fromNodes": [{"matchLabels": {"a": "b"}}]})
    assert only(policy).peers == Peers(selectors=selectors)
    (warning,) = policy.warnings
    assert warning.startswith(f"spec.{section}[0].fromNodes: needs the setting enable-node-selector-labels")


@pytest.mark.parametrize(
    ("name", "number"),
    [("VRRP", 112), ("IGMP", 2), ("GRE", 47), ("IPIP", 4), ("IPV6", 41), ("ESP", 50), ("AH", 51)],
)
def test_extended_protocols_behind_their_setting(name: str, number: int) -> None:
    element = {"toPorts": [{"ports": [{"port": "0", "protocol": name}, {"protocol": name}]}]}
    assert only(cnp("ingress", element, extended_protocols=True)).ports == (PortRange(number), PortRange(number))
    where = "spec.ingress[0].toPorts[0].ports[0]"
    assert cnp("ingress", element).error == (
        f"{where}.protocol: '{name}' needs the setting enable-extended-ip-protocols"
    )
    element["toPorts"][0]["ports"][0]["port"] = "5"
    assert cnp("ingress", element, extended_protocols=True).error.startswith(f"{where}.port: {name} has no ports")


def test_what_is_logged() -> None:
    spec = {"endpointSelector": {}, "ingress": [{}], "log": {"value": "team shop"}}

    def decoded() -> PolicyObject:
        return decode_ccnp(msgspec.json.encode({"metadata": {"name": "p"}, "spec": spec}))

    assert decoded().rules[0].log == "team shop"
    spec["log"] = {"value": "x" * 33}
    assert decoded().error == "spec.log.value: has 33 characters, at most 32 are allowed"
    spec["log"] = {"value": "a\nb"}
    assert decoded().error.startswith("spec.log.value: has characters that cannot be printed")


@pytest.mark.parametrize(
    ("section", "element", "error"),
    [
        ("egress", {"toServices": [{}]}, "toServices[0]: needs exactly one of k8sService and k8sServiceSelector"),
        ("egress", {"toServices": [{"k8sService": {}}]}, "toServices[0].k8sService.serviceName: is missing"),
        ("egress", {"toServices": [], "toEntities": []}, "toServices: cannot be combined with toEntities"),
        (
            "egress",
            {"toServices": [{"k8sServiceSelector": {"selector": {"matchLabels": {"a b": ""}}}}]},
            "toServices[0].k8sServiceSelector.selector.matchLabels[a b]: 'a b' is not a label key",
        ),
        ("ingress", {"fromCIDRSet": [{"cidrGroupRef": ""}]}, "fromCIDRSet[0].cidrGroupRef: is empty"),
        (
            "ingress",
            {"fromCIDRSet": [{"cidrGroupRef": "g", "cidr": "10.0.0.0/8"}]},
            "fromCIDRSet[0]: needs exactly one of cidr, cidrGroupRef and cidrGroupSelector",
        ),
        (
            "ingress",
            {"fromCIDRSet": [{"cidrGroupRef": "g", "except": ["10"]}]},
            "fromCIDRSet[0].except[0]: '10' is not a CIDR",
        ),
        ("ingress", {"fromNodes": [{"matchLabels": {"k8s:a": "b"}}]}, "fromNodes[0]: 'k8s:a' is no label of a node"),
    ],
)
def test_mistakes_have_paths(section: str, element: dict[str, Any], error: str) -> None:
    policy = cnp(section, element, node_selectors=True)
    assert policy.error.startswith(f"spec.{section}[0].{error}")
    assert policy.rules == ()
