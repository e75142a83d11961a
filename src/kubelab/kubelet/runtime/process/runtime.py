"""The process runtime: sandboxes by CNI plugins, containers by fork and exec.

In: the kubelet's requests. Out: processes in ``/sys/fs/cgroup/kubepods/pod<uid>/<container>``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import structlog

from kubelab.images import layer, registry
from kubelab.images.invocation import ProgramMissingError
from kubelab.kubelet import cni
from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.entrypoint import UserError, identity, invocation, user
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.runtime.contract import ContainerSpec, ImageError, LaunchError, LogFormat, Sandbox, SandboxError
from kubelab.kubelet.runtime.dialing import dial
from kubelab.kubelet.runtime.process import interactive
from kubelab.kubelet.runtime.process import sandbox as sandboxes
from kubelab.kubelet.runtime.process.container import ProcessContainer
from kubelab.kubelet.runtime.process.launch import Launch, launch
from kubelab.kubelet.security import security
from kubelab.underlay import cgroups
from kubelab.underlay.namespaces import ChildError

log = structlog.get_logger(__name__)

CGROUP_ROOT = Path("/sys/fs/cgroup/kubepods")
MACHINE = {
    "PATH": f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}
"""The environment that an image would bring."""


class ProcessRuntime:
    """Implements ``contract.Runtime``."""

    version = "kubelab://1"

    def __init__(self, config: KubeletConfig, inotify: Inotify) -> None:
        self._config, self._inotify = config, inotify
        self._plugins = cni.Cni(Path(config.cni_config), Path(config.cni_bin), Path("/var/lib/cni/results"))
        self._registry = registry.load(Path(config.images) if config.images else None)
        self._layer = layer.build(Path(config.directory) / "layers", self._registry)
        cgroups.create(CGROUP_ROOT)

    async def open(self) -> None:
        """Nothing to wait for."""

    async def health(self) -> AsyncIterator[str | None]:
        yield None  # there is nothing that could be away

    def ready(self) -> str | None:
        return self._plugins.ready()

    def log_format(self, directory: Path) -> LogFormat:
        return "plain"

    async def images(self) -> list[Object]:
        return []

    def stands_in(self, image: str) -> bool:
        """Whether the registry names something for the image."""
        return self._registry.find(image) is not None

    async def find(self, pod: Object, directory: Path) -> Sandbox | None:
        if pod["spec"].get("hostNetwork"):
            return Sandbox("", None, self._config.addresses)
        return sandboxes.read(directory / "sandbox.json")

    async def create(self, pod: Object, directory: Path) -> Sandbox:
        if not await self._detach_others(pod, None):
            raise SandboxError("the pod's last sandbox is not detached")
        try:
            return await sandboxes.create(pod, self._plugins, directory / "sandbox.json")
        except (cni.CniError, ChildError, OSError) as error:
            raise SandboxError(str(error)) from error

    async def remove(self, pod: Object, sandbox: Sandbox | None) -> None:
        cgroups.remove(CGROUP_ROOT / f"pod{pod['metadata']['uid']}")
        if sandbox is not None and sandbox.netns is not None:
            place = sandboxes.attachment(pod, sandbox.container_id, sandbox.netns)
            await sandboxes.undo(self._plugins, place)
        await self._detach_others(pod, sandbox)

    async def _detach_others(self, pod: Object, sandbox: Sandbox | None) -> bool:
        """Sandboxes of the pod from before the node lost its power: namespaces went with it, attachments did not."""
        own = sandbox.container_id if sandbox is not None else ""
        left = [place for place in self._plugins.cached() if place.uid == pod["metadata"]["uid"]]
        return all([await sandboxes.undo(self._plugins, place) for place in left if place.container_id != own])

    async def collect(self, keep: set[str]) -> None:
        for uid in _uids() - keep:
            cgroups.remove(CGROUP_ROOT / f"pod{uid}")
        for place in self._plugins.cached():
            if place.uid not in keep:
                log.info("leftover sandbox removed", pod=f"{place.namespace}/{place.pod}")
                await sandboxes.undo(self._plugins, place)

    async def start(self, spec: ContainerSpec) -> ProcessContainer:
        described = self._describe(spec)
        if not interactive.wanted(spec.container):
            return ProcessContainer.of(await launch(described), described, self._inotify)
        cgroup = described.cgroup.with_name(f".{spec.container['name']}.stdio")
        described.directory.mkdir(parents=True, exist_ok=True)
        end = await interactive.prepare(spec.container, described.directory, spec.log, cgroup)
        try:
            described = replace(described, stdio=end)
            return ProcessContainer.of(await launch(described), described, self._inotify)
        finally:
            os.close(end)

    async def adopt(self, record: Object) -> ProcessContainer | None:
        return ProcessContainer.adopt(record, self._inotify)

    async def dial(self, sandbox: Sandbox, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await dial(sandbox, port)

    async def close(self) -> None:
        """Nothing is held."""

    def _describe(self, spec: ContainerSpec) -> Launch:
        pod, container = spec.pod, spec.container
        own = {**MACHINE, **spec.environment}
        try:
            wanted = invocation(container, own, self._registry, self._layer)
        except ProgramMissingError as error:
            raise ImageError(str(error)) from error
        environment = {**MACHINE, **wanted.environment, **spec.environment}
        if wanted.stands_in:
            environment.update(identity(pod, container, self._config.node, wanted.ports))
        context = {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
        try:
            allowed = security(pod, container, user(context, wanted.user))
        except UserError as error:
            raise LaunchError(str(error)) from error
        return Launch(
            argv=wanted.argv,
            fallback=wanted.fallback,
            environment=environment,
            directory=spec.directory,
            cgroup=CGROUP_ROOT / f"pod{pod['metadata']['uid']}" / container["name"],
            log=spec.log,
            mounts=spec.mounts,
            netns=spec.sandbox.netns,
            hostname=spec.hostname,
            host_pid=bool(pod["spec"].get("hostPID")),
            cwd=container.get("workingDir") or wanted.working_dir or "/",
            security=allowed,
            privileged=bool((container.get("securityContext") or {}).get("privileged")),
            tty=bool(container.get("tty")),
            layer=str(self._layer.root),
            notice=wanted.notice,
            fallback_notice=wanted.fallback_notice,
        )


def _uids() -> set[str]:
    """Of pods that have a cgroup."""
    return {group.name.removeprefix("pod") for group in CGROUP_ROOT.glob("pod*")}
