"""CIDRs as labels and identities."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from cilium.features.policy.cidrs import CIDRIdentities, cidr_selectors
from cilium.state import Derivation, Table
from cilium.tables.kubernetes import KubeApiservers
from cilium.tables.prefixes import cidr_label
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
    world4, world = Requirement("reserved:world-ipv4", "Exists"), Requirement("reserved:world", "Exists")
    assert cidr_selectors(peer, dual_stack=True, nodes=False) == (Selector((world4, hole)),)
    assert cidr_selectors(peer, dual_stack=False, nodes=False) == (Selector((world, hole)),)


def test_a_whole_family_has_nodes_in_it_where_cidrs_match_nodes() -> None:
    whole = CIDRPeer(ip_network("::/0"))
    world, nodes = (Selector((Requirement(label, "Exists"),)) for label in ("reserved:world-ipv6", "cidr:0--0/0"))
    assert cidr_selectors(whole, dual_stack=True, nodes=True) == (world, nodes)
    entity = CIDRPeer(ip_network("::/0"), world_only=True)
    assert cidr_selectors(entity, dual_stack=True, nodes=True) == (world,), "an entity is about the world"


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


def test_an_api_server_is_a_prefix_with_one_more_label_as_long_as_it_is_one() -> None:
    policies: Table[str, Any] = Table("policies", key=lambda row: row.key)
    apiservers: Table[str, Any] = Table("kube-apiservers", key=lambda row: row.name)
    rows: Table[Any, Any] = Table("cidr-identities", key=lambda row: row.prefix)
    write, tell = policies.writer("test"), apiservers.writer("test")
    derivation = Derivation(
        "cidr-identities",
        inputs={"policies": policies, "kube-apiservers": apiservers},
        outputs={"cidr-identities": rows.writer("policy")},
        compute=CIDRIdentities(dual_stack=True).compute,
    )

    def labels() -> dict[str, tuple[str, ...]]:
        derivation.step()
        return {str(row.prefix): row.labels for row in rows.snapshot()}

    tell.upsert(KubeApiservers("kubernetes", (ip_address("192.0.2.1"),)))
    tell.upsert(KubeApiservers("kubernetes-ipv6", (ip_address("2001:db8::1"),)))
    alone = {
        "192.0.2.1/32": ("cidr:192.0.2.1/32", "reserved:kube-apiserver", "reserved:world-ipv4"),
        "2001:db8::1/128": ("cidr:2001-db8--1/128", "reserved:kube-apiserver", "reserved:world-ipv6"),
    }
    assert labels() == alone
    write.upsert(policy("around", "192.0.2.0/24", "2001:db8::1/128"))
    around = labels()
    assert around["192.0.2.1/32"] == (
        "cidr:192.0.2.0/24", "cidr:192.0.2.1/32", "reserved:kube-apiserver", "reserved:world-ipv4"
    )  # fmt: skip
    assert around["192.0.2.0/24"] == ("cidr:192.0.2.0/24", "reserved:world-ipv4")
    tell.delete("kubernetes-ipv6")
    assert labels()["2001:db8::1/128"] == ("cidr:2001-db8--1/128", "reserved:world-ipv6"), "the policy still names it"
    write.delete(policy("around").key)
    assert labels() == {"192.0.2.1/32": alone["192.0.2.1/32"]}
    tell.upsert(KubeApiservers("kubernetes", (ip_address("192.0.2.2"),)))
    assert set(labels()) == {"192.0.2.2/32"}
    tell.delete("kubernetes")
    assert labels() == {}
