"""containerd of a node: configured, started in the node's namespaces, given its images.

In: a node that is built. Out: a daemon that serves the Container Runtime Interface on a socket below the node's
/var/lib/kubelet, so that the machine sees it, too. Everything it makes lies in the node: its processes in the node's
cgroup, its files on a tmpfs and its mounts in the node's mount namespace, which go with the node.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from kubelab.cri import layout, pause
from kubelab.lab import processes
from kubelab.lab.errors import LabError
from kubelab.underlay import cgroups, controllers
from kubelab.underlay.node import KUBELET_DIRECTORY, NodeSpace

COMMANDS = ("containerd", "containerd-shim-runc-v2", "ctr", "runc")
SOCKET = "containerd.sock"
ADDRESS = f"{KUBELET_DIRECTORY}/{SOCKET}"
GROUP = "containerd/daemon"
"""Of containerd and its shims."""

IMAGES = "images"
"""Below the node's /var/lib/kubelet while tars are imported."""

START = 20.0
"""Seconds for the daemon to listen."""

# The streaming server is for the kubelet alone, which is in the same network namespace.
_CONFIG = """version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{address}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_cgroup = {unlimited}
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"""

# Its root needs a file system that can be an overlay's upper, which the node's own root is not. The link is where
# people's tools look.
_SCRIPT = f"""
mkdir -p /var/lib/containerd /run/containerd
mountpoint -q /var/lib/containerd || mount -t tmpfs -o mode=711 containerd /var/lib/containerd
ln -sfn {ADDRESS} /run/containerd/containerd.sock
exec unshare --mount --propagation unchanged sh -c "$1"
"""

# Beside cgroup v1, containerd and runc look for its hierarchies where the node has its cgroup2. So they get a mount
# namespace of their own, all other mounts of which the node shares.
_INSIDE = f"""
if [ -d {controllers.INSIDE} ]; then
  mount --make-private /sys/fs/cgroup && mount --rbind {controllers.INSIDE} /sys/fs/cgroup || exit
  for hierarchy in /sys/fs/cgroup/*/; do
    [ $hierarchy = /sys/fs/cgroup/unified/ ] || echo $$ > $hierarchy/cgroup.procs || exit
  done
fi
exec containerd --config {KUBELET_DIRECTORY}/containerd.toml
"""


def container_group(node: Path, pod_uid: str, identifier: str) -> Path:
    """The cgroup of a container, below that of its node: in its pod's; beside containerd's when there are no limits."""
    group = node / "kubepods" / f"pod{pod_uid}" / identifier
    return group if group.exists() else (node / GROUP).parent / identifier


def container_names(space: NodeSpace, pod_uid: str) -> dict[str, str]:
    """id -> name of a pod's containers that run in containerd, as the node's kubelet has recorded them."""
    found = {}
    for record in (space.kubelet / "pods" / pod_uid / "containers").glob("*/state.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found[str(json.loads(record.read_text())["process"]["container"])] = record.parent.name
    return found


def lacks() -> str:
    """What this machine has not got of it; empty when it has everything."""
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    return f"{', '.join(missing)}: not found: apt-get install containerd runc" if missing else ""


def start(space: NodeSpace, log: Path) -> tuple[int, int]:
    """Starts the daemon, for the first time or again; (pid, start time). `await_ready` comes next."""
    # Without controllers runc fails at the limits that containerd sets even for containers that want none.
    unlimited = "false" if controllers.lent(space.cgroup) >= controllers.LIMITS else "true"
    config = _CONFIG.format(address=ADDRESS, pause=pause.IMAGE, unlimited=unlimited)
    (space.kubelet / "containerd.toml").write_text(config)
    (space.kubelet / SOCKET).unlink(missing_ok=True)
    cgroups.create(space.cgroup / GROUP)
    return processes.start(space.argv(["sh", "-c", _SCRIPT, "sh", _INSIDE], group=GROUP), log)


def await_ready(space: NodeSpace, record: tuple[int, int], log: Path) -> None:
    """Until it listens. Raises LabError with the end of its log."""
    deadline = time.monotonic() + START
    while not _listens(space.kubelet / SOCKET):
        if not processes.alive(record) or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise LabError(f"containerd of {space.name} does not listen; the end of its log:\n{tail}")
        time.sleep(0.02)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as end:
        try:
            end.connect(str(path))
        except OSError:
            return False
        return True


def write_pause(archive: Path) -> None:
    """The image of sandboxes as a tar. Raises LabError on a machine that it was not written for."""
    try:
        layout.write(pause.contents(), pause.IMAGE, archive)
    except KeyError as error:
        known = ", ".join(pause.CODE)
        raise LabError(f"runtime containerd: no image of sandboxes for {error}, only for {known}") from None


def import_image(space: NodeSpace, archive: Path) -> None:
    """Gives the node an image. Raises LabError with the importer's words."""
    directory = space.kubelet / IMAGES
    directory.mkdir(exist_ok=True)
    inside = directory / f"{os.getpid()}-{archive.name}"
    try:
        shutil.copy(archive, inside)
        path = f"{KUBELET_DIRECTORY}/{IMAGES}/{inside.name}"
        done = ctr(space, "images", "import", path)
    finally:
        inside.unlink(missing_ok=True)
    if done.returncode:
        raise LabError(f"{archive}: {space.name}: containerd does not take it: {done.stderr.strip() or done.stdout}")


def ctr(space: NodeSpace, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs ctr against the node's containerd, in the namespace of its Kubernetes containers."""
    argv = space.argv(["ctr", "-a", ADDRESS, "-n", "k8s.io", *words])
    return subprocess.run(argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def images(space: NodeSpace) -> list[tuple[str, str]]:
    """(name, digest) of the node's images, without their ids and the one of sandboxes. Raises LabError."""
    return [(name, digest) for name, digest in _references(space) if _tagged(name) and name != pause.IMAGE]


def remove_image(space: NodeSpace, name: str) -> bool:
    """Whether the node had it. Containers that run go on. Raises LabError."""
    if name not in dict(_references(space)):
        return False
    _remove(space, [name])
    prune(space)
    return True


def prune(space: NodeSpace) -> None:
    """Images that lost their last name, to a newer one or by removal, go. Containers of them go on."""
    references = _references(space)
    named = {digest for name, digest in references if _tagged(name)}
    _remove(space, [name for name, digest in references if digest not in named])


def _tagged(name: str) -> bool:
    return "@" not in name and not name.startswith("sha256:")


def _references(space: NodeSpace) -> list[tuple[str, str]]:
    """(name, digest): under one image's tags, its digest and its id."""
    done = ctr(space, "images", "ls")
    if done.returncode:
        raise LabError(f"{space.name}: containerd does not list its images: {done.stderr.strip()}")
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return [(row[0], row[2]) for row in rows]


def _remove(space: NodeSpace, names: list[str]) -> None:
    if names and (done := ctr(space, "images", "rm", "--sync", *names)).returncode:
        raise LabError(f"{space.name}: containerd does not remove {', '.join(names)}: {done.stderr.strip()}")
