"""The agent's own endpoint over restarts, address changes and failures."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cilium.features.endpoint.manager import EndpointManager, Link
from cilium.features.endpoint.own import OwnEndpoint, remembered
from cilium.features.endpoint.statedir import StateDirectory
from cilium.features.ipam.allocator import Allocator
from cilium.state import Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.types import EndpointId, Ifindex, IPAddress

CIDRS: list[IPv4Network | IPv6Network] = [ip_network("10.0.0.0/24"), ip_network("fd00::/120")]


class Links:
    fails = ""

    def __init__(self) -> None:
        self.present: dict[str, int] = {}

    async def connect(self, *, ifname: str, **_: Any) -> Link:
        if self.fails:
            raise OSError(self.fails)
        self.present[ifname] = len(self.present) + 7
        return Link(Ifindex(self.present[ifname]), "02:00:00:00:00:02", "02:00:00:00:00:01")

    async def disconnect(self, ifname: str) -> None:
        self.present.pop(ifname, None)

    async def find(self, ifname: str) -> Ifindex | None:
        return Ifindex(self.present[ifname]) if ifname in self.present else None

    async def inspect(self, *, netns_fd: int, container_ifname: str) -> Sequence[IPAddress]:
        return ()


class Agent:
    """One life of an agent over a state directory."""

    def __init__(self, path: Path, links: Links, cidrs: Sequence[IPv4Network | IPv6Network] = CIDRS) -> None:
        self.table: Table[EndpointId, Endpoint] = Table(
            "endpoints", key=lambda row: row.id,
            indexes={"container": lambda row: (row.container_id,), "pod": lambda row: (f"{row.namespace}/{row.pod}",)},
        )  # fmt: skip
        allocations: Table[Any, Any] = Table("ip-allocations", key=lambda row: row.address)
        self.allocations = allocations
        allocator = Allocator(table=allocations, writer=allocations.writer("test"), families=(4, 6))
        allocator.set_cidrs(cidrs)
        writer, state = self.table.writer("test"), StateDirectory(path)
        self.state = state
        self.manager = EndpointManager(
            table=self.table, writer=writer, state=state, links=links, addresses=allocator, readiness=None,  # type: ignore[arg-type]  # nobody waits here
            gateways=tuple, mtu=lambda: 1450, unavailable=lambda: "",
        )  # fmt: skip
        self.own = OwnEndpoint(
            kind="health", ifname="lxc_health", table=self.table, writer=writer, state=state, links=links,
            addresses=allocator, free_id=self.manager.free_id, gateways=tuple, mtu=lambda: 1450,
        )  # fmt: skip


async def test_a_restart_keeps_number_and_addresses(tmp_path: Path) -> None:
    first = await Agent(tmp_path, Links()).own.make(3)
    agent = Agent(tmp_path, Links())  # the namespace and so the interface went with the agent
    assert await agent.manager.restore() == 0
    second = await agent.own.make(3)
    assert (second.id, second.addresses, second.kind) == (first.id, first.addresses, "health")
    assert {row.owner for row in agent.allocations.snapshot()} == {"health"}
    assert [row.id for row in agent.state.load()] == [first.id]


async def test_the_interface_that_is_still_there_is_no_pod(tmp_path: Path) -> None:
    links = Links()
    await Agent(tmp_path, links).own.make(3)
    agent = Agent(tmp_path, links)
    assert await agent.manager.restore() == 0
    assert not len(agent.table)


async def test_addresses_of_other_cidrs_are_replaced(tmp_path: Path) -> None:
    first = await Agent(tmp_path, Links()).own.make(3)
    agent = Agent(tmp_path, Links(), [ip_network("10.9.0.0/24"), ip_network("fd09::/120")])
    second = await agent.own.make(3)
    assert second.id == first.id
    assert [str(address) for address in second.addresses] == ["10.9.0.1", "fd09::1"]


async def test_a_pod_that_has_the_number_or_an_address_keeps_it(tmp_path: Path) -> None:
    agent = Agent(tmp_path, Links())
    first = await agent.own.make(3)
    pod = Endpoint(id=first.id, kind="pod", addresses=first.addresses, ifname="lxc1", namespace="d", pod="p")
    links = Links()
    links.present["lxc1"] = 5
    agent.state.save(pod)
    other = Agent(tmp_path, links)
    assert await other.manager.restore() == 1
    made = await other.own.make(3)
    assert made.id != pod.id
    assert not set(made.addresses) & set(pod.addresses)


async def test_failure_leaves_no_address_taken(tmp_path: Path) -> None:
    links = Links()
    links.fails = "no veth"
    agent = Agent(tmp_path, links)
    with pytest.raises(OSError, match="no veth"):
        await agent.own.make(3)
    assert not len(agent.allocations)
    assert not len(agent.table)
    assert remembered(agent.state, "health") is None


async def test_removal_forgets_it_and_is_idempotent(tmp_path: Path) -> None:
    links = Links()
    agent = Agent(tmp_path, links)
    await agent.own.make(3)
    later = Agent(tmp_path, links)
    await later.own.remove()
    await later.own.remove()
    assert not links.present
    assert list(later.state.load()) == []


def test_fits_wants_one_address_per_family(tmp_path: Path) -> None:
    allocations: Table[Any, Any] = Table("ip-allocations", key=lambda row: row.address)
    allocator = Allocator(table=allocations, writer=allocations.writer("test"), families=(4, 6))
    allocator.set_cidrs(CIDRS)
    pair = (ip_address("10.0.0.9"), ip_address("fd00::9"))
    assert allocator.fits(pair)
    assert not allocator.fits(pair[:1])
    assert not allocator.fits((pair[0], ip_address("10.0.0.10")))
    allocator.claim(pair[:1], "default/p")
    assert not allocator.fits(pair)
