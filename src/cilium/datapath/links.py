"""Programs at their hooks: links, pinned so that they outlive the agent, swapped in place.

In: a loaded program and where it belongs. Out: `DeviceLinks`, the port for programs on devices: tcx links, which pods'
devices get when there is time (`deferred`), or, on kernels before 6.6, clsact filters (`clsact`); and
`CgroupLinks` for programs on sockets.
A link is pinned at <directory>/<device>-<hook>. A restart finds it there and updates it between two packets; a link
whose device has gone is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cilium.datapath.clsact import ClsactLinks
from cilium.datapath.deferred import DeferredLinks
from cilium.datapath.errors import KernelError, NoSuchEntry
from cilium.datapath.hooks import Attachment, DeviceLinks, Direction
from cilium.datapath.libbpf import syscall
from cilium.datapath.libbpf.objects import Program
from cilium.datapath.mounts import ensure_bpf_directory
from cilium.datapath.paths import LINK_DIRECTORY

__all__ = [
    "Attachment",
    "CgroupLinks",
    "DeviceLinks",
    "Direction",
    "PinnedLinks",
    "TcxLinks",
    "device_links",
    "tcx_supported",
]

LOOPBACK_IFINDEX = 1
# BPF_LINK_TYPE_* and enum bpf_attach_type, include/uapi/linux/bpf.h
LINK_CGROUP, LINK_TCX = 3, 11
TCX_TYPES = {Direction.INGRESS: 46, Direction.EGRESS: 47}


def device_links(directory: Path = LINK_DIRECTORY) -> DeviceLinks:
    """The best way that this kernel has."""
    return DeferredLinks(TcxLinks(directory)) if tcx_supported() else ClsactLinks()


def tcx_supported() -> bool:
    """Linux 6.6 and later."""
    return syscall.query_supported(LOOPBACK_IFINDEX, TCX_TYPES[Direction.INGRESS])


@dataclass(frozen=True, slots=True)
class Target:
    """Where a link goes, and how to recognise one that is there: its kind and the first words of its information."""

    link_type: int
    attach_type: int
    handle: int
    """ifindex, or the descriptor of a cgroup."""
    words: tuple[int, ...]
    flags: int = 0
    """Of the link's creation."""

    def holds(self, info: Any) -> bool:
        return info.type == self.link_type and tuple(info.words[i] for i in range(len(self.words))) == self.words


class PinnedLinks:
    """Links as files of one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, name: str, target: Target, program: Program) -> bool:
        """Let the link `name` run `program` at `target`. Returns whether anything changed."""
        path = self.directory / name
        with self.opened(name) as (fd, info):
            if fd is not None and target.holds(info):
                if info.prog_id == program.id:
                    return False
                syscall.link_update(fd, program.fd)
                return True
            if fd is not None:
                path.unlink()
        ensure_bpf_directory(self.directory)
        created = syscall.link_create(program.fd, target.handle, target.attach_type, target.flags)
        try:
            syscall.pin(created, str(path))
        finally:
            os.close(created)  # the pin holds it; without one it goes
        return True

    def remove(self, name: str) -> None:
        """Detach and unpin; at once where the kernel can, so that the caller sees the effect."""
        with self.opened(name) as (fd, _):
            if fd is None:
                return
            with suppress(KernelError):  # its device or cgroup has gone, or this kind goes with its last reference
                syscall.link_detach(fd)
            (self.directory / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory)) if self.directory.is_dir() else []

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[int | None, Any]]:
        """(descriptor, link information) while the context lasts; (None, None) when nothing is pinned there."""
        try:
            fd = syscall.get(str(self.directory / name))
        except NoSuchEntry:
            yield None, None
            return
        try:
            yield fd, syscall.info(fd, "link_info")
        finally:
            os.close(fd)


def pin_name(device: str, hook: str) -> str:
    """The bpf file system reserves the dot, which names of VLAN devices contain; `%` the kernel forbids in names."""
    return f"{device.replace('.', '%2e')}-{hook}"


def parse_pin_name(name: str) -> tuple[str, str]:
    """(device, hook)."""
    device, _, hook = name.rpartition("-")
    return device.replace("%2e", "."), hook


class TcxLinks:
    """`DeviceLinks` by tcx: other programs on the device keep running before and after ours."""

    def __init__(self, directory: Path = LINK_DIRECTORY) -> None:
        self._links = PinnedLinks(directory)

    def attach(self, device: str, ifindex: int, direction: Direction, program: Program) -> bool:
        """See DeviceLinks."""
        kind = TCX_TYPES[direction]
        target = Target(LINK_TCX, kind, ifindex, (ifindex | kind << 32,))
        return self._links.put(pin_name(device, direction), target, program)

    def detach(self, device: str, direction: Direction) -> None:
        """See DeviceLinks."""
        self._links.remove(pin_name(device, direction))

    def attached(self) -> list[Attachment]:
        """See DeviceLinks."""
        found = []
        for name in self._links.names():
            device, hook = parse_pin_name(name)
            if hook not in list(Direction):
                continue
            with self._links.opened(name) as (fd, info):
                if fd is not None and info.type == LINK_TCX:
                    found.append(Attachment(device, Direction(hook), info.words[0] & 0xFFFFFFFF, info.prog_id))
        return found

    async def run(self) -> None:
        """See DeviceLinks. Nothing is left for later."""


class CgroupLinks:
    """Programs on a cgroup, one of ours per attach type."""

    def __init__(self, cgroup: Path, directory: Path = LINK_DIRECTORY) -> None:
        self._cgroup, self._links = cgroup, PinnedLinks(directory)

    def attach(self, name: str, attach_type: int, program: Program) -> bool:
        """Attach or replace; `attach_type` as in enum bpf_attach_type. Raises OSError when the cgroup is not there."""
        fd = os.open(self._cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # A cgroup's id is its inode number (kernfs, 64-bit).
            target = Target(LINK_CGROUP, attach_type, fd, (os.fstat(fd).st_ino, attach_type))
            return self._links.put(pin_name("cgroup", name), target, program)
        finally:
            os.close(fd)

    def detach(self, name: str) -> None:
        self._links.remove(pin_name("cgroup", name))
