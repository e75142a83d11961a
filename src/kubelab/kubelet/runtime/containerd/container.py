"""A container of containerd while it runs.

In: its id. Out: its end, signals, commands inside, streams; a record to adopt it by. Its end is seen on a descriptor of
its first process, not asked for again and again: version 1 of the interface, as containerd 1.6 has it, tells no events.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from typing import Any

import structlog

from kubelab.cri.client import CriClient, CriError
from kubelab.cri.proto import runtime_pb2 as cri
from kubelab.kubelet.config import Object
from kubelab.kubelet.runtime.containerd.session import StreamSession
from kubelab.kubelet.runtime.contract import Exit, LaunchError, Notice, Session, Stats
from kubelab.kubelet.runtime.process.processes import UNKNOWN_EXIT, readable

log = structlog.get_logger(__name__)

SCHEME = "containerd"
TIMED_OUT = 124
_PAUSE_MIN, _PAUSE_MAX = 0.005, 1.0


class ContainerdContainer:
    """Implements ``contract.Running``."""

    def __init__(self, client: CriClient, identifier: str, image_id: str, *, tty: bool) -> None:
        self._client, self._identifier, self._image_id, self._tty = client, identifier, image_id, tty
        self.notices: tuple[Notice, ...] = ()
        self._exit: Exit | None = None
        self._cleanup: asyncio.Task[None] | None = None

    @classmethod
    async def adopt(cls, client: CriClient, record: Object) -> ContainerdContainer | None:
        """None when containerd does not know it any more. Raises CriError."""
        try:
            await client.container(record["container"])
        except CriError as error:
            if error.missing:
                return None
            raise
        return cls(client, record["container"], record["image"], tty=record["tty"])

    def record(self) -> Object:
        return {"container": self._identifier, "image": self._image_id, "tty": self._tty}

    @property
    def id(self) -> str:
        return f"{SCHEME}://{self._identifier}"

    @property
    def image_id(self) -> str:
        return self._image_id

    async def wait(self) -> Exit:
        pause = _PAUSE_MIN
        while self._exit is None:
            try:
                answer = await self._client.container(self._identifier)
            except CriError as error:
                if error.missing:
                    self._exit = Exit(UNKNOWN_EXIT, known=False)
                    break
                log.warning("container not seen", container=self._identifier, error=str(error))
            else:
                if self._ended(answer.status):
                    break
                await _end_of(json.loads(answer.info["info"]).get("pid") or 0)
            # The process is gone and containerd is about to hear of it, or containerd is away.
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_MAX)
        return self._exit or Exit(UNKNOWN_EXIT, known=False)

    def _ended(self, status: Any) -> bool:
        if status.state == cri.CONTAINER_EXITED:
            reason = "" if status.reason in ("Completed", "Error") else status.reason
            self._exit = Exit(status.exit_code, reason=reason)
        elif status.state == cri.CONTAINER_UNKNOWN:
            self._exit = Exit(UNKNOWN_EXIT, known=False)
        return self._exit is not None

    async def stop(self, grace: float) -> None:
        try:
            await self._client.stop(self._identifier, math.ceil(grace))
        except CriError as error:
            log.warning("container not stopped", container=self._identifier, error=str(error))
        await self.wait()

    async def execute(self, command: list[str], timeout: float) -> tuple[int, str]:
        try:
            answer = await self._client.execute(self._identifier, command, max(1, math.ceil(timeout)))
        except CriError as error:
            return (TIMED_OUT, f"no result within {timeout:g} s") if error.late else (1, str(error))
        return answer.exit_code, (answer.stdout + answer.stderr).decode(errors="replace")

    async def open(self, command: list[str], *, tty: bool, stdin: bool) -> Session:
        try:
            url = await self._client.exec_url(self._identifier, command, tty=tty, stdin=stdin)
            return await StreamSession.open(url, tty=tty, stdin=stdin)
        except (CriError, OSError) as error:
            raise LaunchError(str(error)) from error

    async def attach(self, *, stdin: bool) -> Session:
        try:
            url = await self._client.attach_url(self._identifier, tty=self._tty, stdin=stdin)
            return await StreamSession.open(url, tty=self._tty, stdin=stdin)
        except (CriError, OSError) as error:
            raise LaunchError(str(error)) from error

    async def stats(self) -> Stats:
        try:
            usage = await self._client.usage(self._identifier)
        except CriError:
            return Stats()
        return Stats(usage.cpu.usage_core_nano_seconds.value, usage.memory.working_set_bytes.value)

    def release(self) -> None:
        """containerd forgets it; its log, which is the pod's, stays."""
        if self._cleanup is None:
            self._cleanup = asyncio.create_task(self._remove(), name=f"removal of {self.id}")

    async def _remove(self) -> None:
        try:
            await self._client.remove(self._identifier)
        except CriError as error:  # goes with its sandbox
            log.warning("container not removed", container=self._identifier, error=str(error))


async def _end_of(pid: int) -> None:
    """Until the process has ended; at once when there is none."""
    try:
        descriptor = os.pidfd_open(pid) if pid else -1
    except OSError:
        return
    if descriptor < 0:
        return
    try:
        await readable(descriptor)
    finally:
        os.close(descriptor)
