"""A node's namespaces: network, mount, UTS and cgroup, pinned to files so that they outlive any process.

In: names, addresses and the lab's state directory. Out: pinned namespaces whose root is an overlay of the machine's
root file system: everything a node writes stays in the lab.

What is private to a node: /run (and /var/run), /sys with a bpffs and, at /sys/fs/cgroup, its own cgroup2 subtree as
root (at /run/kubelab/cgroup those of cgroup v1, too), /etc/cni/net.d, /opt/cni/bin, /var/lib/cni, /var/lib/kubelet
(also visible to the machine, below the lab's state), host name, /etc/hosts, /etc/resolv.conf, the boot's id. Shared
with the machine: processes (/proc), devices (/dev), memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubelab.underlay import cgroups, controllers, namespaces, network, syscalls
from kubelab.underlay.addresses import Plan

LOWER = "/run/kubelab/root"
"""In a node: the machine's root, from which containers are layered."""

KUBELET_DIRECTORY = "/var/lib/kubelet"

_PSEUDO = """proc sysfs devtmpfs devpts tmpfs cgroup cgroup2 bpf mqueue hugetlbfs debugfs tracefs securityfs pstore
configfs fusectl nsfs autofs binfmt_misc efivarfs rpc_pipefs ramfs selinuxfs"""
"""Types of file systems without data of their own."""


@dataclass(frozen=True, slots=True)
class NodeSpace:
    """One node's place: names and files."""

    lab: str
    name: str
    directory: Path  # on the machine, on a tmpfs: <lab state>/nodes/<name>

    @property
    def net(self) -> Path:
        return network.netns(self.lab, self.name)

    def pin(self, kind: str) -> Path:
        return self.directory.parent.parent / "ns" / f"{self.name}.{kind}"

    @property
    def cgroup(self) -> Path:
        return cgroups.node_path(self.lab, self.name)

    @property
    def kubelet(self) -> Path:
        """The node's /var/lib/kubelet, seen from the machine."""
        return self.directory / "kubelet"

    def argv(self, command: list[str], *, group: str = "system") -> list[str]:
        """A command line that enters the node's cgroup and namespaces and runs ``command`` there."""
        enter = [f"--{flag}={self.pin(flag)}" for flag in ("uts", "cgroup", "mount")]
        script = 'echo 0 > "$0/cgroup.procs" && exec nsenter "$@"'
        cgroup = self.cgroup / group
        return ["sh", "-c", script, str(cgroup), f"--net={self.net}", *enter, "--wdns=/", "--", *command]


def create(space: NodeSpace, addresses: tuple[str, ...], plan: Plan) -> None:
    """Makes and pins the node's namespaces, plugs it into the underlay. Raises ChildError, NetworkError, OSError."""
    for part in ("upper", "work", "root", "kubelet"):
        (space.directory / part).mkdir(parents=True, exist_ok=True)
    (space.directory / "boot_id").write_text(f"{uuid.uuid4()}\n")
    cgroups.create(space.cgroup / "system")
    controllers.create(space.lab, space.name)

    def body() -> None:
        cgroups.join(space.cgroup)
        controllers.join(space.lab, space.name)
        flags = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP
        syscalls.unshare(flags)
        syscalls.sethostname(space.name)
        namespaces.loopback_up()
        build_root(space, addresses, plan)

    with namespaces.Child(body) as child:
        namespaces.pin(f"/proc/{child.pid}/ns/net", space.net)
        for flag, kind in (("mount", "mnt"), ("uts", "uts"), ("cgroup", "cgroup")):
            namespaces.pin(f"/proc/{child.pid}/ns/{kind}", space.pin(flag))
    controllers.delegate(space.cgroup)
    network.configure_node(space.lab, space.name, addresses, plan)


def build_root(space: NodeSpace, addresses: tuple[str, ...], plan: Plan) -> None:
    """Makes the node's mount tree and moves into it; runs in the node's fresh namespaces."""
    outside = outside_mounts()
    root = str(space.directory / "root")
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    options = f"lowerdir=/,upperdir={space.directory}/upper,workdir={space.directory}/work"
    syscalls.mount("overlay", root, "overlay", 0, options)
    for path in outside:
        Path(root + path).mkdir(parents=True, exist_ok=True)
        syscalls.bind(path, root + path, readonly=True)
    for path in ("/proc", "/dev"):
        syscalls.bind(path, root + path, recursive=True)
    syscalls.bind(str(space.directory / "boot_id"), f"{root}/proc/sys/kernel/random/boot_id")
    _mount_sys(root)
    syscalls.mount("tmpfs", root + "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    for path in ("/run/netns", "/run/lock", "/run/cilium", LOWER, KUBELET_DIRECTORY,
                 "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni"):  # fmt: skip
        Path(root + path).mkdir(parents=True, exist_ok=True)
    controllers.mount(root)
    syscalls.bind("/", root + LOWER, readonly=True)
    syscalls.bind(str(space.kubelet), root + KUBELET_DIRECTORY)
    _write_etc(Path(root), space.name, addresses, plan)
    (Path(root) / "run/kubelab/mounts").write_text("".join(f"{path}\n" for path in outside))
    os.chdir(root)
    syscalls.pivot_root(".", ".")  # the old root now lies on top of the new one (pivot_root(2), NOTES)
    syscalls.umount(".")
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SHARED)


def _mount_sys(root: str) -> None:
    syscalls.mount("sysfs", root + "/sys", "sysfs")
    syscalls.mount("bpf", root + "/sys/fs/bpf", "bpf", 0, "mode=0700")
    syscalls.mount("cgroup2", root + "/sys/fs/cgroup", "cgroup2")
    for kind, path in (("tracefs", "/sys/kernel/tracing"), ("debugfs", "/sys/kernel/debug")):
        with suppress(OSError):  # not every kernel has them
            syscalls.mount(kind, root + path, kind)


def _write_etc(root: Path, name: str, addresses: tuple[str, ...], plan: Plan) -> None:
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    lines += [f"{address} {name}" for address in addresses] + [f"{address} kubernetes" for address in plan.host]
    files = {
        "hosts": lines,
        "hostname": [name],
        "resolv.conf": [f"nameserver {address}" for address in plan.name_servers],
    }
    for file, content in files.items():
        path = root / "etc" / file
        path.unlink(missing_ok=True)  # on many machines a link out of /etc
        path.write_text("\n".join(content) + "\n")


def outside_mounts() -> list[str]:
    """Mount points, beside /, of file systems with data, and of those that hold this software: nodes see them too."""
    needed = [os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, __file__, sys.executable)]
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        target, kind = fields[4], fields[fields.index("-") + 1]
        target = target.encode().decode("unicode_escape")  # blanks are written as \040
        if target == "/" or target.startswith(("/proc", "/sys", "/dev", "/run", "/boot")) or not os.path.isdir(target):
            continue
        if kind not in _PSEUDO.split() or any(path.startswith(target + "/") for path in needed):
            found.add(target)
    return sorted(found)


def boot_id(space: NodeSpace) -> str:
    """Of this boot of the node."""
    return (space.directory / "boot_id").read_text().strip()


def destroy(space: NodeSpace, timeout: float = 5.0) -> None:
    """Ends everything in the node and removes its pins and cgroups; what is not there is no error. Raises BusyError."""
    cgroups.remove(space.cgroup, timeout=timeout)
    controllers.remove(space.lab, space.name, timeout=timeout)
    for flag in ("mount", "uts", "cgroup"):
        namespaces.unpin(space.pin(flag))
    namespaces.unpin(space.net)


def run(space: NodeSpace, command: list[str]) -> int:
    """Runs a command in the node, on the caller's terminal; its exit status."""
    return subprocess.run(space.argv(command), check=False).returncode
