"""Which ports of a node lead elsewhere, and who listens there in vain."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest
from unit.features.derived import Derived

from cilium.features.node_ports.compute import NodePorts
from cilium.features.node_ports.rows import NodePort
from cilium.features.node_ports.watch import PortWatch
from cilium.state import Table
from cilium.tables.problems import Problem, ProblemKey
from cilium.tables.services import Frontend, Scope
from cilium.tables.types import IPAddress


def frontend(
    port: int, *, ip: str = "0.0.0.0", kind: str = "NodePort", scope: Scope = Scope.CLUSTER, **more: Any
) -> Frontend:
    fields = {"protocol": "TCP", "service": "shop/web", "port_name": "", **more}
    return Frontend(ip_address(ip), port, kind=kind, scope=scope, **fields)


class World(Derived):
    def __init__(self) -> None:
        super().__init__(
            inputs={"frontends": lambda row: row.key},
            outputs={"node-ports": lambda row: row.key},
            compute=NodePorts().compute,
        )

    def ports(self) -> set[tuple[int, str, str, str]]:
        return {(row.port, row.protocol, row.kind, row.owner) for row in self.rows("node-ports").values()}


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_port_counts_once_however_many_addresses_it_has(world: World) -> None:
    rows = [
        frontend(30080, ip=ip, scope=scope) for ip in ("0.0.0.0", "::") for scope in (Scope.CLUSTER, Scope.EXTERNAL)
    ]
    world.put("frontends", *rows, frontend(80, ip="10.96.0.1", kind="ClusterIP"))
    assert world.ports() == {(30080, "TCP", "NodePort", "shop/web")}
    world.drop("frontends", *[row.key for row in rows[:3]])
    assert world.ports() == {(30080, "TCP", "NodePort", "shop/web")}
    world.drop("frontends", rows[3].key)
    assert world.ports() == set()


async def test_host_ports_and_owners_that_change(world: World) -> None:
    world.put("frontends", frontend(53, protocol="UDP", kind="HostPort", service="shop/dns-0"))
    assert world.ports() == {(53, "UDP", "HostPort", "shop/dns-0")}
    world.put("frontends", frontend(53, protocol="UDP", kind="HostPort", service="shop/dns-1"))
    assert world.ports() == {(53, "UDP", "HostPort", "shop/dns-1")}
    world.put("frontends", frontend(53, protocol="UDP", kind="ExternalIP", service="shop/dns"))
    assert world.ports() == set()


@dataclass
class Socket:
    address: IPAddress
    port: int
    protocol: str = "TCP"
    uid: int = 1000
    inode: int = 7


class Node:
    """A table of ports, sockets that a test opens, and the watch over both."""

    def __init__(self) -> None:
        self.ports: Table[tuple[int, str], NodePort] = Table("node-ports", key=lambda row: row.key)
        self.writer = self.ports.writer("test")
        self.problems: Table[ProblemKey, Problem] = Table("node-port-problems", key=lambda row: row.key)
        self.sockets: list[Socket] = []
        self.names: dict[int, str] = {}
        self.asked: list[tuple[int, int]] = []
        self.failing = False
        self.watch = PortWatch(
            node="n1",
            node_ports=self.ports,
            problems=self.problems.writer("test"),
            look=self.look,
            name=lambda inodes: {inode: self.names[inode] for inode in inodes if inode in self.names},
        )

    def look(self, first: int, last: int) -> list[Socket]:
        self.asked.append((first, last))
        if self.failing:
            raise OSError("no such protocol")
        return [each for each in self.sockets if first <= each.port <= last]

    def told(self) -> dict[tuple[str, str, str, str], str]:
        return {row.key: row.message for row in self.problems.snapshot()}


@pytest.fixture
async def node() -> Node:
    return Node()


WEB = NodePort(30080, "TCP", "NodePort", "shop/web")
DNS = NodePort(53, "UDP", "HostPort", "shop/dns-0")
WEB_KEY = ("Service", "shop", "web", "spec.ports[30080/TCP].nodePort")


async def test_nobody_is_looked_for_where_no_port_is(node: Node) -> None:
    await node.watch.inspect()
    assert node.asked == []


async def test_a_listener_is_named_until_it_goes(node: Node) -> None:
    node.writer.commit([WEB, DNS])
    node.sockets = [
        Socket(ip_address("0.0.0.0"), 30080),
        Socket(ip_address("::"), 30080, "UDP"),
        Socket(ip_address("::"), 8080),
    ]
    node.names = {7: "nginx (process 12)"}
    await node.watch.inspect()
    assert node.asked == [(53, 30080)]
    assert node.told() == {
        WEB_KEY: "nginx (process 12) listens on 0.0.0.0:30080/TCP of node n1 and is not reached there any more: "
        "stop it, or choose another port"
    }
    node.sockets = []
    await node.watch.inspect()
    assert node.told() == {}


async def test_who_cannot_be_named_is_a_user_and_a_host_port_is_its_pods(node: Node) -> None:
    node.writer.commit([DNS])
    node.sockets = [Socket(ip_address("::1"), 53, "UDP")]
    await node.watch.inspect()
    (message,) = node.told().values()
    assert message.startswith("a process of user 1000 listens on [::1]:53/UDP of node n1")
    assert set(node.told()) == {("Pod", "shop", "dns-0", "spec.containers.ports[53/UDP].hostPort")}


async def test_a_port_that_goes_takes_its_problem_along(node: Node) -> None:
    node.writer.commit([WEB])
    node.sockets = [Socket(ip_address("0.0.0.0"), 30080)]
    await node.watch.inspect()
    assert set(node.told()) == {WEB_KEY}
    node.writer.commit(deletes=[WEB.key])
    await node.watch.inspect()
    assert node.told() == {}


async def test_sockets_that_cannot_be_listed_change_nothing(node: Node) -> None:
    node.writer.commit([WEB])
    node.sockets = [Socket(ip_address("0.0.0.0"), 30080)]
    await node.watch.inspect()
    node.failing = True
    await node.watch.inspect()
    assert set(node.told()) == {WEB_KEY}


async def test_it_looks_when_a_port_comes(node: Node) -> None:
    node.sockets = [Socket(ip_address("0.0.0.0"), 30080)]
    task = asyncio.create_task(node.watch.run())
    changes = node.problems.changes()
    changes.pop()
    try:
        async with asyncio.timeout(5):
            node.writer.commit([WEB])
            node.writer.ready()
            while not node.told():
                await changes.wait()
                changes.pop()
            await node.problems.wait_initialized()
    finally:
        task.cancel()
    assert set(node.told()) == {WEB_KEY}
