"""What the operator decides while its own writes are on their way."""

from __future__ import annotations

from ipaddress import ip_network

from cilium.features.ipam.compute import NodeCIDRDecisions
from cilium.features.ipam.pools import Pool
from cilium.features.ipam.rows import NodeCIDRs
from cilium.state import Derivation, Table
from cilium.tables.kubernetes import CiliumNode

POOLS = [
    Pool(cidrs=(ip_network("10.0.0.0/16"),), mask=24),
    Pool(cidrs=(ip_network("fd00::/112"),), mask=120),
]


class World:
    def __init__(self) -> None:
        self.nodes: Table[str, CiliumNode] = Table("cilium-nodes", key=lambda row: row.name)
        self.writer = self.nodes.writer("test")
        self.writer.ready()
        self.decisions: Table[str, NodeCIDRs] = Table("node-cidrs", key=lambda row: row.node)
        self.derivation = Derivation(
            "node-cidrs",
            inputs={"cilium-nodes": self.nodes},
            outputs={"node-cidrs": self.decisions.writer("ipam")},
            compute=NodeCIDRDecisions(POOLS).compute,
        )

    def decided(self, *nodes: CiliumNode) -> dict[str, tuple[str, ...]]:
        self.writer.commit(upserts=nodes)
        self.derivation.step()
        return {row.node: tuple(map(str, row.cidrs)) for row in self.decisions.snapshot()}


def node(name: str, *cidrs: str) -> CiliumNode:
    return CiliumNode(
        name=name, labels={}, internal_ips=(), router_ips=(), health_ips=(), pod_cidrs=tuple(map(ip_network, cidrs))
    )


def test_a_node_that_comes_later_does_not_take_what_another_is_about_to_get() -> None:
    """`b` may have its CIDRs already, only the operator has not seen them yet when `a` appears."""
    world = World()
    before = world.decided(node("b"))
    after = world.decided(node("a"))
    assert after["b"] == before["b"]
    assert not set(after["a"]) & set(after["b"])


def test_what_is_missing_is_decided_once() -> None:
    world = World()
    before = world.decided(node("b", "10.0.7.0/24"))["b"]
    assert before == ("10.0.7.0/24", "fd00::/120")
    after = world.decided(node("a", "10.0.0.0/24"))
    assert after["b"] == before
    assert after["a"] == ("10.0.0.0/24", "fd00::100/120")


def test_what_people_write_into_the_object_counts() -> None:
    world = World()
    world.decided(node("a"))
    assert world.decided(node("a", "10.0.9.0/24", "fd00::900/120"))["a"] == ("10.0.9.0/24", "fd00::900/120")


def test_a_node_that_went_gives_its_cidrs_back() -> None:
    world = World()
    first = world.decided(node("a"))["a"]
    world.writer.delete("a")
    assert world.decided(node("b"))["b"] == first
