"""Rows of cilium_lxc: what a restart may and may not touch."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec
import pytest

from cilium.datapath.fakes.maps import FakeMap
from cilium.datapath.generated import EndpointFlags
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
