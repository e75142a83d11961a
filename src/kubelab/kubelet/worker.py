"""One pod from its arrival to its end: volumes, sandbox, init containers, containers, status, termination.

In: the pod's latest object (``update``), its deletion (``terminate``). Out: processes, status writes, events.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from kubelab import timestamps
from kubelab.kubelet import admission, environment, etc_files, service_links, termination
from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.containers import Container
from kubelab.kubelet.endings import Ending, Places, ending
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
from kubelab.kubelet.status import Facts, is_sidecar, phase, pod_status
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
        self.started = (pod.get("status") or {}).get("startTime") or timestamps.now()
        self._reason = self._message = ""
        self._evicted = False
        self._phase: str | None = None
        self.gone = False
        self._terminating = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None
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

    @property
    def label(self) -> str:
        """As back-off messages name the pod."""
        meta = self.pod["metadata"]
        return f"{meta['name']}_{meta['namespace']}({meta['uid']})"

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL, where nobody says otherwise."""
        seconds = self.pod["spec"].get("terminationGracePeriodSeconds")
        return DEFAULT_GRACE if seconds is None else float(seconds)

    # -- what comes in ------------------------------------------------------------------------------------------

    def update(self, pod: Object) -> None:
        """A newer version of the object."""
        gates = _gates(self.pod) != _gates(pod)
        shown = any(pod["metadata"].get(key) != self.pod["metadata"].get(key) for key in ("labels", "annotations"))
        self.pod = pod
        if self._around.reporter.overwritten(pod) or gates:
            self.changed()
        if shown:
            self._refreshing = asyncio.create_task(self._refresh())
        if pod["metadata"].get("deletionTimestamp"):
            self._terminating.set()

    def vanished(self) -> None:
        """The API no longer has the pod."""
        self.gone = True
        self._terminating.set()

    async def refresh(self, kind: str, name: str) -> None:
        """A ConfigMap or Secret changed."""
        if self._volumes.uses(kind, name):
            await self._refresh()

    async def rotate(self) -> None:
        """Tokens that will soon expire are replaced."""
        if self._volumes.expiring():
            await self._refresh()

    async def _refresh(self) -> None:
        if not self._volumes.ready:
            return
        try:
            await self._volumes.refresh(self.pod, list(self._ips))
        except (VolumeError, MissingReferenceError, OSError) as error:
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
        config = self._around.config
        if self._sandbox is None:
            raise LaunchError("the pod has no sandbox")
        fetch = self._around.sources.fetch
        directory = self.directory / "containers" / container["name"]
        shutil.rmtree(directory / "layer" / str(attempt - 1), ignore_errors=True)
        etc = [Mount(str(self.directory / "etc" / name), f"/etc/{name}") for name in etc_files.NAMES]
        links = service_links.variables(await self._around.sources.services(self.pod))
        variables = await environment.build(self.pod, container, config, list(self._ips), fetch, links)
        described = ContainerSpec(
            pod=self.pod,
            container=container,
            attempt=attempt,
            sandbox=self._sandbox,
            environment=variables,
            directory=directory / "layer" / str(attempt),
            log=directory / f"{attempt}.log",
            mounts=(*etc, *self._volumes.mounts(container, variables), termination.mount(container, directory)),
            hostname=None if self.host_network else etc_files.hostname(self.pod),
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
        early = asyncio.create_task(self._ending())
        try:
            await asyncio.wait({life, end, early}, return_when=asyncio.FIRST_COMPLETED)
            if early.done() and not life.done() and not end.done():
                await self._fail(early.result(), life)
            if life.done():
                early.cancel()
                if not life.cancelled():
                    life.result()
                await self._leave_sandbox()
                await end  # a pod that has run to its end stays until somebody deletes it
            await self._stop(life)
            await self._remove()
        finally:
            for task in (life, end, early, *([self._refreshing] if self._refreshing else [])):
                task.cancel()

    async def _ending(self) -> Ending:
        """Returns when something ends the pod before its time."""
        volumes = {v["name"]: self.directory / "volumes" / v["name"] for v in self.pod["spec"].get("volumes") or []}
        containers = {c.name: self.directory / "containers" / c.name for c in (*self.containers, *self.init)}
        return await ending(self.pod, self.started, Places(volumes, containers))

    async def _fail(self, end: Ending, life: asyncio.Task[None]) -> None:
        self._phase, self._reason, self._message, self._evicted = "Failed", end.reason, end.message, end.evicted
        self.event(end.event, end.reason, end.message)
        await self._stop_containers(self.grace if end.grace is None else end.grace)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        for container in (*self.init, *self.containers):
            container.lost()

    async def _live(self) -> None:
        if self._finished_earlier() or self._refused():
            return
        for container in (*self.init, *self.containers):
            await container.adopt()
        await self._attach()
        await self._prepare_volumes()
        self.changed()
        async with asyncio.TaskGroup() as group:
            if await self._initialize(group):
                self._initialized = True
                self.changed()
                await asyncio.gather(*(container.run() for container in self.containers))
            await self._stop_sidecars(self.grace)

    def _finished_earlier(self) -> bool:
        status = self.pod.get("status") or {}
        if status.get("phase") not in ("Succeeded", "Failed"):
            return False
        self._phase = status["phase"]
        self._ips = tuple(entry["ip"] for entry in status.get("podIPs") or [])
        self._reason, self._message = status.get("reason") or "", status.get("message") or ""
        return True

    def _refused(self) -> bool:
        refused = admission.refusal(self.pod)
        if refused is not None:
            self._phase, (self._reason, self._message) = "Failed", refused
            self.event("Warning", *refused)
        return refused is not None

    async def _attach(self) -> None:
        """The sandbox, found or made, however long it takes."""
        runtime, delay = self._around.runtime, RETRY_MIN
        self._sandbox = await runtime.find(self.pod, self.directory)
        while self._sandbox is None:
            reason = runtime.ready()
            try:
                if why := etc_files.refusal(self.pod):
                    raise SandboxError(why)
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
                runs = any(container.running for container in (*self.init, *self.containers))
                await self._volumes.prepare(list(self._ips), keep=runs)
                if runs:
                    self._refreshing = asyncio.create_task(self._refresh())
                return
            except (VolumeError, OSError) as error:
                self.event("Warning", "FailedMount", str(error))
            self.changed()
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX)

    async def _initialize(self, group: asyncio.TaskGroup) -> bool:
        """Runs the init containers in order, each sidecar until it has started; False when one failed for good."""
        for container in self.init:
            if is_sidecar(container.spec):
                group.create_task(container.run())
                await container.settled.wait()
            elif await container.run():
                return False
        return True

    async def _stop(self, life: asyncio.Task[None]) -> None:
        meta = self.pod["metadata"]
        grace = meta.get("deletionGracePeriodSeconds")
        if grace is None:
            grace = 0.0 if self.gone and not meta.get("deletionTimestamp") else self.grace
        for container in (*self.containers, *self.init):
            if container.running:
                self.event("Normal", "Killing", f"Stopping container {container.name}")
        await self._stop_containers(float(grace))
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        await self._stop_containers(0.0)  # what was being started meanwhile

    async def _stop_containers(self, grace: float) -> None:
        """First the containers, then the sidecars, the last to start first; all within ``grace`` seconds."""
        begun = time.monotonic()
        plain = [c for c in (*self.containers, *self.init) if not is_sidecar(c.spec)]
        await asyncio.gather(*(c.stop(grace) for c in plain))
        await self._stop_sidecars(max(0.0, grace - (time.monotonic() - begun)))

    async def _stop_sidecars(self, grace: float) -> None:
        begun = time.monotonic()
        for container in reversed([c for c in self.init if is_sidecar(c.spec)]):
            await container.stop(max(0.0, grace - (time.monotonic() - begun)))

    async def _leave_sandbox(self) -> None:
        """Of a pod that has run to its end: its addresses may be another's, its status and its logs stay."""
        self.changed()
        await self._around.runtime.remove(self.pod, self._sandbox)
        self._sandbox = None
        self.changed()

    async def _remove(self) -> None:
        """Takes sandbox and files away, then tells the API that the pod is gone."""
        if not self.gone:
            self.changed()
        await self._around.runtime.remove(self.pod, self._sandbox)
        self._volumes.remove()
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
            sandbox=self._sandbox is not None,
            reason=self._reason,
            message=self._message,
            evicted=self._evicted,
            phase=self._phase,
        )

    @property
    def phase(self) -> str:
        return phase(self.pod, [c.state for c in self.init], [c.state for c in self.containers])


def _gates(pod: Object) -> list[str | None]:
    """What others say of the pod's readiness gates."""
    conditions = {c["type"]: c.get("status") for c in (pod.get("status") or {}).get("conditions") or []}
    return [conditions.get(gate["conditionType"]) for gate in pod["spec"].get("readinessGates") or []]
