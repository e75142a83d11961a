"""Whether this machine can carry a lab: each need tried, each failure named with its remedy.

In: nothing. Out: findings; everything that was made for a try is gone again (it lived in a child's namespaces).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubelab.lab.errors import LabError
from kubelab.underlay import cgroups, namespaces, network, syscalls

BINARIES = {"ip": "iproute2", "nsenter": "util-linux", "sh": "dash"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One need; ``problem`` is empty when it is met."""

    need: str
    problem: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem


def preflight() -> list[Finding]:
    """All findings, in order; without root only the first ones can be made."""
    found = [_root(), *(_binary(name, package) for name, package in BINARIES.items())]
    if all(finding.ok for finding in found):
        found += [_try(need, check, remedy) for need, check, remedy in _CHECKS]
    return found


def require() -> None:
    """Raises LabError naming everything that is missing."""
    missing = [finding for finding in preflight() if not finding.ok]
    if missing:
        lines = [f"{f.need}: {f.problem}: {f.remedy}" for f in missing]
        raise LabError("this machine cannot carry a lab:\n  " + "\n  ".join(lines))


def require_root() -> None:
    """Raises LabError for anybody else."""
    if not (finding := _root()).ok:
        raise LabError(f"{finding.need}: {finding.problem}: {finding.remedy}")


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root")
    return Finding("root", f"running as user {os.geteuid()}", "run as root (sudo)")


def _binary(name: str, package: str) -> Finding:
    if shutil.which(name):
        return Finding(f"command {name}")
    return Finding(f"command {name}", "not found", f"apt-get install {package}")


def _try(need: str, check: Callable[[], None], remedy: str) -> Finding:
    try:
        check()
    except (OSError, namespaces.ChildError, cgroups.NoCgroup2Error, network.NetworkError) as error:
        return Finding(need, str(error).splitlines()[0], remedy)
    return Finding(need)


def _namespaces() -> None:
    flags = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP
    namespaces.run_in_child(lambda: syscalls.unshare(flags | syscalls.CLONE_NEWPID))


def _cgroup2() -> None:
    probe = cgroups.mount_point() / f"kubelab-preflight-{os.getpid()}"
    probe.mkdir()
    probe.rmdir()


def _in_mounts(body: Callable[[str], None]) -> Callable[[], None]:
    def check() -> None:
        with tempfile.TemporaryDirectory(prefix="kubelab-") as directory:

            def inside() -> None:
                syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
                syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
                syscalls.mount("tmpfs", directory, "tmpfs")
                body(directory)

            namespaces.run_in_child(inside)

    return check


def _bpffs(directory: str) -> None:
    syscalls.mount("bpf", directory, "bpf")


def _overlay(directory: str) -> None:
    for part in ("upper", "work", "root"):
        os.mkdir(f"{directory}/{part}")
    options = f"lowerdir=/,upperdir={directory}/upper,workdir={directory}/work"
    syscalls.mount("overlay", f"{directory}/root", "overlay", 0, options)
    Path(directory, "root/etc/kubelab-preflight").touch()


def _link(*commands: str) -> Callable[[], None]:
    def inside() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        network.batch(commands)

    return lambda: namespaces.run_in_child(inside)


def _ipv6() -> None:
    if (
        not Path("/proc/sys/net/ipv6").exists()
        or Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").read_text()[0] == "1"
    ):
        raise OSError("IPv6 is switched off")


def _tcx() -> None:
    """Loads the smallest program and links it to ``lo`` of a namespace of its own (bpf(2), BPF_LINK_CREATE)."""
    number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)

    def bpf(command: int, attributes: bytes) -> int:
        result = int(
            libc.syscall(ctypes.c_long(number), ctypes.c_long(command), attributes, ctypes.c_long(len(attributes)))
        )
        if result < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return result

    def inside() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        code = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))  # r0 = 0; exit
        text = ctypes.create_string_buffer(b"GPL\0")
        load = struct.pack("=IIQQIIQII", 3, 2, ctypes.addressof(code), ctypes.addressof(text), 0, 0, 0, 0, 0)
        program = bpf(5, load.ljust(128, b"\0"))
        bpf(28, struct.pack("=IIII", program, 1, 46, 0).ljust(64, b"\0"))  # lo has index 1; 46 is tcx ingress

    namespaces.run_in_child(inside)


_KERNEL = "use a kernel built with it"
_CHECKS: tuple[tuple[str, Callable[[], None], str], ...] = (
    ("namespaces", _namespaces, "CONFIG_NET_NS, PID_NS, UTS_NS, CGROUPS; in a container: run it privileged"),
    ("cgroup2", _cgroup2, "mount -t cgroup2 none /sys/fs/cgroup/unified (in a container: writable)"),
    ("bpffs", _in_mounts(_bpffs), f"{_KERNEL}: CONFIG_BPF_SYSCALL"),
    ("overlayfs", _in_mounts(_overlay), f"{_KERNEL}: CONFIG_OVERLAY_FS, CONFIG_TMPFS_XATTR"),
    ("IPv6", _ipv6, "sysctl net.ipv6.conf.all.disable_ipv6=0, without ipv6.disable=1 on the kernel's command line"),
    ("bridge and veth", _link("link add name br0 type bridge", "link add name veth0 type veth peer name veth1"),
     f"{_KERNEL}: CONFIG_BRIDGE, CONFIG_VETH"),
    ("vxlan", _link("link add name vxlan0 type vxlan external dstport 8472"), f"{_KERNEL}: CONFIG_VXLAN"),
    ("tcx", _tcx, "Linux 6.6 or newer with CONFIG_NET_XGRESS"),
)  # fmt: skip
