"""One pod from its arrival to its end: volumes, sandbox, init containers, containers, status, termination.

In: the pod's latest object (``update``), its deletion (``terminate``). Out: processes, status writes, events.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from kubelab.kubelet import environment, etc_files
from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.containers import Container
from kubelab.kubelet.environment import MissingReferenceError
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.reports import Reporter
from kubelab.kubelet.runtime.contract import (
    ContainerSpec,
    LaunchError,
    LogFormat,
    Mount,
    Running,
    Runtime,
    Sandbox,
    SandboxError,
)
from kubelab.kubelet.status import Facts, now, phase, pod_status
from kubelab.kubelet.volumes import Sources, VolumeError, Volumes

log = structlog.get_logger(__name__)

RETRY_MIN, RETRY_MAX = 0.2, 5.0
DEFAULT_GRACE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all workers of a kubelet share."""

    config: KubeletConfig
    runtime: Runtime
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
        self._sandbox: Sandbox | None = None
        self.started = (pod.get("status") or {}).get("startTime") or now()
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

    @property
    def log_format(self) -> LogFormat:
        return self._around.runtime.log_format(self.directory)

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

    async def dial(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the pod's loopback. Raises OSError."""
        if self._sandbox is None:
            raise ConnectionRefusedError("the pod has no sandbox")
        return await self._around.runtime.dial(self._sandbox, port)

    # -- what containers ask for --------------------------------------------------------------------------------

    def changed(self) -> None:
        self._around.reporter.status(self.pod, pod_status(self.pod, self.facts()))

    def event(self, kind: str, reason: str, message: str) -> None:
        self._around.reporter.event(self.pod, kind, reason, message)

    async def start(self, container: Object, attempt: int) -> Running:
        """Starts one container. Raises MissingReferenceError, VolumeError, LaunchError."""
        config, spec = self._around.config, self.pod["spec"]
        if self._sandbox is None:
            raise LaunchError("the pod has no sandbox")
        fetch = self._around.sources.fetch
        directory = self.directory / "containers" / container["name"]
        shutil.rmtree(directory / "layer" / str(attempt - 1), ignore_errors=True)
        etc = [Mount(str(self.directory / "etc" / name), f"/etc/{name}") for name in etc_files.NAMES]
        described = ContainerSpec(
            pod=self.pod,
            container=container,
            attempt=attempt,
            sandbox=self._sandbox,
            environment=await environment.build(self.pod, container, config, list(self._ips), fetch),
            directory=directory / "layer" / str(attempt),
            log=directory / f"{attempt}.log",
            mounts=(*etc, *self._volumes.mounts(container)),
            hostname=None if self.host_network else spec.get("hostname") or self.pod["metadata"]["name"],
        )
        return await self._around.runtime.start(described)

    async def adopt(self, record: Object) -> Running | None:
        """The container that an earlier kubelet recorded."""
        return await self._around.runtime.adopt(record)

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
        runtime, delay = self._around.runtime, RETRY_MIN
        self._sandbox = await runtime.find(self.pod, self.directory)
        while self._sandbox is None:
            reason = runtime.ready()
            try:
                if reason is None or self.host_network:
                    self._sandbox = await runtime.create(self.pod, self.directory)
                    break
                self.event("Warning", "NetworkNotReady", f"network is not ready: {reason}")
            except SandboxError as error:
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
        """Takes sandbox and files away, then tells the API that the pod is gone."""
        if not self.gone:
            self.changed()
        await self._around.runtime.remove(self.pod, self._sandbox)
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
            start_time=self.started,
            initialized=self._initialized,
            sandbox=bool(self._ips),
            reason=self._reason,
            message=self._message,
            phase=self._phase,
        )

    @property
    def phase(self) -> str:
        return phase(self.pod, [c.state for c in self.init], [c.state for c in self.containers])
