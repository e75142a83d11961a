"""Programs at their hooks, XDP where it is asked for, and rows of cilium_netdev, over fakes."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

import numpy as np

from cilium.datapath.fakes import FakeDeviceLinks, FakeMap, FakeXdpLinks
from cilium.datapath.generated.enums import NetdevFlags
from cilium.datapath.hooks import Direction, XdpMode
from cilium.datapath.libbpf.objects import Program
from cilium.features.programs.ops import AttachmentOps, NetdevOps
from cilium.features.programs.rows import Attachment, NetdevEntry, XdpDevice
from cilium.state import Table
from cilium.tables.types import Ifindex

PROGRAMS = {
    name: Program(name, "tc", number)
    for number, name in enumerate(("from_lxc", "to_lxc", "from_wire", "from_wire_generic"), 3)
}
IN = Attachment("lxc7", Ifindex(12), "ingress", "from_lxc")
OUT = Attachment("lxc7", Ifindex(12), "egress", "to_lxc")
WIRE = Attachment("eth0", Ifindex(2), "xdp", "from_wire")


class Bench:
    """The operations over fakes; `modes`: what they say of devices."""

    def __init__(self, programs: Mapping[str, Program] | None = None, *, fallback: bool = False) -> None:
        self.links, self.xdp = FakeDeviceLinks(), FakeXdpLinks()
        self.xdp_devices: Table[str, XdpDevice] = Table("xdp-devices", key=lambda row: row.device)
        self.operations = AttachmentOps(
            links=self.links,
            xdp=self.xdp,
            programs=PROGRAMS if programs is None else programs,
            fallback=fallback,
            modes=self.xdp_devices.writer("test"),
        )

    @property
    def modes(self) -> dict[str, str]:
        return {row.device: row.mode for row in self.xdp_devices.snapshot()}


def test_a_hook_that_fails_is_its_own_error() -> None:
    bench = Bench()
    bench.links.fail_next(1)
    assert set(bench.operations.update([IN, OUT])) == {("lxc7", "ingress")}
    assert set(bench.links.programs) == {("lxc7", Direction.EGRESS)}
    assert not bench.operations.update([IN, OUT])
    assert bench.links.programs["lxc7", Direction.INGRESS] == (12, PROGRAMS["from_lxc"])


def test_programs_are_detached_and_leftovers_pruned() -> None:
    bench = Bench()
    bench.operations.update([IN, OUT, Attachment("lxc8", Ifindex(13), "ingress", "from_lxc"), WIRE])
    assert not bench.operations.delete([OUT, OUT])
    bench.operations.prune([IN, WIRE])
    assert set(bench.links.programs) == {("lxc7", Direction.INGRESS)}
    assert bench.modes == {"eth0": "native"}
    bench.operations.prune([IN])
    assert (bench.xdp.programs, bench.modes) == ({}, {})


def test_a_program_that_was_not_loaded_is_an_error_of_its_row() -> None:
    assert set(Bench({}).operations.update([IN])) == {IN.key}


def test_native_xdp_that_a_device_refuses_is_an_error_and_tc_goes_on() -> None:
    bench = Bench()
    bench.operations.update([WIRE])
    bench.xdp.refusing.add("eth0")
    tc = Attachment("eth0", Ifindex(2), "ingress", "from_lxc")
    errors = bench.operations.update([WIRE, tc])
    assert "XDP on eth0: its driver has no native XDP" in str(errors[WIRE.key])
    assert set(errors) == {WIRE.key}
    assert bench.modes == {}
    assert set(bench.links.programs) == {("eth0", Direction.INGRESS)}


def test_best_effort_takes_what_there_is() -> None:
    bench = Bench(fallback=True)
    bench.xdp.refusing.add("eth0")
    assert not bench.operations.update([WIRE, Attachment("eth1", Ifindex(3), "xdp", "from_wire")])
    assert bench.modes == {"eth0": "generic", "eth1": "native"}
    assert bench.xdp.programs["eth0"] == (2, PROGRAMS["from_wire_generic"], XdpMode.GENERIC)
    bench.operations.delete([WIRE])
    assert bench.modes == {"eth1": "native"}


def test_rows_of_devices() -> None:
    port = FakeMap("cilium_netdev")
    xdp = FakeXdpLinks()
    xdp.taking.add(3)
    operations = NetdevOps(port, xdp)
    both = NetdevEntry(Ifindex(2), "02:00:00:00:00:01", "", ip_address("172.30.0.1"), ip_address("fd30::1"))
    assert not operations.update([both, NetdevEntry(Ifindex(3), "")])
    values, found = port.lookup(np.array([2, 3], np.uint32))
    assert found.all()
    assert bytes(values["masquerade4"][0]).endswith(ip_address("172.30.0.1").packed)
    assert bytes(values["masquerade6"][0]) == ip_address("fd30::1").packed
    assert bytes(values["mac"][0]).hex(":") == "02:00:00:00:00:01"
    assert not values["masquerade4"][1].any()
    assert values["flags"].tolist() == [0, NetdevFlags.TAKES_FRAMES]
    operations.prune([both])
    assert len(port) == 1
    port.fail_next(1)
    assert set(operations.delete([both])) == {2}
    assert not operations.delete([both])
    assert len(port) == 0
