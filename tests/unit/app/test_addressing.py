"""How a node settles which addresses it has, and what it waits for meanwhile."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from cilium.app.addressing import Addressing, IpamModeChangedError, guard_ipam_mode
from cilium.app.tables import AgentTables
from cilium.features.endpoint.statedir import StateDirectory
from cilium.features.ipam.allocator import Allocator
from cilium.features.node.rows import NodeObject
from cilium.settings import IpamMode, Settings, from_values
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint
from cilium.tables.kubernetes import CiliumNode, KubeNode
from cilium.tables.nodes import NodeAddressing
from cilium.tables.types import EndpointId, Ifindex

V4, V6 = ip_network("10.0.0.0/24"), ip_network("fd00::/120")
ETH0 = Device(Ifindex(2), "eth0", "", "", 1500, True, (ip_interface("172.30.0.1/24"), ip_interface("fd30::1/64")), True)


class World:
    """Tables as the sources fill them, and a settling that follows."""

    def __init__(self, state: Path, settings: Settings) -> None:
        self.tables, self.kubernetes = AgentTables(), KubernetesTables()
        self.said: list[str] = []
        self._kube, self._cilium = self.kubernetes.kube_nodes.writer("t"), self.kubernetes.cilium_nodes.writer("t")
        self._devices = self.tables.devices.writer("t")
        self._devices.upsert(ETH0)
        self.allocator = Allocator(
            table=self.tables.allocations,
            writer=self.tables.allocations.writer("ipam"),
            families=settings.families.versions,
        )
        self.addressing = Addressing(
            settings=settings,
            node="n1",
            kube_nodes=self.kubernetes.kube_nodes,
            cilium_nodes=self.kubernetes.cilium_nodes,
            devices=self.tables.devices,
            objects=self.tables.node_objects.writer("node"),
            rows=self.tables.node_addressing.writer("node"),
            allocator=self.allocator,
            progress=self.said.append,
            state=StateDirectory(state),
        )
        self._settling = asyncio.create_task(self.addressing.settle())

    async def tell(self, *rows: Any) -> None:
        for row in rows:
            {KubeNode: self._kube, CiliumNode: self._cilium, Device: self._devices}[type(row)].upsert(row)
        await self.turn()

    async def listed(self) -> None:
        """The API has told of every CiliumNode."""
        self._cilium.ready()
        await self.turn()

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def settled(self) -> NodeAddressing:
        async with asyncio.timeout(5):
            return await self._settling

    @property
    def published(self) -> NodeObject | None:
        return self.tables.node_objects.snapshot().get("n1")


def kube(*cidrs: Any, ips: tuple[str, ...] = ("172.30.0.1", "fd30::1")) -> KubeNode:
    return KubeNode("n1", {"zone": "a"}, {}, tuple(map(ip_address, ips)), tuple(cidrs))


def by_kubernetes(**more: Any) -> Settings:
    return from_values({"ipam": {"mode": "kubernetes"}, **more})


async def test_with_cidrs_of_kubernetes(tmp_path: Path) -> None:
    world = World(tmp_path, by_kubernetes())
    await world.turn()
    assert world.said == ["waiting for Node n1 of the API server"]
    await world.tell(kube(V4))
    assert world.said[-1] == "waiting for IPv4 and IPv6 pod CIDRs of node n1 from Node.spec.podCIDRs"
    await world.tell(kube(V4, V6))
    row = await world.settled()
    assert (row.device, row.mtu, row.pod_cidrs) == ("eth0", 1500, (V4, V6))
    assert row.router_ips == (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert world.published is not None
    assert (world.published.pod_cidrs, world.published.labels) == ((V4, V6), (("zone", "a"),))


async def test_with_cidrs_of_the_operator_the_node_is_published_first(tmp_path: Path) -> None:
    world = World(tmp_path, Settings())
    await world.tell(kube())
    assert world.published is None  # whether there is a CiliumNode of an earlier life is not known yet
    await world.listed()
    assert world.published is not None
    assert (world.published.router_ips, world.published.pod_cidrs) == ((), None)
    await world.tell(CiliumNode("n1", {}, pod_cidrs=(V4, V6)))
    row = await world.settled()
    assert world.published.router_ips == row.router_ips
    assert world.published.pod_cidrs is None


async def test_a_restart_keeps_the_gateways_that_pods_know(tmp_path: Path) -> None:
    world = World(tmp_path, by_kubernetes())
    gateways = (ip_interface("fd00::42/128"), ip_interface("10.0.0.42/32"))
    await world.tell(Device(Ifindex(3), "cilium_host", "veth", "", 1500, True, gateways), kube(V4, V6))
    row = await world.settled()
    assert row.router_ips == (ip_address("10.0.0.42"), ip_address("fd00::42"))
    assert world.tables.allocations.snapshot()[ip_address("10.0.0.42")].owner == "router"


async def test_gateways_of_other_cidrs_are_replaced(tmp_path: Path) -> None:
    world = World(tmp_path, by_kubernetes())
    gateways = (ip_interface("10.9.0.1/32"), ip_interface("fd00::1/128"))
    await world.tell(Device(Ifindex(3), "cilium_host", "veth", "", 1500, True, gateways), kube(V4, V6))
    assert (await world.settled()).router_ips == (ip_address("10.0.0.1"), ip_address("fd00::1"))


async def test_one_family_is_enough_where_the_other_is_off(tmp_path: Path) -> None:
    world = World(tmp_path, by_kubernetes(ipv6={"enabled": False}, MTU=9000))
    await world.tell(kube(V4, V6))
    row = await world.settled()
    assert (row.pod_cidrs, row.router_ips, row.mtu) == ((V4,), (ip_address("10.0.0.1"),), 9000)


async def test_cidrs_that_overlap_the_underlay_are_refused_until_others_come(tmp_path: Path) -> None:
    world = World(tmp_path, by_kubernetes())
    await world.tell(kube(ip_network("172.30.0.0/16"), V6))
    assert "refusing pod CIDR 172.30.0.0/16 of node n1: it overlaps 172.30.0.0/24 on eth0" in world.said[-1]
    await world.tell(kube(V4, V6))
    assert (await world.settled()).pod_cidrs == (V4, V6)


async def test_a_node_without_a_device_of_its_address(tmp_path: Path) -> None:
    world = World(tmp_path, by_kubernetes())
    await world.tell(kube(V4, V6, ips=("192.0.2.1",)))
    with pytest.raises(LookupError, match=r"no device has an address of Node n1 \(192\.0\.2\.1\)"):
        await world.settled()


async def test_the_health_endpoint_is_published_and_known_again_after_a_restart(tmp_path: Path) -> None:
    last = (ip_address("10.0.0.9"), ip_address("fd00::9"))
    StateDirectory(tmp_path).save(Endpoint(EndpointId(5), "health", last))
    world = World(tmp_path, by_kubernetes())
    await world.tell(kube(V4, V6))
    await world.settled()
    assert world.published is not None
    assert world.published.health_ips == last
    world.addressing.publish_health(())
    assert world.published.health_ips == ()


@pytest.mark.parametrize(
    ("before", "pods", "refused"),
    [
        (None, 1, False),
        (IpamMode.KUBERNETES, 1, False),
        (IpamMode.CLUSTER_POOL, 0, False),
        (IpamMode.CLUSTER_POOL, 1, True),
    ],
)
def test_the_ipam_mode_cannot_change_under_pods(
    tmp_path: Path, before: IpamMode | None, pods: int, refused: bool
) -> None:
    if before is not None:
        guard_ipam_mode(tmp_path, before)
    StateDirectory(tmp_path / "state").save(Endpoint(EndpointId(1), "health", (ip_address("10.0.0.9"),)))
    for number in range(pods):
        StateDirectory(tmp_path / "state").save(Endpoint(EndpointId(7 + number), "pod", (ip_address("10.0.0.7"),)))
    if refused:
        with pytest.raises(IpamModeChangedError, match=r"ipam\.mode: changed from cluster-pool to kubernetes"):
            guard_ipam_mode(tmp_path, IpamMode.KUBERNETES)
        guard_ipam_mode(tmp_path, IpamMode.CLUSTER_POOL)
    else:
        guard_ipam_mode(tmp_path, IpamMode.KUBERNETES)


@pytest.mark.parametrize(
    ("last", "kept"), [(("10.0.0.77", "fd00::77"), True), (("10.9.0.77", "fd00::77"), False), (("10.0.0.77",), False)]
)
async def test_other_nodes_go_on_knowing_the_last_health_endpoint_if_it_fits(
    tmp_path: Path, last: tuple[str, ...], kept: bool
) -> None:
    addresses = tuple(map(ip_address, last))
    StateDirectory(tmp_path).save(Endpoint(id=EndpointId(1), kind="health", addresses=addresses))
    world = World(tmp_path, by_kubernetes())
    await world.tell(kube(V4, V6))
    await world.settled()
    assert world.published is not None
    assert world.published.health_ips == (addresses if kept else ())
    new = (ip_address("10.0.0.78"), ip_address("fd00::78"))
    world.addressing.publish_health(new)
    assert world.published.health_ips == new


async def test_without_health_endpoints_none_is_published(tmp_path: Path) -> None:
    last = (ip_address("10.0.0.77"), ip_address("fd00::77"))
    StateDirectory(tmp_path).save(Endpoint(id=EndpointId(1), kind="health", addresses=last))
    world = World(tmp_path, by_kubernetes(endpointHealthChecking={"enabled": False}))
    await world.tell(kube(V4, V6))
    await world.settled()
    assert world.published is not None
    assert world.published.health_ips == ()


def test_a_health_endpoint_is_no_pod_that_keeps_the_ipam_mode(tmp_path: Path) -> None:
    guard_ipam_mode(tmp_path, IpamMode.KUBERNETES)
    StateDirectory(tmp_path / "state").save(Endpoint(id=EndpointId(1), kind="health", addresses=()))
    guard_ipam_mode(tmp_path, IpamMode.CLUSTER_POOL)
