"""The faults that the stand-ins produce on demand; that they behave like the kernel is proved in tests/kernel."""

from __future__ import annotations

import errno
from ipaddress import ip_interface

import numpy as np
import pytest

from cilium.datapath.errors import KernelError, MapFull, ObjectError
from cilium.datapath.fakes import FakeDeviceLinks, FakeMap, FakeNetlink
from cilium.datapath.generated import POLICY_KEY
from cilium.datapath.hooks import Direction
from cilium.datapath.libbpf.objects import Program
from cilium.datapath.maps import BpfMap, MapWriteError
from cilium.datapath.netlink.links import LinkChange
from cilium.datapath.netlink.port import NetlinkBatchError, NetlinkPort
from cilium.datapath.netlink.rows import Address


def keys(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(list(pairs), POLICY_KEY)


def values(*numbers: int) -> np.ndarray:
    return np.array(numbers, "<u4")


def test_the_next_writes_fail_and_the_others_are_done() -> None:
    fake = FakeMap("cilium_policy")
    port: BpfMap = fake
    fake.fail_next(2)
    with pytest.raises(MapWriteError) as caught:
        port.update(keys((1, 1), (1, 2), (1, 3)), values(1, 2, 3))
    assert {i: e.errno for i, e in caught.value.failures.items()} == {0: errno.ENOMEM, 1: errno.ENOMEM}
    assert len(fake) == 1
    fake.fail_next(error=errno.EBUSY)
    with pytest.raises(MapWriteError):
        port.delete(keys((1, 3)))
    port.delete(keys((1, 3)))
    assert len(fake) == 0


def test_a_capacity_below_the_specified_one() -> None:
    fake = FakeMap("cilium_policy", capacity=1)
    with pytest.raises(MapWriteError) as caught:
        fake.update(keys((1, 1), (1, 2)), values(1, 2))
    assert isinstance(caught.value.failures[1], MapFull)
    fake.update(keys((1, 1)), values(9))
    assert fake.lookup(keys((1, 1)))[0].tolist() == [9]


def test_writes_are_counted() -> None:
    fake = FakeMap("cilium_policy")
    fake.update(keys((1, 1), (1, 2)), values(1, 2))
    fake.delete(keys((1, 1), (7, 7)))
    assert fake.writes == 3


def test_rings_have_no_elements() -> None:
    with pytest.raises(ObjectError, match="RINGBUF"):
        FakeMap("cilium_events")


def test_netlink_faults() -> None:
    fake = FakeNetlink()
    port: NetlinkPort = fake
    eth0 = fake.add_link("eth0", up=False)
    fake.fail_next()
    with pytest.raises(NetlinkBatchError) as caught:
        port.put(LinkChange(name="eth0", up=True), Address(eth0.ifindex, ip_interface("10.0.0.1/32")))
    assert list(caught.value.failures) == [0]
    assert caught.value.first.errno == errno.ENOMEM
    assert [a.interface for a in port.addresses()] == [ip_interface("10.0.0.1/32")]


def test_attachment_faults() -> None:
    fake, program = FakeDeviceLinks(), Program("from_lxc", "tc", 5)
    fake.fail_next()
    with pytest.raises(KernelError, match="attach from_lxc to eth0 ingress"):
        fake.attach("eth0", 2, Direction.INGRESS, program)
    assert fake.attach("eth0", 2, Direction.INGRESS, program)
    assert not fake.attach("eth0", 2, Direction.INGRESS, program)
    assert [(a.device, a.ifindex, a.program_id) for a in fake.attached()] == [("eth0", 2, 5)]
    fake.detach("eth0", Direction.INGRESS)
    fake.detach("eth0", Direction.INGRESS)
    assert fake.attached() == []
