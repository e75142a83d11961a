"""Nodes told apart: by label, by CIDR, at the API server; this one, and what survives a restart."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from cilium.features.ipcache.nodes import NodeIdentities
from cilium.state import Change, Derivation, Table, View
from cilium.tables.identities import SCOPE_REMOTE_NODE, CIDRIdentity, NodeIdentity
from cilium.tables.kubernetes import CiliumNode, KubeApiservers, KubeNode


class World:
    """The inputs, the derivation and its output, seen from node n1."""

    def __init__(self, *, labels: bool = True, cidrs: bool = False) -> None:
        self.tables: dict[str, Table[Any, Any]] = {
            "cilium-nodes": Table("cilium-nodes", key=lambda row: row.name),
            "kube-nodes": Table("kube-nodes", key=lambda row: row.name),
            "cidr-identities": Table("cidr-identities", key=lambda row: row.prefix),
            "kube-apiservers": Table("kube-apiservers", key=lambda row: row.name),
        }
        self.write = {name: table.writer("test") for name, table in self.tables.items()}
        self.out: Table[int, NodeIdentity] = Table("node-identities", key=lambda row: row.identity)
        self.derivation = Derivation(
            "node-identities",
            inputs=self.tables,
            outputs={"node-identities": self.out.writer("test")},
            compute=NodeIdentities(node="n1", labels=labels, cidrs=cidrs).compute,
        )

    def put(self, table: str, *rows: Any) -> None:
        self.write[table].commit(rows)
        self.derivation.step()

    def at(self, address: str) -> NodeIdentity:
        (row,) = (row for row in self.out.snapshot() if ip_address(address) in row.addresses)
        return row


def cilium_node(number: int) -> CiliumNode:
    inside = (ip_address(f"172.30.0.{number}"), ip_address(f"fd00:172::{number}"))
    return CiliumNode(f"n{number}", {}, internal_ips=inside, router_ips=(ip_address(f"10.0.{number}.1"),))


def kube_node(number: int, **labels: str) -> KubeNode:
    return KubeNode(f"n{number}", labels, {})


def cidr(prefix: str) -> CIDRIdentity:
    return CIDRIdentity(ip_network(prefix), 1, ())  # type: ignore[arg-type]  # plain int


def test_one_identity_per_node_whose_labels_change_under_its_number() -> None:
    world = World()
    world.put("cilium-nodes", cilium_node(1), cilium_node(2), cilium_node(3))
    world.put("kube-nodes", kube_node(1, role="a"), kube_node(2, role="b"))
    two = world.at("172.30.0.2")
    assert two == world.at("fd00:172::2") == world.at("10.0.2.1")
    assert two.identity >> 24 == SCOPE_REMOTE_NODE >> 24
    assert two.labels == ("node:role=b", "reserved:remote-node")
    assert world.at("172.30.0.3").labels == ("reserved:remote-node",)
    host = world.out.snapshot()[1]
    assert (host.labels, host.addresses) == (("node:role=a", "reserved:host"), ())
    world.put("kube-nodes", kube_node(2, role="c"))
    assert world.at("172.30.0.2").labels == ("node:role=c", "reserved:remote-node")
    assert world.at("172.30.0.2").identity == two.identity
    again = World()
    again.put("cilium-nodes", cilium_node(3), cilium_node(2))
    assert again.at("10.0.2.1").identity == two.identity, "in every life of the agent"
    world.write["cilium-nodes"].delete("n2")
    world.derivation.step()
    assert two.identity not in world.out.snapshot()


def test_an_api_server_is_one_of_its_nodes_addresses() -> None:
    world = World()
    world.put("cilium-nodes", cilium_node(2))
    world.put("kube-apiservers", KubeApiservers("kubernetes", (ip_address("172.30.0.2"),)))
    assert world.at("172.30.0.2").labels == ("reserved:kube-apiserver", "reserved:remote-node")
    assert world.at("fd00:172::2").labels == ("reserved:remote-node",)
    number = world.at("172.30.0.2").identity
    world.put("kube-apiservers", KubeApiservers("kubernetes", ()))
    assert world.at("172.30.0.2") == world.at("fd00:172::2")
    assert number not in world.out.snapshot()


def test_where_cidrs_match_nodes_every_address_has_the_cidrs_around_it() -> None:
    world = World(labels=False, cidrs=True)
    world.put("kube-nodes", kube_node(2, role="b"))
    world.put("cilium-nodes", cilium_node(1), cilium_node(2))
    world.put("cidr-identities", cidr("172.30.0.0/16"), cidr("172.30.0.2/32"), cidr("10.9.0.0/16"), cidr("fd00::/8"))
    four, six, router = (world.at(address) for address in ("172.30.0.2", "fd00:172::2", "10.0.2.1"))
    assert four.labels == ("cidr:0.0.0.0/0", "cidr:172.30.0.0/16", "cidr:172.30.0.2/32", "reserved:remote-node")
    assert six.labels == ("cidr:0--0/0", "cidr:fd00--0/8", "reserved:remote-node")
    assert router.labels == ("cidr:0.0.0.0/0", "reserved:remote-node")
    assert len({four.identity, six.identity, router.identity}) == 3
    host = world.out.snapshot()[1]
    assert host.labels == ("cidr:0--0/0", "cidr:0.0.0.0/0", "cidr:172.30.0.0/16", "cidr:fd00--0/8", "reserved:host")
    world.write["cidr-identities"].delete(ip_network("172.30.0.0/16"))
    world.derivation.step()
    assert world.at("172.30.0.2").labels == ("cidr:0.0.0.0/0", "cidr:172.30.0.2/32", "reserved:remote-node")
    assert world.at("172.30.0.2").identity == four.identity


def test_a_change_of_one_node_looks_at_no_other() -> None:
    """In a cluster of thousands, each of which comes, goes and is labelled."""
    world = World(cidrs=True)
    rules = NodeIdentities(node="n1", labels=True, cidrs=True)

    def compute(table: str, change: Change[str, Any]) -> Any:
        snapshots = {name: each.snapshot() for name, each in world.tables.items()}
        changes = {name: [change] if name == table else [] for name in snapshots}
        return rules.compute(View(changes=changes, snapshots=snapshots))["node-identities"]

    world.put("cilium-nodes", *map(cilium_node, range(1, 9)))
    everything = compute("cidr-identities", Change("10.0.0.0/8", None, cidr("10.0.0.0/8"), 1))
    assert len({row.node for row in everything.upserts}) == 8
    world.put("kube-nodes", kube_node(5, role="b"))
    labelled = compute("kube-nodes", Change("n5", None, kube_node(5, role="b"), 2))
    assert {row.node for row in labelled.upserts} == {"n5"}
    world.write["cilium-nodes"].delete("n5")
    left = compute("cilium-nodes", Change("n5", cilium_node(5), None, 3))
    assert (left.upserts, set(left.deletes)) == ([], {row.identity for row in everything.upserts if row.node == "n5"})
