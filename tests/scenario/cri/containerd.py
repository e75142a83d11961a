"""containerd and runc in a lab's node beside its kubelet, spoken to as a kubelet does, but call by call.

In: a node, a sandbox's pod. Out: sandboxes with a network from the node's CNI plugin. Everything containerd owns goes
with `close`.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from kubelab.cri import layout, pause
from kubelab.cri.proto import runtime_pb2 as cri
from kubelab.cri.proto import runtime_pb2_grpc as services
from kubelab.lab import containerd, processes
from kubelab.underlay import cgroups
from kubelab.underlay.node import NodeSpace

PROGRAM = Path(__file__).parent / "sandbox.c"


def lacks() -> str:
    """Why containerd cannot run here; empty when it can."""
    return containerd.lacks()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox that runs, as the runtime tells of it."""

    id: str
    addresses: dict[int, str]
    netns: str


class Containerd:
    """One containerd, started on construction. Raises CalledProcessError, LabError with the end of its log."""

    def __init__(self, space: NodeSpace, directory: Path) -> None:
        self._space, self._log = space, directory / "containerd.log"
        # Sandboxes answer: the image of theirs has a program that listens, in the place of one that waits.
        program, archive = directory / "sandbox", directory / "sandbox.tar"
        subprocess.run(["clang-19", "-static", "-O1", "-Wall", "-Werror", "-o", program, PROGRAM], check=True)
        contents = layout.Contents(files={"sandbox": program.read_bytes()}, entrypoint=["/sandbox"])
        layout.write(contents, pause.IMAGE, archive)
        self._record = containerd.start(space, self._log)
        self._channel = grpc.insecure_channel(f"unix:{space.kubelet / containerd.SOCKET}")
        self._runtime = services.RuntimeServiceStub(self._channel)
        self._images = services.ImageServiceStub(self._channel)
        try:
            containerd.await_ready(space, self._record, self._log)
            containerd.import_image(space, archive)
            spec = cri.ImageStatusRequest(image=cri.ImageSpec(image=pause.IMAGE))
            self._until(lambda: self._images.ImageStatus(spec, timeout=10).image.id, "the image is known")
            self._until(lambda: all(self._status().values()), "runtime and network are ready")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends containerd and whatever it has started, and takes its files and mounts away."""
        self._channel.close()
        cgroups.remove((self._space.cgroup / containerd.GROUP).parent)
        processes.stop(self._record, kill=True)
        unmount = r"findmnt -rno TARGET | grep -E '^(/run|/var/lib)/containerd' | sort -r | xargs -r -n1 umount -l"
        subprocess.run(self._space.argv(["sh", "-c", f"{unmount}; rm -rf /run/containerd"]), check=True)

    # -- the interface --------------------------------------------------------------------------------------------

    def run_sandbox(self, pod: dict[str, Any], *, attempt: int = 0) -> Sandbox:
        """RunPodSandbox for a pod of the API. Raises grpc.RpcError with the plugin's words."""
        meta = pod["metadata"]
        config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(
                name=meta["name"], uid=meta["uid"], namespace=meta["namespace"], attempt=attempt
            ),
            hostname=meta["name"],
        )
        request = cri.RunPodSandboxRequest(config=config)
        identifier = self._runtime.RunPodSandbox(request, timeout=60).pod_sandbox_id
        return self.sandbox(identifier)

    def sandbox(self, identifier: str) -> Sandbox:
        """PodSandboxStatus."""
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=identifier, verbose=True)
        answer = self._runtime.PodSandboxStatus(request, timeout=10)
        network = answer.status.network
        ips = [network.ip, *(entry.ip for entry in network.additional_ips)]
        namespaces = json.loads(answer.info["info"])["runtimeSpec"]["linux"]["namespaces"]
        netns = next(entry["path"] for entry in namespaces if entry["type"] == "network")
        return Sandbox(identifier, {6 if ":" in ip else 4: ip for ip in ips}, netns)

    def stop_sandbox(self, sandbox: Sandbox) -> None:
        """StopPodSandbox: the network goes. Idempotent."""
        try:
            self._runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=60)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:  # this containerd says so of what it has removed
                raise

    def remove_sandbox(self, sandbox: Sandbox) -> None:
        """RemovePodSandbox. Idempotent."""
        self._runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=60)

    # -- start ----------------------------------------------------------------------------------------------------

    def _status(self) -> dict[str, bool]:
        answer = self._runtime.Status(cri.StatusRequest(), timeout=10)
        return {condition.type: condition.status for condition in answer.status.conditions}

    def _until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            tail = self._log.read_text(errors="replace")[-2000:]
            assert processes.alive(self._record), f"containerd ended: {tail}"
            assert time.monotonic() < deadline, f"not within 30 s: {what}; {self._status()}; {tail}"
            time.sleep(0.05)
