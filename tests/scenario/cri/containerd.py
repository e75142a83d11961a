"""containerd and runc in a lab's node, spoken to over the Container Runtime Interface as a kubelet does.

In: a node, a sandbox's pod. Out: sandboxes with a network from the node's CNI plugin. Everything containerd owns lies
in one directory and one cgroup of the node, and goes with `close`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from scenario.cri import image

from kubelab.underlay import cgroups
from kubelab.underlay.node import KUBELET_DIRECTORY, NodeSpace

HERE = Path(__file__).parent
IMAGE = "example.org/sandbox:1"
GROUP = "cri"
INSIDE = f"{KUBELET_DIRECTORY}/{GROUP}"
"""containerd's directory as the node sees it: on a tmpfs, because an overlay cannot be the upper of another."""

# disable_cgroup: a node's cgroups have no controllers, which runc would need for the resources that containerd sets.
CONFIG = f"""version = 2
root = "{INSIDE}/root"
state = "{INSIDE}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{INSIDE}/s"
[plugins."io.containerd.internal.v1.opt"]
  path = "{INSIDE}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_cgroup = true
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


def lacks() -> str:
    """Why containerd cannot run here; empty when it can."""
    missing = [name for name in ("containerd", "ctr", "runc", "clang-19") if shutil.which(name) is None]
    return f"needs {', '.join(missing)}: make setup installs them" if missing else ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox that runs, as the runtime tells of it."""

    id: str
    addresses: dict[int, str]
    netns: str


class Containerd:
    """One containerd, started on construction. Raises CalledProcessError, AssertionError with the end of its log."""

    def __init__(self, space: NodeSpace) -> None:
        self._space, self._outside = space, space.kubelet / GROUP
        self._messages, services = grpc.protos_and_services("scenario/cri/runtime.proto")
        self._outside.mkdir()
        (self._outside / "config.toml").write_text(CONFIG)
        image.build(HERE / "sandbox.c", IMAGE, self._outside / "image.tar")
        cgroups.create(space.cgroup / GROUP)
        with (self._outside / "log").open("wb") as log:
            argv = space.argv(["containerd", "--config", f"{INSIDE}/config.toml"], group=GROUP)
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._channel = grpc.insecure_channel(f"unix:{self._outside}/s")
        self._runtime = services.RuntimeServiceStub(self._channel)
        self._images = services.ImageServiceStub(self._channel)
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends containerd and whatever it has started, and takes its files and mounts away."""
        self._channel.close()
        cgroups.remove(self._space.cgroup / GROUP)
        self._process.wait()
        unmount = f"findmnt -rno TARGET | grep '^{INSIDE}/' | sort -r | xargs -r -n1 umount -l"
        subprocess.run(self._space.argv(["sh", "-c", unmount]), check=True)
        shutil.rmtree(self._outside)

    # -- the interface --------------------------------------------------------------------------------------------

    def run_sandbox(self, pod: dict[str, Any], *, attempt: int = 0) -> Sandbox:
        """RunPodSandbox for a pod of the API. Raises grpc.RpcError with the plugin's words."""
        meta = pod["metadata"]
        config = self._messages.PodSandboxConfig(
            metadata=self._messages.PodSandboxMetadata(
                name=meta["name"], uid=meta["uid"], namespace=meta["namespace"], attempt=attempt
            ),
            hostname=meta["name"],
        )
        request = self._messages.RunPodSandboxRequest(config=config)
        identifier = self._runtime.RunPodSandbox(request, timeout=60).pod_sandbox_id
        return self.sandbox(identifier)

    def sandbox(self, identifier: str) -> Sandbox:
        """PodSandboxStatus."""
        request = self._messages.PodSandboxStatusRequest(pod_sandbox_id=identifier, verbose=True)
        answer = self._runtime.PodSandboxStatus(request, timeout=10)
        network = answer.status.network
        ips = [network.ip, *(entry.ip for entry in network.additional_ips)]
        namespaces = json.loads(answer.info["info"])["runtimeSpec"]["linux"]["namespaces"]
        netns = next(entry["path"] for entry in namespaces if entry["type"] == "network")
        return Sandbox(identifier, {6 if ":" in ip else 4: ip for ip in ips}, netns)

    def stop_sandbox(self, sandbox: Sandbox) -> None:
        """StopPodSandbox: the network goes. Idempotent."""
        try:
            self._runtime.StopPodSandbox(self._messages.PodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=60)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:  # this containerd says so of what it has removed
                raise

    def remove_sandbox(self, sandbox: Sandbox) -> None:
        """RemovePodSandbox. Idempotent."""
        self._runtime.RemovePodSandbox(self._messages.PodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=60)

    # -- start ----------------------------------------------------------------------------------------------------

    def _await_ready(self) -> None:
        self._until(lambda: self._status() is not None, "containerd answers")
        imported = ["ctr", "-a", f"{INSIDE}/s", "-n", "k8s.io", "images", "import", f"{INSIDE}/image.tar"]
        subprocess.run(self._space.argv(imported), check=True, stdout=subprocess.DEVNULL)
        spec = self._messages.ImageStatusRequest(image=self._messages.ImageSpec(image=IMAGE))
        self._until(lambda: self._images.ImageStatus(spec, timeout=10).image.id, "the image is known")
        self._until(lambda: all((self._status() or {}).values()), "runtime and network are ready")

    def _status(self) -> dict[str, bool] | None:
        try:
            answer = self._runtime.Status(self._messages.StatusRequest(), timeout=10, wait_for_ready=False)
        except grpc.RpcError:
            return None
        return {condition.type: condition.status for condition in answer.status.conditions}

    def _until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            tail = (self._outside / "log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"containerd ended: {tail}"
            assert time.monotonic() < deadline, f"not within 30 s: {what}; {self._status()}; {tail}"
            time.sleep(0.05)
