"""Who is heard when several sources speak of one address."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from cilium.features.ipcache.compute import IPCache
from cilium.state import Derivation, Table
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint, EndpointIdentity
from cilium.tables.identities import JudgedIdentity, NodeIdentity
from cilium.tables.kubernetes import CiliumEndpoint, CiliumNode, KubeApiservers


class CIDR(msgspec.Struct, frozen=True):
    prefix: Any
    identity: int


class World:
    """The inputs, the derivation and its output."""

    def __init__(self) -> None:
        self.tables: dict[str, Table[Any, Any]] = {
            "endpoints": Table("endpoints", key=lambda row: row.id),
            "endpoint-identities": Table("endpoint-identities", key=lambda row: row.endpoint),
            "cilium-endpoints": Table("cilium-endpoints", key=lambda row: row.key),
            "cilium-nodes": Table("cilium-nodes", key=lambda row: row.name),
            "devices": Table("devices", key=lambda row: row.ifindex),
            "cidr-identities": Table("cidr-identities", key=lambda row: row.prefix),
            "kube-apiservers": Table("kube-apiservers", key=lambda row: row.name),
            "node-identities": Table("node-identities", key=lambda row: row.identity),
            "judged-identities": Table("judged-identities", key=lambda row: row.id),
        }
        self.writers = {name: table.writer("test") for name, table in self.tables.items()}
        self.out: Table[Any, Any] = Table("ipcache", key=lambda row: row.prefix)
        self.derivation = Derivation(
            "ipcache", inputs=self.tables, outputs={"ipcache": self.out.writer("test")},
            compute=IPCache(node="n1", node_ips=frozenset({ip_address("172.30.0.1")})).compute,
        )  # fmt: skip

    def judge(self, *identities: int) -> None:
        """The policy maps know them now."""
        self.writers["judged-identities"].commit([JudgedIdentity(number) for number in identities])  # type: ignore[arg-type]  # plain int
        self.derivation.step()

    def put(self, table: str, row: Any) -> None:
        self.writers[table].upsert(row)
        self.derivation.step()

    def drop(self, table: str, key: Any) -> None:
        self.writers[table].delete(key)
        self.derivation.step()

    def at(self, prefix: str) -> tuple[int, str] | None:
        row = self.out.snapshot().get(ip_network(prefix))
        return None if row is None else (row.identity, str(row.tunnel_endpoint or ""))


@pytest.fixture
async def world() -> World:
    return World()


def remote(name: str, ip: str, identity: int, node: str = "172.30.0.2") -> CiliumEndpoint:
    return CiliumEndpoint("default", name, 7, identity, (), (ip_address(ip),), ip_address(node))  # type: ignore[arg-type]  # plain int


async def test_a_remote_pod_lives_behind_its_node(world: World) -> None:
    world.put("cilium-endpoints", remote("a", "10.0.1.5", 300))
    assert world.at("10.0.1.5/32") == (300, "172.30.0.2")
    world.drop("cilium-endpoints", "default/a")
    assert world.at("10.0.1.5/32") is None


async def test_a_node_that_policies_tell_apart(world: World) -> None:
    address = ip_address("172.30.0.2")
    world.put("cilium-nodes", CiliumNode("n2", {}, internal_ips=(address,), router_ips=(ip_address("10.0.1.1"),)))
    world.put("kube-apiservers", KubeApiservers("kubernetes", (address,)))
    world.put("node-identities", NodeIdentity(0x2000005, "n2", (), (address,)))  # type: ignore[arg-type]  # plain int
    world.put("node-identities", NodeIdentity(0x2000006, "n2", (), (ip_address("10.0.1.1"),)))  # type: ignore[arg-type]
    assert world.at("172.30.0.2/32") == (7, ""), "until the policy maps know it, it is what it was"
    world.judge(0x2000005, 0x2000006)
    assert world.at("172.30.0.2/32") == (0x2000005, "")
    assert world.at("10.0.1.1/32") == (0x2000006, "172.30.0.2")
    world.put("cilium-endpoints", remote("a", "172.30.0.2", 300))
    assert world.at("172.30.0.2/32") == (300, "172.30.0.2"), "a pod's address is the pod's"
    world.drop("cilium-endpoints", "default/a")
    world.drop("node-identities", 0x2000005)
    assert world.at("172.30.0.2/32") == (7, "")


async def test_both_families_of_a_node(world: World) -> None:
    world.put(
        "cilium-nodes",
        CiliumNode(
            "n2",
            {},
            internal_ips=(ip_address("172.30.0.2"), ip_address("fd00:172::2")),
            router_ips=(ip_address("10.0.1.1"), ip_address("fd00:a::1")),
            health_ips=(ip_address("10.0.1.2"),),
            pod_cidrs=(ip_network("10.0.1.0/24"), ip_network("fd00:a::/120")),
        ),
    )
    assert world.at("172.30.0.2/32") == (6, "")
    assert world.at("fd00:172::2/128") == (6, "")
    assert world.at("fd00:a::1/128") == (6, "172.30.0.2")
    assert world.at("10.0.1.2/32") == (4, "172.30.0.2")
    assert world.at("10.0.1.0/24") == (3, "172.30.0.2")


async def test_the_stronger_source_is_heard_and_the_weaker_comes_back(world: World) -> None:
    world.judge(1 << 24 | 1)
    world.put("cidr-identities", CIDR(ip_network("10.0.1.5/32"), 1 << 24 | 1))
    world.put("cilium-endpoints", remote("a", "10.0.1.5", 300))
    assert world.at("10.0.1.5/32") == (300, "172.30.0.2")
    world.drop("cilium-endpoints", "default/a")
    assert world.at("10.0.1.5/32") == (1 << 24 | 1, "")


async def test_an_address_that_moves_to_another_pod(world: World) -> None:
    world.put("cilium-endpoints", remote("a", "10.0.1.5", 300))
    world.put("cilium-endpoints", remote("b", "10.0.1.5", 301, "172.30.0.3"))
    world.drop("cilium-endpoints", "default/a")
    assert world.at("10.0.1.5/32") == (301, "172.30.0.3")


async def test_own_endpoints_come_from_the_agent_not_from_the_api(world: World) -> None:
    world.put("cilium-endpoints", remote("a", "10.0.0.5", 300, node="172.30.0.1"))
    assert world.at("10.0.0.5/32") is None
    world.put("endpoints", Endpoint(1, "pod", (ip_address("10.0.0.5"),), namespace="default", pod="a"))  # type: ignore[arg-type]  # plain int
    world.put("endpoint-identities", EndpointIdentity(1, 301, ()))  # type: ignore[arg-type]  # plain ints
    assert world.at("10.0.0.5/32") == (301, "")
    world.drop("endpoints", 1)
    assert world.at("10.0.0.5/32") is None


async def test_addresses_of_this_node_are_the_host(world: World) -> None:
    addresses = tuple(map(ip_interface, ("172.30.0.1/24", "fe80::1/64", "127.0.0.1/8")))
    world.put("devices", Device(2, "eth0", "", "", 1500, True, addresses, True))  # type: ignore[arg-type]  # plain int
    assert world.at("172.30.0.1/32") == (1, "")
    assert len(world.out) == 1


async def test_a_node_with_an_api_server_is_more_than_a_node(world: World) -> None:
    addresses = (ip_address("172.30.0.2"), ip_address("fd00:172::2"))
    world.put("cilium-nodes", CiliumNode("n2", {}, internal_ips=addresses))
    world.put("kube-apiservers", KubeApiservers("kubernetes", addresses))
    assert world.at("172.30.0.2/32") == world.at("fd00:172::2/128") == (7, "")
    world.drop("cilium-nodes", "n2")
    assert world.at("172.30.0.2/32") is None, "an address that nobody claims is no row"
    world.put("cilium-nodes", CiliumNode("n2", {}, internal_ips=addresses))
    assert world.at("172.30.0.2/32") == (7, "")
    world.put("kube-apiservers", KubeApiservers("kubernetes", addresses[:1]))
    assert (world.at("172.30.0.2/32"), world.at("fd00:172::2/128")) == ((7, ""), (6, ""))
    world.drop("kube-apiservers", "kubernetes")
    assert world.at("172.30.0.2/32") == (6, "")


async def test_an_api_server_elsewhere_has_the_identity_of_its_cidr(world: World) -> None:
    world.judge(1 << 24 | 9)
    world.put("cidr-identities", CIDR(ip_network("192.0.2.1/32"), 1 << 24 | 9))
    world.put("kube-apiservers", KubeApiservers("kubernetes", (ip_address("192.0.2.1"),)))
    assert world.at("192.0.2.1/32") == (1 << 24 | 9, "")


async def test_a_cidr_is_claimed_once_policies_know_it(world: World) -> None:
    """Before, whoever denies a wider CIDR would not deny this one."""
    wide, narrow = 1 << 24 | 1, 1 << 24 | 2
    world.put("cidr-identities", CIDR(ip_network("10.0.0.0/8"), wide))
    world.put("cidr-identities", CIDR(ip_network("10.1.0.0/16"), narrow))
    assert world.at("10.0.0.0/8") is None
    world.judge(wide)
    assert (world.at("10.0.0.0/8"), world.at("10.1.0.0/16")) == ((wide, ""), None)
    world.judge(narrow)
    assert world.at("10.1.0.0/16") == (narrow, "")
    world.drop("judged-identities", narrow)
    assert world.at("10.1.0.0/16") is None, "the maps are about to forget it"
    world.drop("cidr-identities", ip_network("10.0.0.0/8"))
    assert world.at("10.0.0.0/8") is None
