"""Rows of cilium_lxc: what a restart may and may not touch."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import msgspec
import pytest

from cilium.datapath.fakes.maps import FakeMap
from cilium.datapath.generated import EndpointFlags
from cilium.features.endpoint.adoption import Adoption
from cilium.features.endpoint.ops import EndpointMapOps, encode_keys
from cilium.features.endpoint.rows import EndpointMapEntry
from cilium.tables.types import Identity, Ifindex, PolicyId

SERVED = EndpointMapEntry(
    address=ip_address("10.0.0.7"), endpoint=7, identity=Identity(4711), ifindex=Ifindex(12),
    mac="02:00:00:00:00:01", host_mac="02:00:00:00:00:02", ingress_policy=PolicyId(3),
)  # fmt: skip
CLOSED = msgspec.structs.replace(SERVED, identity=Identity(5), ingress_policy=PolicyId(0), not_ready=True)


class Epoch:
    def __init__(self) -> None:
        self.value = 0

    def advance(self) -> None:
        self.value += 1


@pytest.fixture
def port() -> FakeMap:
    return FakeMap("cilium_lxc")


def flags(port: FakeMap) -> int:
    values, found = port.lookup(encode_keys([SERVED]))
    assert found[0]
    return int(values["flags"][0])


def test_an_endpoint_without_a_policy_is_closed(port: FakeMap) -> None:
    EndpointMapOps(port=port, epoch=Epoch()).update([CLOSED])
    assert flags(port) & EndpointFlags.NOT_READY


def test_a_restart_leaves_open_what_the_last_agent_served(port: FakeMap) -> None:
    EndpointMapOps(port=port, epoch=Epoch()).update([SERVED])
    epoch = Epoch()
    restarted = EndpointMapOps(port=port, epoch=epoch)
    assert restarted.update([CLOSED]) == {}
    values, _ = port.lookup(encode_keys([SERVED]))
    assert (values["identity"][0], values["ingress_policy"][0], values["flags"][0]) == (4711, 3, 0)
    assert epoch.value == 0
    restarted.update([msgspec.structs.replace(SERVED, ingress_policy=PolicyId(4))])
    assert port.lookup(encode_keys([SERVED]))[0]["ingress_policy"][0] == 4


def test_a_new_endpoint_does_not_inherit_the_row_of_an_old_one(port: FakeMap) -> None:
    operations = EndpointMapOps(port=port, epoch=Epoch())
    operations.update([SERVED])
    operations.update([msgspec.structs.replace(CLOSED, ifindex=Ifindex(13))])
    assert flags(port) & EndpointFlags.NOT_READY


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


OPEN = msgspec.structs.replace(SERVED, ingress_policy=PolicyId(0))


def test_an_endpoint_that_comes_under_a_policy_takes_over_its_connections_for_a_while(port: FakeMap) -> None:
    clock = Clock()
    adoption = Adoption(seconds=60, clock=clock)
    operations = EndpointMapOps(port=port, epoch=Epoch(), adoption=adoption)
    operations.update([OPEN])
    assert not flags(port)
    operations.update([SERVED])
    assert flags(port) == EndpointFlags.ADOPTING
    clock.now += 59
    operations.update([msgspec.structs.replace(SERVED, ingress_policy=PolicyId(4))])  # refreshes and changes keep it
    assert flags(port) == EndpointFlags.ADOPTING
    assert adoption.ended() == []
    clock.now += 2
    (ended,) = adoption.ended()
    assert ended.ingress_policy == 4
    operations.update([ended])
    assert not flags(port)
    assert adoption.next_end() is None


def test_the_mark_goes_without_anybody_asking(port: FakeMap) -> None:
    async def main() -> None:
        operations = EndpointMapOps(port=port, epoch=Epoch(), adoption=Adoption(seconds=0.01))
        async with asyncio.timeout(5):
            task = asyncio.create_task(operations.end_adoptions())
            for _ in range(2):
                operations.update([OPEN])
                operations.update([SERVED])
                assert flags(port) == EndpointFlags.ADOPTING
                while flags(port):  # noqa: ASYNC110 - a map has nobody to wake
                    await asyncio.sleep(0.001)
            task.cancel()

    asyncio.run(main())


def test_who_never_was_open_takes_over_nothing(port: FakeMap) -> None:
    operations = EndpointMapOps(port=port, epoch=Epoch())
    operations.update([CLOSED])
    operations.update([SERVED])
    assert not flags(port)
    operations.update([msgspec.structs.replace(SERVED, endpoint=8, ingress_policy=PolicyId(0))])
    operations.update([SERVED])  # the address went to another pod
    assert not flags(port)


def test_the_node_takes_over_what_it_had_before_it_had_a_row(port: FakeMap) -> None:
    node = EndpointMapEntry(
        address=ip_address("172.30.0.1"), endpoint=65535, identity=Identity(1), ingress_policy=PolicyId(3), host=True
    )
    EndpointMapOps(port=port, epoch=Epoch()).update([node])
    values, _ = port.lookup(encode_keys([node]))
    assert values["flags"][0] == EndpointFlags.HOST | EndpointFlags.ADOPTING


def test_a_restart_finishes_what_the_last_agent_began(port: FakeMap) -> None:
    first = EndpointMapOps(port=port, epoch=Epoch())
    first.update([OPEN])
    first.update([SERVED])
    clock = Clock()
    adoption = Adoption(seconds=60, clock=clock)
    EndpointMapOps(port=port, epoch=Epoch(), adoption=adoption).update([SERVED])
    assert flags(port) == EndpointFlags.ADOPTING
    assert adoption.next_end() == 60


def test_a_deleted_endpoint_is_not_written_again(port: FakeMap) -> None:
    clock = Clock()
    adoption = Adoption(seconds=60, clock=clock)
    operations = EndpointMapOps(port=port, epoch=Epoch(), adoption=adoption)
    operations.update([OPEN])
    operations.update([SERVED])
    operations.delete([SERVED])
    clock.now += 61
    assert adoption.ended() == []


def test_processors_learn_of_every_change(port: FakeMap) -> None:
    epoch, clock = Epoch(), Clock()
    operations = EndpointMapOps(port=port, epoch=epoch, adoption=Adoption(seconds=60, clock=clock))
    operations.update([SERVED])
    assert epoch.value == 1
    operations.prune([SERVED])
    assert epoch.value == 1
    operations.delete([SERVED])
    assert epoch.value == 2
    operations.update([SERVED])
    operations.prune([])
    assert epoch.value == 4
