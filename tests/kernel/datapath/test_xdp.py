"""XDP on the real kernel: modes, what refuses them, links that outlive the agent and change in place."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from kernel.datapath.namespaces import Namespace, ip
from kernel.datapath.test_links import reachable

from cilium.datapath.errors import XdpRefused
from cilium.datapath.generated.enums import NetdevFlags
from cilium.datapath.hooks import XdpMode
from cilium.datapath.libbpf.objects import Program
from cilium.datapath.loader import LoadedObject, load
from cilium.datapath.netlink.netns import run_in_netns
from cilium.datapath.netlink.port import Netlink, NetlinkError
from cilium.datapath.netlink.xdp_features import XdpFeatures, xdp_features
from cilium.datapath.xdp import KernelXdp

pytestmark = pytest.mark.kernel
T = TypeVar("T")
NATIVE, GENERIC = XdpMode.NATIVE, XdpMode.GENERIC


class Device:
    """veth0 of the left namespace."""

    def __init__(self, pair: tuple[Namespace, Namespace], bpf_dir: Path, loaded: LoadedObject) -> None:
        self.left, self.right = pair
        self.directory, self.programs = bpf_dir / "links", loaded.programs
        self.links = KernelXdp(self.directory)

    def inside(self, action: Callable[[], T]) -> T:
        return run_in_netns(self.left.fd, action)

    @property
    def ifindex(self) -> int:
        return self.inside(lambda: socket.if_nametoindex("veth0"))

    def attach(self, program: str = "frame_pass", *, fallback: bool = False) -> XdpMode:
        wanted: Program = self.programs[program]
        both = {NATIVE: wanted, GENERIC: wanted}
        return self.inside(lambda: self.links.attach("veth0", self.ifindex, both, fallback=fallback))

    def runs(self) -> tuple[int, int]:
        """(mode as the kernel says it, the program's id)."""
        link = self.inside(lambda: Netlink().link("veth0"))
        assert link is not None
        (found,) = self.links.attached()
        return link.xdp, found.program_id

    def peer_takes_frames(self, on: bool = True) -> None:
        ip("netns", "exec", self.right.name, "ethtool", "-K", "veth0", "gro", "on" if on else "off")


@pytest.fixture
def device(pair: tuple[Namespace, Namespace], bpf_dir: Path, tiny: Path) -> Iterator[Device]:
    with load(tiny, pin_dir=bpf_dir) as loaded:
        made = Device(pair, bpf_dir, loaded)
        yield made
        made.links.detach("veth0")


def test_native_where_the_other_end_takes_frames(device: Device) -> None:
    device.peer_takes_frames()
    assert device.attach() is NATIVE
    assert device.runs() == (1, device.programs["frame_pass"].id)
    assert reachable(device.left, timeout=5)
    assert device.attach("frame_drop") is NATIVE
    assert device.runs() == (1, device.programs["frame_drop"].id)
    assert not reachable(device.left, timeout=0.2)
    device.links.detach("veth0")
    assert reachable(device.left, timeout=5)
    device.links.detach("veth0")  # absent: no error
    assert device.links.attached() == []


def test_a_veth_whose_other_end_takes_none_is_refused_with_the_remedy(device: Device) -> None:
    with pytest.raises(XdpRefused, match=r"^XDP on veth0: the other end.*ethtool -K PEER gro on.*best-effort"):
        device.attach()
    assert device.links.attached() == []
    assert reachable(device.left, timeout=5)


def test_what_can_no_longer_send_is_taken_away(device: Device) -> None:
    """Better tc than frames that vanish."""
    device.peer_takes_frames()
    device.attach()
    device.peer_takes_frames(False)
    with pytest.raises(XdpRefused):
        device.attach()
    assert device.links.attached() == []


def test_best_effort_runs_in_the_stack_until_the_driver_can(device: Device) -> None:
    assert device.attach(fallback=True) is GENERIC
    assert device.runs()[0] == 2
    assert reachable(device.left, timeout=5)
    assert device.attach("frame_drop", fallback=True) is GENERIC
    assert not reachable(device.left, timeout=0.2)
    device.peer_takes_frames()
    assert device.attach(fallback=True) is NATIVE
    assert device.runs() == (1, device.programs["frame_pass"].id)


def test_a_stricter_setting_replaces_what_ran_in_the_stack(device: Device) -> None:
    device.attach(fallback=True)
    device.peer_takes_frames()
    assert device.attach() is NATIVE


def test_a_restart_takes_over_what_runs(device: Device) -> None:
    device.peer_takes_frames()
    device.attach("frame_drop")
    device.links = KernelXdp(device.directory)
    assert [(found.device, found.ifindex) for found in device.links.attached()] == [("veth0", device.ifindex)]
    assert device.attach() is NATIVE
    assert reachable(device.left, timeout=5)


def test_a_driver_that_refuses_is_asked_once(device: Device) -> None:
    """Its MTU is too large: each attempt would take the program away for a moment."""
    device.peer_takes_frames()
    for side in (device.left, device.right):
        side.ip("link", "set", "veth0", "mtu", "9000")
    with pytest.raises(XdpRefused, match=r"MTU is too large for native XDP; lower the MTU"):
        device.attach()
    assert device.attach(fallback=True) is GENERIC
    for side in (device.left, device.right):
        side.ip("link", "set", "veth0", "mtu", "1500")
    assert device.attach(fallback=True) is GENERIC
    assert device.attach() is NATIVE


def test_somebody_elses_program_stays(device: Device, tiny: Path) -> None:
    device.left.ip("link", "set", "dev", "veth0", "xdpgeneric", "object", str(tiny), "section", "xdp")
    device.peer_takes_frames()
    for fallback in (False, True):
        with pytest.raises(XdpRefused, match=r"another XDP program is attached; remove that \(ip link set dev veth0"):
            device.attach(fallback=fallback)
    device.left.ip("link", "set", "dev", "veth0", "xdpgeneric", "off")
    assert device.attach() is NATIVE


def test_a_device_that_has_gone(device: Device) -> None:
    device.peer_takes_frames()
    device.attach()
    device.left.ip("link", "delete", "veth0")
    assert [(found.device, found.ifindex) for found in device.links.attached()] == [("veth0", 0)]
    with pytest.raises(XdpRefused, match="no such device"):
        device.inside(lambda: device.links.attach("veth0", 4711, {}, fallback=True))
    device.links.detach("veth0")
    assert device.links.attached() == []


def test_features(device: Device) -> None:
    def ask() -> XdpFeatures | None:
        return device.inside(lambda: xdp_features(device.ifindex))

    def flags(kind: str) -> NetdevFlags:
        return device.inside(lambda: device.links.flags(device.ifindex, kind))

    before = ask()
    assert before is not None
    assert before & XdpFeatures.BASIC
    assert not before & XdpFeatures.NDO_XMIT
    assert (flags("veth"), flags("")) == (NetdevFlags.TX_WAITS, NetdevFlags(0))
    device.peer_takes_frames()
    assert flags("veth") == NetdevFlags.TX_WAITS | NetdevFlags.TAKES_FRAMES
    with pytest.raises(NetlinkError, match="ENODEV"):
        device.inside(lambda: xdp_features(4711))
    assert device.links.flags(4711, "") == NetdevFlags(0)
