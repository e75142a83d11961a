"""CIDRs as labels and identities."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from cilium.features.policy.cidrs import CIDRIdentities, cidr_label, cidr_selector
from cilium.state import Derivation, Table
from cilium.tables.rules import CIDRPeer, DirectionRule, Peers, PolicyObject, Requirement, Rule, Selector


@pytest.mark.parametrize(
    ("prefix", "label"),
    [
        ("10.0.0.0/8", "cidr:10.0.0.0/8"),
        ("2001:db8::/32", "cidr:2001-db8--0/32"),
        ("::1/128", "cidr:0--1/128"),
        ("fd00::1/128", "cidr:fd00--1/128"),
    ],
)
def test_labels_have_no_colons_but_one(prefix: str, label: str) -> None:
    assert cidr_label(ip_network(prefix)) == label


def test_a_cidr_is_a_label_present_and_its_exceptions_are_labels_absent() -> None:
    peer = CIDRPeer(ip_network("0.0.0.0/0"), (ip_network("10.0.0.0/8"),))
    hole = Requirement("cidr:10.0.0.0/8", "DoesNotExist")
    assert cidr_selector(peer, dual_stack=True) == Selector((Requirement("reserved:world-ipv4", "Exists"), hole))
    assert cidr_selector(peer, dual_stack=False) == Selector((Requirement("reserved:world", "Exists"), hole))


def policy(name: str, *prefixes: str) -> PolicyObject:
    peers = Peers(cidrs=tuple(CIDRPeer(ip_network(prefix)) for prefix in prefixes))
    rule = Rule(subject=Selector(), ingress=(DirectionRule(peers=peers),))
    return PolicyObject("CiliumNetworkPolicy", "ns", name, "", 1, (rule,))


def test_identities_follow_the_prefixes_in_use() -> None:
    policies: Table[str, Any] = Table("policies", key=lambda row: row.key)
    rows: Table[Any, Any] = Table("cidr-identities", key=lambda row: row.prefix)
    write = policies.writer("test")
    derivation = Derivation(
        "cidr-identities",
        inputs={"policies": policies},
        outputs={"cidr-identities": rows.writer("policy")},
        compute=CIDRIdentities(dual_stack=True).compute,
    )

    def labels() -> dict[str, tuple[str, ...]]:
        derivation.step()
        return {str(row.prefix): row.labels for row in rows.snapshot()}

    write.upsert(policy("inner", "10.1.0.0/16", "2001:db8::/32", "0.0.0.0/0"))
    alone = {
        "10.1.0.0/16": ("cidr:10.1.0.0/16", "reserved:world-ipv4"),
        "2001:db8::/32": ("cidr:2001-db8--0/32", "reserved:world-ipv6"),
    }
    assert labels() == alone
    number = rows.snapshot()[ip_network("10.1.0.0/16")].identity
    write.upsert(policy("outer", "10.0.0.0/8", "10.1.0.0/16"))
    assert labels()["10.1.0.0/16"] == ("cidr:10.0.0.0/8", "cidr:10.1.0.0/16", "reserved:world-ipv4")
    assert rows.snapshot()[ip_network("10.1.0.0/16")].identity == number
    write.delete(policy("outer").key)
    assert labels() == alone
    write.delete(policy("inner").key)
    assert labels() == {}
