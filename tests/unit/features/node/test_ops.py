"""What routes and this node's CiliumNode become, and what a failure leaves."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from cilium.features.node.ops import NodeObjectOps, RouteOps, node_body
from cilium.features.node.rows import NodeObject, Route

NODE = NodeObject(
    name="n1",
    labels=(("zone", "a"),),
    internal_ips=(ip_address("172.30.0.1"),),
    router_ips=(ip_address("10.0.0.1"), ip_address("fd00::1")),
    health_ips=(ip_address("10.0.0.9"), ip_address("fd00::9")),
    pod_cidrs=(ip_network("10.0.0.0/24"), ip_network("fd00::/120")),
    boot_id="b",
    ipam_mode="kubernetes",
    node_uid="u",
)


class Port:
    """Routes in a set; those to `refused` cannot be written."""

    def __init__(self, *present: str, refused: str = "") -> None:
        self.present: set[Any] = {ip_network(text) for text in present}
        self._refused = refused

    async def replace(self, route: Route) -> None:
        if str(route.destination) == self._refused:
            raise OSError("network is unreachable")
        self.present.add(route.destination)

    async def remove(self, route: Route) -> None:
        self.present.discard(route.destination)

    async def destinations(self) -> Sequence[Any]:
        return list(self.present)


class Writes:
    def __init__(self) -> None:
        self.applied: dict[str, Any] = {}

    async def apply_node(self, name: str, body: Any) -> None:
        self.applied[name] = body


def route(text: str) -> Route:
    return Route(destination=ip_network(text), device="cilium_host")


async def test_one_route_that_is_refused_leaves_the_others() -> None:
    port = Port(refused="fd00::/120")
    errors = await RouteOps(port).update([route("10.0.0.0/24"), route("fd00::/120"), route("10.0.1.0/24")])
    assert [(str(key), str(error)) for key, error in errors.items()] == [("fd00::/120", "network is unreachable")]
    assert {str(network) for network in port.present} == {"10.0.0.0/24", "10.0.1.0/24"}


async def test_routes_that_nobody_wants_are_deleted_and_pruned() -> None:
    port = Port("10.0.0.0/24", "10.0.1.0/24", "fd00::/120")
    assert not await RouteOps(port).delete([route("10.0.1.0/24"), route("10.9.0.0/24")])
    await RouteOps(port).prune([route("fd00::/120")])
    assert {str(network) for network in port.present} == {"fd00::/120"}


async def test_the_object_of_this_node() -> None:
    writes = Writes()
    assert not await NodeObjectOps(writes).update([NODE])
    body = writes.applied["n1"]
    assert body["spec"] == {
        "addresses": [
            {"type": "InternalIP", "ip": "172.30.0.1"},
            {"type": "CiliumInternalIP", "ip": "10.0.0.1"},
            {"type": "CiliumInternalIP", "ip": "fd00::1"},
        ],
        "bootid": "b",
        "health": {"ipv4": "10.0.0.9", "ipv6": "fd00::9"},
        "ipam": {"podCIDRs": ["10.0.0.0/24", "fd00::/120"]},
    }
    assert body["metadata"]["labels"] == {"zone": "a"}
    assert body["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u"}]


def test_cidrs_of_the_operator_are_not_the_agents_to_write() -> None:
    by_operator = NodeObject("n1", (), NODE.internal_ips, (), (), pod_cidrs=None, boot_id="b", ipam_mode="cluster-pool")
    assert "ipam" not in node_body(by_operator)["spec"]
