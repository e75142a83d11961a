"""Programs at their hooks and rows of cilium_netdev, over fakes."""

from __future__ import annotations

from ipaddress import ip_address

import numpy as np

from cilium.datapath.fakes import FakeDeviceLinks, FakeMap
from cilium.datapath.hooks import Direction
from cilium.datapath.libbpf.objects import Program
from cilium.features.programs.ops import AttachmentOps, NetdevOps
from cilium.features.programs.rows import Attachment, NetdevEntry
from cilium.tables.types import Ifindex

PROGRAMS = {name: Program(name, "tc", number) for number, name in enumerate(("from_lxc", "to_lxc"), 3)}
IN = Attachment("lxc7", Ifindex(12), "ingress", "from_lxc")
OUT = Attachment("lxc7", Ifindex(12), "egress", "to_lxc")


def test_a_hook_that_fails_is_its_own_error() -> None:
    links = FakeDeviceLinks()
    operations = AttachmentOps(links=links, programs=PROGRAMS)
    links.fail_next(1)
    assert set(operations.update([IN, OUT])) == {("lxc7", "ingress")}
    assert set(links.programs) == {("lxc7", Direction.EGRESS)}
    assert not operations.update([IN, OUT])
    assert links.programs["lxc7", Direction.INGRESS] == (12, PROGRAMS["from_lxc"])


def test_programs_are_detached_and_leftovers_pruned() -> None:
    links = FakeDeviceLinks()
    operations = AttachmentOps(links=links, programs=PROGRAMS)
    operations.update([IN, OUT, Attachment("lxc8", Ifindex(13), "ingress", "from_lxc")])
    assert not operations.delete([OUT, OUT])
    operations.prune([IN])
    assert set(links.programs) == {("lxc7", Direction.INGRESS)}


def test_a_program_that_was_not_loaded_is_an_error_of_its_row() -> None:
    operations = AttachmentOps(links=FakeDeviceLinks(), programs={})
    assert set(operations.update([IN])) == {IN.key}


def test_rows_of_devices() -> None:
    port = FakeMap("cilium_netdev")
    operations = NetdevOps(port)
    both = NetdevEntry(Ifindex(2), "02:00:00:00:00:01", ip_address("172.30.0.1"), ip_address("fd30::1"))
    assert not operations.update([both, NetdevEntry(Ifindex(3), "")])
    values, found = port.lookup(np.array([2, 3], np.uint32))
    assert found.all()
    assert bytes(values["masquerade4"][0]).endswith(ip_address("172.30.0.1").packed)
    assert bytes(values["masquerade6"][0]) == ip_address("fd30::1").packed
    assert bytes(values["mac"][0]).hex(":") == "02:00:00:00:00:01"
    assert not values["masquerade4"][1].any()
    operations.prune([both])
    assert len(port) == 1
    port.fail_next(1)
    assert set(operations.delete([both])) == {2}
    assert not operations.delete([both])
    assert len(port) == 0
