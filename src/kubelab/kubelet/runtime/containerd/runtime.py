"""The containerd runtime: sandboxes and containers asked for over the Container Runtime Interface.

In: the kubelet's requests. Out: calls to the node's containerd, which calls the CNI plugin and runc. Nothing is kept
here that containerd does not know: what an earlier kubelet made is found by its labels.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from kubelab.cri.client import CriClient, CriError
from kubelab.cri.proto import runtime_pb2 as cri
from kubelab.kubelet import cni, limits
from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.runtime.containerd import describe
from kubelab.kubelet.runtime.containerd.container import SCHEME, ContainerdContainer
from kubelab.kubelet.runtime.containerd.images import image_of, listed
from kubelab.kubelet.runtime.contract import (
    ContainerSpec,
    CreateError,
    LaunchError,
    LogFormat,
    Sandbox,
    SandboxError,
)
from kubelab.kubelet.runtime.dialing import dial
from kubelab.kubelet.runtime.process import groups
from kubelab.underlay import cgroups, controllers

log = structlog.get_logger(__name__)

RETRY = 1.0
"""Seconds between questions to a containerd that does not answer, where the kubelet cannot go on without."""


class ContainerdRuntime:
    """Implements ``contract.Runtime``."""

    def __init__(self, config: KubeletConfig) -> None:
        self._config = config
        self._client = CriClient(config.runtime_socket)
        self._plugins = cni.Cni(Path(config.cni_config), Path(config.cni_bin), Path("/var/lib/cni/results"))
        self._version = ""
        self._images: list[Object] = []

    async def open(self) -> None:
        """Waits for containerd, however long it takes."""
        while True:
            try:
                answer = await self._client.version()
                break
            except CriError as error:
                log.warning("containerd does not answer", error=str(error))
                await asyncio.sleep(RETRY)
        self._version = f"{SCHEME}://{answer.runtime_version.partition('~')[0]}"
        log.info("runtime found", name=answer.runtime_name, version=answer.runtime_version)

    async def health(self) -> AsyncIterator[str | None]:
        async for answers in self._client.answers():
            yield None if answers else "container runtime is down"

    @property
    def version(self) -> str:
        return self._version

    def ready(self) -> str | None:
        return self._plugins.ready()  # containerd looks into the same directories

    async def knows(self, image: str) -> bool:
        """Whether an image of this name was imported; False also when the name is none."""
        try:
            return await self._client.image(image) is not None
        except CriError:
            return False

    def log_format(self, directory: Path) -> LogFormat:
        return "cri"

    async def images(self) -> list[Object]:
        try:
            self._images = listed(await self._client.images())
        except CriError as error:
            log.warning("images not listed", error=str(error))
        return self._images

    # -- sandboxes ----------------------------------------------------------------------------------------------

    async def find(self, pod: Object, directory: Path) -> Sandbox | None:
        while True:
            try:
                sandboxes = await self._sandboxes(pod["metadata"]["uid"])
                ready = [found for found in sandboxes if found.state == cri.SANDBOX_READY]
                return await self._sandbox(ready[0].id, pod) if ready else None
            except CriError as error:
                log.warning("sandbox not looked for", pod=pod["metadata"]["name"], error=str(error))
            await asyncio.sleep(RETRY)

    async def create(self, pod: Object, directory: Path) -> Sandbox:
        old = await self._sandboxes(pod["metadata"]["uid"])
        attempt = max((found.metadata.attempt + 1 for found in old), default=0)
        config = describe.sandbox_config(pod, directory, attempt)
        handler = pod["spec"].get("runtimeClassName") or ""  # the lab's classes are named like their handlers
        try:
            await self._discard(old)  # dead ones, or they would have been found
            made = await self._sandbox(await self._client.run_sandbox(config, handler), pod)
            groups.limit_pod(pod["metadata"]["uid"], limits.of_pod(pod))
            return made
        except (CriError, OSError) as error:
            raise SandboxError(str(error)) from error

    async def remove(self, pod: Object, sandbox: Sandbox | None) -> None:
        """Waits for a containerd that is away: what it does not remove would keep the pod's addresses."""
        while True:
            try:
                await self._discard(await self._sandboxes(pod["metadata"]["uid"]))
                break
            except CriError as error:
                log.warning("sandbox not removed", pod=pod["metadata"]["name"], error=str(error))
            await asyncio.sleep(RETRY)
        remove_groups(pod["metadata"]["uid"])

    async def collect(self, keep: set[str]) -> None:
        """Raises CriError."""
        left = [found for found in await self._client.sandboxes({}) if found.metadata.uid not in keep]
        for found in left:
            log.info("leftover sandbox removed", pod=f"{found.metadata.namespace}/{found.metadata.name}")
        await self._discard(left)
        for uid in {found.metadata.uid for found in left}:
            remove_groups(uid)

    async def _sandboxes(self, uid: str) -> list[Any]:
        return await self._client.sandboxes({describe.UID: uid})

    async def _discard(self, sandboxes: list[Any]) -> None:
        for found in sandboxes:
            await self._client.stop_sandbox(found.id)
            await self._client.remove_sandbox(found.id)

    async def _sandbox(self, identifier: str, pod: Object) -> Sandbox:
        answer = await self._client.sandbox(identifier)
        if pod["spec"].get("hostNetwork"):
            return Sandbox(identifier, None, self._config.addresses)
        network = answer.status.network
        namespaces = json.loads(answer.info["info"])["runtimeSpec"]["linux"]["namespaces"]
        netns = next(entry["path"] for entry in namespaces if entry["type"] == "network")
        return Sandbox(identifier, netns, (network.ip, *(entry.ip for entry in network.additional_ips)))

    # -- containers ---------------------------------------------------------------------------------------------

    async def start(self, spec: ContainerSpec) -> ContainerdContainer:
        image = await image_of(self._client, spec.pod, spec.container)
        directory = spec.log.parent.parent.parent  # <pod>/containers/<name>/<attempt>.log
        config = describe.container_config(spec, image, directory)
        sandbox = describe.sandbox_config(spec.pod, directory, 0)
        try:
            await self._replace(spec)
            identifier = await self._client.create(spec.sandbox.container_id, config, sandbox)
        except CriError as error:
            raise CreateError(str(error)) from error
        try:
            await self._client.start(identifier)
        except CriError as error:
            raise LaunchError(str(error)) from error
        reference = image.repo_digests[0] if image.repo_digests else image.id
        made = ContainerdContainer(self._client, identifier, reference, tty=bool(spec.container.get("tty")))
        lacking = limits.of_container(spec.pod, spec.container).controllers - controllers.lent(Path("/sys/fs/cgroup"))
        made.notices = tuple(groups.not_enforced(spec.container, controller) for controller in sorted(lacking))
        return made

    async def _replace(self, spec: ContainerSpec) -> None:
        """What is there of the same container, from an attempt whose end nobody saw, goes."""
        for found in await self._client.containers(spec.sandbox.container_id):
            if found.metadata.name == spec.container["name"]:
                await self._client.remove(found.id)

    async def adopt(self, record: Object) -> ContainerdContainer | None:
        while True:
            try:
                return await ContainerdContainer.adopt(self._client, record)
            except CriError as error:
                log.warning("container not adopted yet", container=record["container"], error=str(error))
            await asyncio.sleep(RETRY)

    async def dial(self, sandbox: Sandbox, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await dial(sandbox, port)

    async def close(self) -> None:
        await self._client.close()


def remove_groups(uid: str) -> None:
    """Those of a pod, which runc makes above its containers' and leaves."""
    for root in (Path("/sys/fs/cgroup"), *Path(controllers.INSIDE).glob("*")):
        cgroups.remove_if_empty(root / describe.cgroup(uid).lstrip("/"))
