"""One pod from its arrival to its end: volumes, sandbox, init containers, containers, status, termination.

In: the pod's latest object (``update``), its deletion (``terminate``). Out: processes, status writes, events.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from kubelab.kubelet import cni, environment, etc_files, sandbox
from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.containers import Container
from kubelab.kubelet.entrypoint import command_line, identity
from kubelab.kubelet.environment import MissingReferenceError
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.launch import ContainerSpec, Mount
from kubelab.kubelet.reports import Reporter
from kubelab.kubelet.status import Facts, now, phase, pod_status
from kubelab.kubelet.volumes import Sources, VolumeError, Volumes
from kubelab.underlay import cgroups
from kubelab.underlay.namespaces import ChildError

log = structlog.get_logger(__name__)

CGROUP_ROOT = Path("/sys/fs/cgroup/kubepods")
RETRY_MIN, RETRY_MAX = 0.2, 5.0
DEFAULT_GRACE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all workers of a kubelet share."""

    config: KubeletConfig
    plugins: cni.Cni
    network_changed: asyncio.Condition
    inotify: Inotify
    reporter: Reporter
    sources: Sources


class PodWorker:
    """Runs one pod; ``run`` returns when nothing of it is left on the node."""

    def __init__(self, pod: Object, around: Surroundings) -> None:
        self.pod = pod
        self.ip = ""
        self.uid: str = pod["metadata"]["uid"]
        self._around = around
        self.directory = Path(around.config.directory) / "pods" / self.uid
        self._volumes = Volumes(pod, self.directory / "volumes", around.sources)
        self._ips: tuple[str, ...] = ()
        self._sandbox: sandbox.Sandbox | None = None
        self._started = (pod.get("status") or {}).get("startTime") or now()
        self._reason = self._message = ""
        self._phase: str | None = None
        self.gone = False
        self._terminating = asyncio.Event()
        policy = pod["spec"].get("restartPolicy", "Always")
        init_policy = "OnFailure" if policy == "Always" else policy
        self.init = [
            self._container(spec, spec.get("restartPolicy") or init_policy)
            for spec in pod["spec"].get("initContainers") or []
        ]
        self.containers = [self._container(spec, policy) for spec in pod["spec"]["containers"]]
        self._initialized = not self.init or any(c.state.container_id for c in self.containers)

    def _container(self, spec: Object, policy: str) -> Container:
        directory = self.directory / "containers" / spec["name"]
        return Container(spec, self, directory, self._around.inotify, policy=policy)

    @property
    def name(self) -> str:
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    @property
    def host_network(self) -> bool:
        return bool(self.pod["spec"].get("hostNetwork"))

    def container(self, name: str) -> Container | None:
        return next((c for c in (*self.containers, *self.init) if c.name == name), None)

    # -- what comes in ------------------------------------------------------------------------------------------

    def update(self, pod: Object) -> None:
        """A newer version of the object."""
        self.pod = pod
        if self._around.reporter.overwritten(pod):
            self.changed()
        if pod["metadata"].get("deletionTimestamp"):
            self._terminating.set()

    def vanished(self) -> None:
        """The API no longer has the pod."""
        self.gone = True
        self._terminating.set()

    async def refresh(self, kind: str, name: str) -> None:
        """A ConfigMap or Secret changed."""
        if self._volumes.uses(kind, name) and self._ips:
            try:
                await self._volumes.refresh(list(self._ips))
            except (VolumeError, MissingReferenceError) as error:
                log.warning("volume not refreshed", pod=self.name, error=str(error))

    # -- what containers ask for --------------------------------------------------------------------------------

    def changed(self) -> None:
        self._around.reporter.status(self.pod, pod_status(self.pod, self.facts()))

    def event(self, kind: str, reason: str, message: str) -> None:
        self._around.reporter.event(self.pod, kind, reason, message)

    async def describe(self, container: Object, attempt: int) -> ContainerSpec:
        """The launch spec of one container. Raises MissingReferenceError, VolumeError."""
        config, spec, meta = self._around.config, self.pod["spec"], self.pod["metadata"]
        variables = await environment.build(self.pod, container, config, list(self._ips), self._around.sources.fetch)
        directory = self.directory / "containers" / container["name"]
        layer = directory / "layer" / str(attempt)
        shutil.rmtree(directory / "layer" / str(attempt - 1), ignore_errors=True)
        security = {**(spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
        argv, fallback = command_line(container, variables)
        if fallback is not None or not (container.get("command") or container.get("args")):
            variables.update(identity(self.pod, container, config.node))
        etc = [Mount(str(self.directory / "etc" / name), f"/etc/{name}") for name in etc_files.NAMES]
        return ContainerSpec(
            argv=argv,
            fallback=fallback,
            environment=variables,
            directory=layer,
            cgroup=CGROUP_ROOT / f"pod{self.uid}" / container["name"],
            log=directory / f"{attempt}.log",
            mounts=(*etc, *self._volumes.mounts(container)),
            netns=self._sandbox.netns if self._sandbox else None,
            hostname=None if self.host_network else spec.get("hostname") or meta["name"],
            host_pid=bool(spec.get("hostPID")),
            cwd=container.get("workingDir") or "/",
            uid=int(security.get("runAsUser") or 0),
            gid=int(security.get("runAsGroup") or 0),
            readonly_root=bool(security.get("readOnlyRootFilesystem")),
        )

    # -- the pod's life -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.pod["metadata"].get("deletionTimestamp"):
            self._terminating.set()
        life = asyncio.create_task(self._live(), name=f"pod {self.name}")
        end = asyncio.create_task(self._terminating.wait())
        try:
            await asyncio.wait({life, end}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()
                self.changed()
                await end  # a pod that has run to its end stays until somebody deletes it
            await self._stop(life)
            await self._remove()
        finally:
            life.cancel()
            end.cancel()

    async def _live(self) -> None:
        if self._finished_earlier():
            return
        await self._attach()
        await self._prepare_volumes()
        self.changed()
        async with asyncio.TaskGroup() as group:
            if not await self._initialize(group):
                return
            self._initialized = True
            for container in self.containers:
                group.create_task(container.run())

    def _finished_earlier(self) -> bool:
        return (self.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")

    async def _attach(self) -> None:
        """The sandbox, found or made, however long it takes."""
        if self.host_network:
            self._use_addresses(self._around.config.addresses)
            return
        record, delay = self.directory / "sandbox.json", RETRY_MIN
        self._sandbox = sandbox.Sandbox.read(record)
        while self._sandbox is None:
            reason = self._around.plugins.ready()
            try:
                if reason is None:
                    self._sandbox = await sandbox.create(self.pod, self._around.plugins, record)
                    break
                self.event("Warning", "NetworkNotReady", f"network is not ready: {reason}")
            except (cni.CniError, ChildError, OSError) as error:
                self.event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            self.changed()
            await self._network_change(delay if reason is None else 60.0)
            delay = min(delay * 2, RETRY_MAX)
        self._use_addresses(self._sandbox.ips)

    async def _network_change(self, timeout: float) -> None:
        condition = self._around.network_changed
        try:
            async with asyncio.timeout(timeout), condition:
                await condition.wait()
        except TimeoutError:
            pass

    def _use_addresses(self, ips: tuple[str, ...]) -> None:
        self._ips, self.ip = ips, ips[0]
        etc_files.write(self.directory / "etc", self.pod, ips, self._around.config)

    async def _prepare_volumes(self) -> None:
        delay = RETRY_MIN
        while True:
            try:
                await self._volumes.prepare(list(self._ips))
                return
            except (VolumeError, MissingReferenceError) as error:
                self.event("Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
            except OSError as error:
                self.event("Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
            self.changed()
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX)

    async def _initialize(self, group: asyncio.TaskGroup) -> bool:
        """Runs the init containers in order; False when one failed for good."""
        for container in self.init:
            if container.spec.get("restartPolicy") == "Always":  # a sidecar: goes on beside the others
                group.create_task(container.run())
                continue
            if await container.run():
                return False
        return True

    async def _stop(self, life: asyncio.Task[None]) -> None:
        spec, meta = self.pod["spec"], self.pod["metadata"]
        grace = meta.get("deletionGracePeriodSeconds")
        if grace is None:
            grace = 0 if self.gone and not meta.get("deletionTimestamp") else spec.get("terminationGracePeriodSeconds")
        seconds = DEFAULT_GRACE if grace is None else float(grace)
        for container in (*self.containers, *self.init):
            if container.running:
                self.event("Normal", "Killing", f"Stopping container {container.name}")
        await asyncio.gather(*(c.stop(seconds) for c in self.containers))
        await asyncio.gather(*(c.stop(seconds) for c in self.init))
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)

    async def _remove(self) -> None:
        """Takes sandbox, cgroups and files away, then tells the API that the pod is gone."""
        if not self.gone:
            self.changed()
        if self._sandbox is not None:
            place = sandbox.attachment(self.pod, self._sandbox.container_id, self._sandbox.netns)
            await sandbox.undo(self._around.plugins, place)
        cgroups.remove(CGROUP_ROOT / f"pod{self.uid}")
        shutil.rmtree(self.directory, ignore_errors=True)
        await self._around.reporter.gone(self.pod, delete=not self.gone)

    # -- views --------------------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        config = self._around.config
        return Facts(
            init={c.name: c.state for c in self.init},
            containers={c.name: c.state for c in self.containers},
            host_ips=config.addresses,
            ips=self._ips,
            start_time=self._started,
            initialized=self._initialized,
            sandbox=bool(self._ips),
            reason=self._reason,
            message=self._message,
            phase=self._phase,
        )

    @property
    def phase(self) -> str:
        return phase(self.pod, [c.state for c in self.init], [c.state for c in self.containers])
