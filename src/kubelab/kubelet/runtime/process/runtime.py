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
from kubelab.images.programs import standin_argv
from kubelab.kubelet import cni, limits
from kubelab.kubelet.admission import sysctls
from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.entrypoint import UserError, identity, invocation, user
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.runtime.contract import (
    ContainerSpec,
    ImageError,
    LaunchError,
    LogFormat,
    Sandbox,
    SandboxError,
)
from kubelab.kubelet.runtime.dialing import dial
from kubelab.kubelet.runtime.process import groups, interactive, shared
from kubelab.kubelet.runtime.process import sandbox as sandboxes
from kubelab.kubelet.runtime.process.container import ProcessContainer
from kubelab.kubelet.runtime.process.launch import Launch, launch
from kubelab.kubelet.security import security
from kubelab.underlay import cgroups
from kubelab.underlay.namespaces import ChildError

log = structlog.get_logger(__name__)

PAUSE = ".pause"
"""The group and the directory of the first process of a shared PID namespace: no container can be named so."""

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
        self._shared = shared.Shared()
        cgroups.create(groups.ROOT)

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
        groups.remove(pod["metadata"]["uid"])
        self._shared.remove(pod["metadata"]["uid"])
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
        for uid in groups.pods() - keep:
            groups.remove(uid)
        self._shared.collect(keep)
        for place in self._plugins.cached():
            if place.uid not in keep:
                log.info("leftover sandbox removed", pod=f"{place.namespace}/{place.pod}")
                await sandboxes.undo(self._plugins, place)

    async def start(self, spec: ContainerSpec) -> ProcessContainer:
        try:
            described, lacking = self._describe(spec)
        except OSError as error:
            raise LaunchError(str(error)) from error
        if spec.pod["spec"].get("shareProcessNamespace"):
            described = replace(described, pids=await self._shared.pids(spec.pod["metadata"]["uid"], _pause(described)))
        end = None
        if interactive.wanted(spec.container):
            cgroup = described.groups[0].with_name(f".{spec.container['name']}.stdio")
            described.directory.mkdir(parents=True, exist_ok=True)
            end = await interactive.prepare(spec.container, described.directory, spec.log, cgroup)
        try:
            described = replace(described, stdio=end)
            killed = groups.oom_kills(described.groups)
            started = ProcessContainer.of(await launch(described), described, self._inotify, killed)
        finally:
            if end is not None:
                os.close(end)
        started.notices += tuple(groups.not_enforced(spec.container, controller) for controller in lacking)
        return started

    async def adopt(self, record: Object) -> ProcessContainer | None:
        return ProcessContainer.adopt(record, self._inotify)

    async def dial(self, sandbox: Sandbox, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await dial(sandbox, port)

    async def close(self) -> None:
        """Nothing is held."""

    def _describe(self, spec: ContainerSpec) -> tuple[Launch, tuple[str, ...]]:
        """And the controllers that it takes for its limits and that the machine does not lend. Raises OSError."""
        pod, container, uid = spec.pod, spec.container, spec.pod["metadata"]["uid"]
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
        own_limits = limits.of_container(pod, container)
        held = groups.create(uid, container["name"], own_limits, limits.of_pod(pod))
        launched = Launch(
            argv=wanted.argv,
            fallback=wanted.fallback,
            environment=environment,
            directory=spec.directory,
            groups=held.paths,
            log=spec.log,
            mounts=spec.mounts,
            netns=spec.sandbox.netns,
            hostname=spec.hostname,
            ipc=None if pod["spec"].get("hostIPC") else self._shared.ipc(uid),
            sysctls=sysctls(pod, "kernel."),
            host_pid=bool(pod["spec"].get("hostPID")),
            shm="/dev/shm" if pod["spec"].get("hostIPC") else str(self._shared.shm(uid)),
            oom_score=own_limits.score,
            cwd=container.get("workingDir") or wanted.working_dir or "/",
            security=allowed,
            privileged=bool((container.get("securityContext") or {}).get("privileged")),
            tty=bool(container.get("tty")),
            layer=str(self._layer.root),
            notice=wanted.notice,
            fallback_notice=wanted.fallback_notice,
        )
        return launched, held.lacking


def _pause(container: Launch) -> Launch:
    """The first process of the PID namespace that a pod's containers share; in its place, with nothing of theirs."""
    group, directory = container.groups[0].with_name(PAUSE), container.directory.parents[2] / PAUSE
    cgroups.create(group)
    directory.mkdir(parents=True, exist_ok=True)
    return Launch(
        argv=standin_argv("pause"), fallback=None, environment=dict(MACHINE), directory=directory, groups=(group,),
        log=directory / "log", netns=container.netns, hostname=container.hostname, ipc=container.ipc,
        shm=container.shm, layer=container.layer, oom_score=-998,
    )  # fmt: skip
