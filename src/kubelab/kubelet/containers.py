"""One container of a pod through its lives: start, probes, end, back-off, restart; adopted when the kubelet restarts.

In: a way to describe the container (``describe``), its spec. Out: states to ``changed``, a record on disk, events.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from kubelab import timestamps
from kubelab.kubelet import lifecycle, logs, probes, termination
from kubelab.kubelet.config import Object
from kubelab.kubelet.environment import MissingReferenceError
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.runtime.contract import (
    ContainerConfigError,
    CreateError,
    Exit,
    ImageError,
    LaunchError,
    LogFormat,
    Running,
)  # fmt: skip
from kubelab.kubelet.status import ContainerState
from kubelab.kubelet.volumes import VolumeError

log = structlog.get_logger(__name__)

BACKOFF_MIN, BACKOFF_MAX = 1.0, 60.0
BACKOFF_RESET = 60.0
"""Seconds: shorter than on a real cluster (10 s, 300 s, 600 s), in the same proportion of waiting to trying."""

CONFIG_RETRY = 2.0
HOOK_LIMIT = 600.0
MIN_GRACE = 2.0
END_LIMIT = 5.0
"""Seconds for a runtime to tell of an end that it has brought about."""

IMAGE_BACKOFF_MIN, IMAGE_BACKOFF_MAX = 1.0, 5.0
LOST = 137
"""The exit code of a container whose end nobody saw."""


def _duration(seconds: float) -> str:
    """As Go writes one: 4s, 1m0s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


class Host(Protocol):
    """What a container needs of its pod."""

    ip: str

    @property
    def label(self) -> str: ...
    @property
    def grace(self) -> float: ...
    @property
    def log_format(self) -> LogFormat: ...
    async def start(self, container: Object, attempt: int) -> Running: ...
    async def adopt(self, record: Object) -> Running | None: ...
    def changed(self) -> None: ...
    def event(self, kind: str, reason: str, message: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Record:
    """What a later kubelet must know to adopt the container."""

    process: Object | None  # the runtime's record
    attempt: int
    state: dict[str, object]


class Container:
    """Runs one container until it may rest, by the pod's restart policy."""

    def __init__(self, spec: Object, host: Host, directory: Path, inotify: Inotify, *, policy: str) -> None:
        self.spec, self._host, self._directory, self._inotify, self._policy = spec, host, directory, inotify, policy
        self.state = ContainerState()
        self.attempt = 0
        self.process: Running | None = None
        self._stopping, self._grace = False, 0.0
        self._lives = False  # somebody waits for the end of ``process``
        self._killer: asyncio.Task[None] | None = None
        self._over = asyncio.Event()  # of its last life, the end was written down
        self.settled = asyncio.Event()  # started, its startup probe and postStart hook done; or ended
        self._backoff = 0.0
        self._image_backoff = IMAGE_BACKOFF_MIN
        self._wake = asyncio.Event()
        directory.mkdir(parents=True, exist_ok=True)
        self._record = self._recall()

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    def log_path(self, attempt: int) -> Path:
        return self._directory / f"{attempt}.log"

    @property
    def running(self) -> bool:
        return self.state.kind == "running"

    async def run(self) -> int:
        """Until the container has ended for good; its last exit code."""
        adopted = await self.adopt()
        while not self._stopping:
            if not adopted and self.state.kind != "terminated" and not await self._start():
                continue
            adopted = False
            if self.running:
                await self._live()
            if self._stopping or not self._again():
                break
            await self._wait_backoff()
        self.settled.set()
        return self.state.exit_code

    async def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after ``grace`` seconds; ``run`` returns. Returns when the end is in ``state``."""
        self._stopping, self._grace = True, grace
        self._wake.set()
        self.settled.set()
        if (process := self.process) is not None and self.running:
            await self._terminate(process, grace)
            with suppress(TimeoutError):  # whoever follows the log waits for word of the end
                async with asyncio.timeout(END_LIMIT):
                    if self._lives:
                        await self._over.wait()
                    else:
                        self._ended(await process.wait(), "")

    def lost(self) -> None:
        """The pod has ended before anybody knew how the container would."""
        if self.state.kind != "terminated":
            message = "The container could not be located when the pod was terminated"
            self.state = self.state.terminated(LOST, "ContainerStatusUnknown", message)
            self._save()

    async def execute(self, command: list[str], timeout: float) -> tuple[int, str]:
        """Runs a command inside, for exec probes and hooks."""
        if self.process is None or not self.running:
            return 1, "the container is not running"
        return await self.process.execute(command, timeout)

    # -- the parts of a life ------------------------------------------------------------------------------------

    async def _start(self) -> bool:
        try:
            self.process = await self._host.start(self.spec, self.attempt)
        except (MissingReferenceError, VolumeError, ContainerConfigError) as error:
            await self._cannot("CreateContainerConfigError", str(error), CONFIG_RETRY)
            return False
        except CreateError as error:
            await self._cannot("CreateContainerError", str(error), CONFIG_RETRY)
            return False
        except ImageError as error:
            await self._without_image(error)
            return False
        except LaunchError as error:
            self.state = replace(self.state, started_at=timestamps.now())
            self._ended(Exit(128, reason=error.reason), str(error))
            self._host.event("Warning", "Failed", f"Error: {error}")
            return True
        probed = "startupProbe" in self.spec
        hooked = not (self.spec.get("lifecycle") or {}).get("postStart")
        self.state = replace(self.state, kind="running", reason="", message="",
                             started_at=timestamps.now(), finished_at=None,
                             container_id=self.process.id, image_id=self.process.image_id, hooked=hooked,
                             started=hooked and not probed,
                             ready=hooked and not probed and "readinessProbe" not in self.spec)  # fmt: skip
        self.settled.clear()
        self._over.clear()
        self._save()
        present = f'Container image "{self.spec.get("image", "")}" already present on machine'
        self._host.event("Normal", "Pulled", present)
        self._host.event("Normal", "Created", f"Created container: {self.name}")
        self._host.event("Normal", "Started", f"Started container {self.name}")
        for notice in self.process.notices:
            self._host.event(*notice)
        self._host.changed()
        return True

    async def _live(self) -> None:
        """From start (or adoption) to the end of the process."""
        assert self.process is not None
        born = time.monotonic()
        keep = logs.index if self._host.log_format == "plain" else logs.shorten
        tasks = [
            asyncio.create_task(self._watch_over(self.process)),
            asyncio.create_task(keep(self.log_path(self.attempt), self._inotify)),
        ]
        if self._stopping:  # while it was started: nobody has told it
            self._kill(self.process, self._grace)
        self._lives = True
        try:
            end = await self.process.wait()
        finally:
            self._lives = False
            for task in (*tasks, *([self._killer] if self._killer else [])):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._killer = None
        if time.monotonic() - born > BACKOFF_RESET:
            self._backoff = 0.0
        message = termination.message(self.spec, self._directory, self.log_path(self.attempt), end.code)
        self._ended(end, message)

    async def _watch_over(self, process: Running) -> None:
        """The postStart hook, then the probes."""
        hook = (self.spec.get("lifecycle") or {}).get("postStart")
        if hook and not self.state.hooked:
            try:
                await lifecycle.run(hook, self.spec, self._host.ip, self.execute, HOOK_LIMIT)
            except lifecycle.HookError as error:
                self._host.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {error}")
                self._host.event("Normal", "Killing", f"FailedPostStartHook: container {self.name} is killed")
                self._kill(process, self._host.grace)
                return
            self.state = replace(self.state, hooked=True)
            self._save()
            self._ready_now()
        try:
            await self._probe()
        except Exception:  # of our own: the container goes on, unwatched, and somebody should know
            log.exception("probes ended", pod=self._host.label, container=self.name)

    def _ended(self, end: Exit, message: str) -> None:
        reason = end.reason if end.known else "ContainerStatusUnknown"
        self.state = self.state.terminated(end.code, reason or None, message)
        if self.process is not None:
            self.process.release()  # with its first process gone only what escaped it can be left
            self.process = None
        self._save()
        # Whoever follows the log waits for its file to change.
        self.log_path(self.attempt).open("a").close()
        self._over.set()
        self._host.changed()

    def _again(self) -> bool:
        if self._policy == "Always":
            return True
        return self._policy == "OnFailure" and self.state.exit_code != 0

    async def _wait_backoff(self) -> None:
        last, delay = self.state.wire, self._backoff
        self._backoff = min(max(self._backoff * 2, BACKOFF_MIN), BACKOFF_MAX)
        self.attempt += 1
        message = f"back-off {_duration(delay)} restarting failed container={self.name} pod={self._host.label}"
        self.state = ContainerState(kind="waiting", reason="CrashLoopBackOff" if delay else "ContainerCreating",
                                    message=message if delay else "", restarts=self.state.restarts + 1,
                                    container_id=self.state.container_id, last=last)  # fmt: skip
        self._save()
        self._host.changed()
        old = self.log_path(self.attempt - 2)
        for path in (old, logs.index_path(old)):
            path.unlink(missing_ok=True)
        if delay:
            self._host.event(
                "Warning", "BackOff", f"Back-off restarting failed container {self.name} in pod {self._host.label}"
            )
            await self._sleep(delay)

    async def _cannot(self, reason: str, message: str, delay: float) -> None:
        if self.state.message != message:
            self._host.event("Warning", "Failed", f"Error: {message}")
        await self._hold(reason, message, delay)

    async def _without_image(self, error: ImageError) -> None:
        """Says what the container waits for; an image may be there at any time."""
        reason, message, delay = error.reason, str(error), IMAGE_BACKOFF_MIN
        if reason == "ErrImagePull" and self.state.reason in (reason, "ImagePullBackOff"):
            reason, message = "ImagePullBackOff", f'Back-off pulling image "{self.spec["image"]}": {reason}: {error}'
            delay = self._image_backoff = min(self._image_backoff * 2, IMAGE_BACKOFF_MAX)
        else:
            self._image_backoff = IMAGE_BACKOFF_MIN
        if self.state.reason != reason:
            if reason == "ImagePullBackOff":
                self._host.event("Normal", "BackOff", f'Back-off pulling image "{self.spec["image"]}"')
            else:
                self._host.event("Warning", reason if reason == "ErrImageNeverPull" else "Failed", message)
            self._host.event("Warning", "Failed", f"Error: {reason}")
        await self._hold(reason, message, delay)

    async def _hold(self, reason: str, message: str, delay: float) -> None:
        self.state = replace(self.state, kind="waiting", reason=reason, message=message)
        self._host.changed()
        await self._sleep(delay)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _terminate(self, process: Running, grace: float) -> None:
        hook, begun = (self.spec.get("lifecycle") or {}).get("preStop"), time.monotonic()
        if hook and grace > 0:
            try:
                await lifecycle.run(hook, self.spec, self._host.ip, self.execute, grace)
            except lifecycle.HookError as error:
                self._host.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {error}")
            # The hook's time is the container's; what is left is at least two seconds.
            grace = max(grace - (time.monotonic() - begun), MIN_GRACE)
        await process.stop(grace)

    def _kill(self, process: Running, grace: float) -> None:
        """Ends this life, not the container: it is restarted by its policy."""
        if self._killer is None:
            self._killer = asyncio.create_task(self._terminate(process, grace))

    # -- probes -------------------------------------------------------------------------------------------------

    async def _probe(self) -> None:
        async with asyncio.TaskGroup() as group:
            if (startup := self.spec.get("startupProbe")) and not self.state.started:
                await probes.watch(startup, self._try(startup), self._on_startup, until_success=True)
            self.settled.set()
            if readiness := self.spec.get("readinessProbe"):
                group.create_task(probes.watch(readiness, self._try(readiness), self._on_readiness))
            if liveness := self.spec.get("livenessProbe"):
                group.create_task(probes.watch(liveness, self._try(liveness), self._on_liveness))

    def _try(self, probe: Object) -> Callable[[], Awaitable[None]]:
        return lambda: probes.attempt(probe, self.spec, self._host.ip, self.execute)

    def _on_startup(self, good: bool, text: str) -> None:
        if not good:
            self._unhealthy("Startup", text, kill=True)
            return
        self._set(started=True, ready="readinessProbe" not in self.spec)

    def _on_readiness(self, good: bool, text: str) -> None:
        if not good:
            self._unhealthy("Readiness", text)
        self._set(started=True, ready=good)

    def _on_liveness(self, good: bool, text: str) -> None:
        if not good:
            self._unhealthy("Liveness", text, kill=True)

    def _ready_now(self) -> None:
        """After the postStart hook: ready, if no probe has a say in it."""
        probed = "startupProbe" in self.spec
        self._set(started=not probed, ready=not probed and "readinessProbe" not in self.spec)

    def _set(self, *, started: bool, ready: bool) -> None:
        if self.running and (self.state.started, self.state.ready) != (started, ready):
            self.state = replace(self.state, started=started, ready=ready)
            self._save()
            self._host.changed()

    def _unhealthy(self, kind: str, text: str, *, kill: bool = False) -> None:
        if kill and self._killer is not None:
            return  # it is on its way out, and cannot be asked any more
        self._host.event("Warning", "Unhealthy", f"{kind} probe failed: {text}")
        if kill and self.process is not None:
            words = f"Container {self.name} failed {kind.lower()} probe, will be restarted"
            self._host.event("Normal", "Killing", words)
            own = (self.spec.get(f"{kind.lower()}Probe") or {}).get("terminationGracePeriodSeconds")
            self._kill(self.process, self._host.grace if own is None else float(own))

    # -- across restarts of the kubelet -------------------------------------------------------------------------

    def _save(self) -> None:
        process = self.process
        record = Record(process.record() if process else None, self.attempt, asdict(self.state))
        path = self._directory / "state.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(record)))
        fresh.rename(path)

    def _recall(self) -> Record | None:
        """What an earlier kubelet wrote; its state is ours from the first moment, so that nobody sees it flicker."""
        path = self._directory / "state.json"
        if not path.exists():
            return None
        record = Record(**json.loads(path.read_text()))
        self.attempt = record.attempt
        self.state = ContainerState(**record.state)  # type: ignore[arg-type]  # the same fields, from JSON
        return record

    async def adopt(self) -> bool:
        """Takes over what an earlier kubelet started; True when there is nothing to start now.

        Called before anybody is told of the container: what ran before the node lost its power runs no more.
        """
        record = self._record
        if record is None or not self.running:
            return self.state.kind == "terminated"
        if self.process is not None:
            return True
        self.process = await self._host.adopt(record.process) if record.process else None
        if self.process is None:
            self._ended(Exit(LOST, known=False), "the container ended while the kubelet was away")
        log.info("container adopted", container=self.name, running=self.running)
        return True
