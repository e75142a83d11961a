"""The Node object: registration, conditions, the lease that says the kubelet lives.

In: config, whether the network is ready. Out: writes to the API; a condition only when it changes.
"""

from __future__ import annotations

import asyncio
import os
import platform
import uuid
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import structlog

from kubelab import timestamps
from kubelab.kubelet import resources
from kubelab.kubelet.client import ApiClient, ApiError
from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.runtime.contract import Runtime
from kubelab.kubelet.status import merge_conditions

log = structlog.get_logger(__name__)

SOCKET_ANNOTATION = "kubelab.io/kubelet-socket"
KUBELET_PORT = 10250
VERSION = "v1.37.0-kubelab"
MAX_PODS = 250
MAX_IMAGES = 50
"""In the node's status."""


_PRESSURES = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


def node_object(config: KubeletConfig) -> Object:
    """The node as it registers itself."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.node,
            "labels": {
                "kubernetes.io/hostname": config.node,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": _architecture(),
                **config.labels,
            },
            "annotations": {SOCKET_ANNOTATION: config.socket_outside},
        },
        "spec": {},
    }


def node_status(
    config: KubeletConfig, runtime: str, trouble: Sequence[str], old: Object, images: Sequence[Object] = ()
) -> Object:
    """The node's status; ``trouble``: what makes it not ready; ``runtime`` is named in it."""
    pods = {"pods": str(MAX_PODS)}
    ready = {"status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}
    if trouble:
        message = trouble[0] if len(trouble) == 1 else f"[{', '.join(trouble)}]"
        ready = {"status": "False", "reason": "KubeletNotReady", "message": message}
    moment = timestamps.now()
    conditions = [
        {"type": kind, "status": "False", "reason": reason, "message": message, "lastHeartbeatTime": moment}
        for kind, reason, message in _PRESSURES
    ]
    conditions.append({"type": "Ready", **ready, "lastHeartbeatTime": moment})
    return {
        "addresses": [
            *({"type": "InternalIP", "address": address} for address in config.addresses),
            {"type": "Hostname", "address": config.node},
        ],
        "capacity": resources.of_node() | pods,
        "allocatable": resources.allocatable() | pods,
        "conditions": merge_conditions(old.get("conditions") or [], conditions),
        "images": list(images[:MAX_IMAGES]),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "nodeInfo": {
            "kubeletVersion": VERSION,
            "kubeProxyVersion": VERSION,
            "containerRuntimeVersion": runtime,
            "kernelVersion": platform.release(),
            "osImage": _os_name(),
            "operatingSystem": "linux",
            "architecture": _architecture(),
            "machineID": uuid.uuid5(uuid.NAMESPACE_DNS, config.node).hex,
            "systemUUID": str(uuid.uuid5(uuid.NAMESPACE_DNS, config.node)),
            "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        },
    }  # fmt: skip


class NodeReporter:
    """Keeps Node and Lease up to date."""

    def __init__(self, client: ApiClient, config: KubeletConfig, runtime: Runtime) -> None:
        self._client, self._config, self._runtime = client, config, runtime
        self._path = f"/api/v1/nodes/{config.node}"
        self._network: str | None = "cni plugin not initialized"
        self._down: str | None = None
        self._said: dict[str, str] = {}
        self._images: list[Object] = []
        self._wake = asyncio.Event()
        self._wake.set()

    def network(self, reason: str | None) -> None:
        """Whether pods can be attached now (None), or why not."""
        if reason != self._network:
            self._network = reason
            self._wake.set()

    def runtime(self, reason: str | None) -> None:
        """Whether containers can be started now (None), or why not."""
        if reason != self._down:
            self._down = reason
            self._wake.set()

    def _trouble(self) -> list[str]:
        network = f"NetworkReady=false reason:NetworkPluginNotReady message:{self._network}"
        return [
            *([self._down] if self._down else []),
            *([f"container runtime network not ready: {network}"] if self._network is not None else []),
        ]

    def seen(self, node: Object) -> None:
        """The node as the API has it: where others wrote over our conditions (it was declared silent), ours return."""
        conditions = {entry["type"]: entry["status"] for entry in (node.get("status") or {}).get("conditions") or []}
        if any(conditions.get(kind) != status for kind, status in self._said.items()):
            self._wake.set()

    async def run(self) -> None:
        """Registers, then writes the status when it changes and the lease every ``heartbeat`` seconds."""
        delay = 0.1
        while True:
            try:
                if self._wake.is_set():
                    self._wake.clear()
                    await self._write()
                await self._lease()
                await self._look_at_images()
                delay = 0.1
                try:
                    await asyncio.wait_for(self._wake.wait(), self._config.heartbeat)
                except TimeoutError:
                    continue
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("node not reported", error=str(error) or repr(error))
                self._wake.set()
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)

    async def _write(self) -> None:
        try:
            node = await self._client.get(self._path)
        except ApiError as error:
            if error.code != 404:
                raise
            node = await self._client.request("POST", "/api/v1/nodes", node_object(self._config))
            log.info("node registered", node=self._config.node)
        else:
            meta = node_object(self._config)["metadata"]
            await self._client.patch(
                self._path, {"metadata": {"labels": meta["labels"], "annotations": meta["annotations"]}}
            )
        old = node.get("status") or {}
        status = node_status(self._config, self._runtime.version, self._trouble(), old, self._images)
        await self._client.patch(f"{self._path}/status", {"status": status})
        self._said = {entry["type"]: entry["status"] for entry in status["conditions"]}

    async def _look_at_images(self) -> None:
        images = await self._runtime.images()
        if images != self._images:
            self._images = images
            self._wake.set()

    async def _lease(self) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{self._config.node}"
        moment = timestamps.micros()
        spec = {"holderIdentity": self._config.node, "leaseDurationSeconds": 40, "renewTime": moment}
        try:
            await self._client.patch(path, {"spec": spec})
        except ApiError as error:
            if error.code != 404:
                raise
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                     "metadata": {"name": self._config.node, "namespace": "kube-node-lease"}, "spec": spec}  # fmt: skip
            try:
                await self._client.request("POST", path.rpartition("/")[0], lease)
            except ApiError as missing:
                # The namespace comes with the controllers, perhaps a moment after us: the next heartbeat will do.
                log.info("lease not written", error=str(missing))


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
