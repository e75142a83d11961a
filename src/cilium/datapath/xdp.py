"""XDP programs on devices: in the driver where that works, in the stack where that will do.

In: a loaded program and a device. Out: `KernelXdp`, the port `XdpLinks`: links pinned at <directory>/<device>-xdp,
which outlive the agent and are updated in place.
A veth only passes on what XDP sends if its other end takes frames as a driver would: with a program of its own, or with
GRO. Otherwise they vanish without a word, so that is asked beforehand.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from cilium.datapath.errors import KernelError, XdpRefused
from cilium.datapath.generated.enums import NetdevFlags
from cilium.datapath.hooks import XDP, XdpAttachment, XdpMode
from cilium.datapath.libbpf.objects import Program
from cilium.datapath.links import PinnedLinks, Target, parse_pin_name, pin_name
from cilium.datapath.netlink.port import Netlink, NetlinkError
from cilium.datapath.netlink.xdp_features import XdpFeatures, xdp_features
from cilium.datapath.paths import LINK_DIRECTORY

# BPF_LINK_TYPE_XDP and BPF_XDP, include/uapi/linux/bpf.h; XDP_FLAGS_*, XDP_ATTACHED_*, include/uapi/linux/if_link.h
LINK_XDP, ATTACH_XDP = 6, 37
FLAGS = {XdpMode.NATIVE: 1 << 2, XdpMode.GENERIC: 1 << 1}
ATTACHED = {1: XdpMode.NATIVE, 2: XdpMode.GENERIC}
Obstacle = tuple[str, str]
"""What stands in the way, and what to do about it."""
REMEDY = "set loadBalancer.acceleration to best-effort or disabled"
OBSTACLES: dict[int, Obstacle] = {
    errno.EOPNOTSUPP: ("its driver has no native XDP", REMEDY),
    errno.ERANGE: ("its MTU is too large for native XDP", f"lower the MTU, or {REMEDY}"),
    errno.ENOSPC: ("it has too few receive queues for native XDP", f"give it more (ethtool -L), or {REMEDY}"),
    errno.EBUSY: ("another XDP program is attached", "remove that (ip link set dev {device} xdp off)"),
    errno.EEXIST: ("another XDP program is attached", "remove that (ip link set dev {device} xdp off)"),
    errno.ENODEV: ("there is no such device any more", "nothing is to be done"),
}


class KernelXdp:
    """`XdpLinks` of the kernel."""

    def __init__(self, directory: Path = LINK_DIRECTORY) -> None:
        self._links = PinnedLinks(directory)
        self._refused: dict[tuple[str, int], Obstacle] = {}
        """Devices that refused native mode: not asked again and again, since each time takes the program away."""

    def attach(
        self, device: str, ifindex: int, programs: Mapping[XdpMode, Program], *, fallback: bool = False
    ) -> XdpMode:
        """See XdpLinks."""
        key = (device, ifindex)
        obstacle = self._obstacle(device, ifindex) or (self._refused.get(key) if fallback else None)
        current = self._mode(device, ifindex)
        if obstacle is None:
            try:
                return self._put(device, ifindex, programs, XdpMode.NATIVE, current)
            except KernelError as error:
                obstacle = self._refused[key] = _obstacle_of(error, device)
                current = None
        if not fallback:
            self._links.remove(pin_name(device, XDP))  # what it sends would be lost
            raise XdpRefused(device, *obstacle)
        try:
            return self._put(device, ifindex, programs, XdpMode.GENERIC, current)
        except KernelError as error:
            raise XdpRefused(device, *_obstacle_of(error, device)) from error

    def detach(self, device: str) -> None:
        """See XdpLinks."""
        self._links.remove(pin_name(device, XDP))
        for key in [key for key in self._refused if key[0] == device]:
            del self._refused[key]

    def attached(self) -> list[XdpAttachment]:
        """See XdpLinks."""
        found = []
        for name in self._links.names():
            device, hook = parse_pin_name(name)
            if hook != XDP:
                continue
            with self._links.opened(name) as (fd, info):
                if fd is not None and info.type == LINK_XDP:
                    found.append(XdpAttachment(device, info.words[0] & 0xFFFFFFFF, info.prog_id))
        return found

    def flags(self, ifindex: int, kind: str) -> NetdevFlags:
        """See XdpLinks. A device that cannot be asked any more has none."""
        found = NetdevFlags.TX_WAITS if kind == "veth" else NetdevFlags(0)
        try:
            features = xdp_features(ifindex) or XdpFeatures(0)
        except NetlinkError:
            return found
        return found | NetdevFlags.TAKES_FRAMES if features & XdpFeatures.NDO_XMIT else found

    def _put(
        self,
        device: str,
        ifindex: int,
        programs: Mapping[XdpMode, Program],
        mode: XdpMode,
        current: XdpMode | None,
    ) -> XdpMode:
        name = pin_name(device, XDP)
        if current is not None and current is not mode:
            self._links.remove(name)  # a device runs either; until the next line, packets go on to tc
        self._links.put(name, Target(LINK_XDP, ATTACH_XDP, ifindex, (ifindex,), FLAGS[mode]), programs[mode])
        return mode

    def _mode(self, device: str, ifindex: int) -> XdpMode | None:
        """How our program runs on the device now; None: it does not."""
        if not any(each.device == device and each.ifindex == ifindex for each in self.attached()):
            return None
        link = Netlink().link(device)
        return ATTACHED.get(link.xdp) if link is not None else None

    @staticmethod
    def _obstacle(device: str, ifindex: int) -> Obstacle | None:
        """What speaks against native mode. Raises XdpRefused when there is no such device."""
        try:
            features, link = xdp_features(ifindex), Netlink().link(device)
        except NetlinkError as error:
            raise XdpRefused(device, *OBSTACLES.get(error.errno, (str(error), REMEDY))) from error
        if features is not None and not features & XdpFeatures.BASIC:
            return OBSTACLES[errno.EOPNOTSUPP]
        if link is not None and link.kind == "veth" and not (features or 0) & XdpFeatures.NDO_XMIT:
            return (
                "the other end of this veth does not take what XDP sends",
                f"switch GRO on there (ethtool -K PEER gro on), or {REMEDY}",
            )
        return None


def _obstacle_of(error: KernelError, device: str) -> Obstacle:
    what, remedy = OBSTACLES.get(error.errno, (str(error), REMEDY))
    return what, remedy.format(device=device)
