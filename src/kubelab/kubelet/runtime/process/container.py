"""A container of the process runtime while it runs.

In: its first process and where commands enter it. Out: its end, signals, commands inside; a record to adopt it by.
"""

from __future__ import annotations

import asyncio
import signal
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from kubelab.kubelet.config import Object
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.runtime.contract import Exit, Session, Stats
from kubelab.kubelet.runtime.process import execution, sessions
from kubelab.kubelet.runtime.process.execution import Inside, privileges
from kubelab.kubelet.runtime.process.interactive import attach
from kubelab.kubelet.runtime.process.launch import Launch
from kubelab.kubelet.runtime.process.processes import Process
from kubelab.underlay import cgroups


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Where a container's output goes and its input comes from; of plain types, like ``Inside``."""

    log: str
    directory: str
    tty: bool


class ProcessContainer:
    """Implements ``contract.Running``."""

    def __init__(self, process: Process, inside: Inside, streams: Streams, identity: str, inotify: Inotify) -> None:
        self._process, self._inside, self._streams, self._id = process, inside, streams, identity
        self._inotify = inotify
        self._notice = ""

    @classmethod
    def of(cls, process: Process, launched: Launch, inotify: Inotify) -> ProcessContainer:
        inside = Inside(
            pid=process.pid,
            cgroup=str(launched.cgroup),
            environment=launched.environment,
            cwd=launched.cwd,
            privileges=privileges(launched.security),
        )
        streams = Streams(log=str(launched.log), directory=str(launched.directory), tty=launched.tty)
        made = cls(process, inside, streams, f"kubelab://{uuid.uuid4().hex}", inotify)
        replaced = launched.fallback is not None and process.executes(launched.fallback)
        made._notice = launched.fallback_notice if replaced else launched.notice
        return made

    @classmethod
    def adopt(cls, record: Object, inotify: Inotify) -> ProcessContainer | None:
        process = Process.adopt(record["inside"]["pid"], record["started"])
        if process is None:
            return None
        return cls(process, Inside(**record["inside"]), Streams(**record["streams"]), record["id"], inotify)

    def record(self) -> Object:
        return {
            "id": self._id,
            "started": self._process.started,
            "inside": asdict(self._inside),
            "streams": asdict(self._streams),
        }

    @property
    def id(self) -> str:
        return self._id

    @property
    def image_id(self) -> str:
        return ""

    @property
    def notice(self) -> tuple[str, str] | None:
        return ("StandIn", self._notice) if self._notice else None

    async def wait(self) -> Exit:
        code = await self._process.wait()
        return Exit(code, self._process.exit_known)

    async def stop(self, grace: float) -> None:
        # The first process of a PID namespace ignores what it does not catch: waiting for it would be in vain.
        if grace > 0 and self._process.heeds(signal.SIGTERM):
            self._process.signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace)
                return
        self._process.signal(signal.SIGKILL)
        self.release()
        await self._process.wait()

    async def execute(self, command: list[str], timeout: float) -> tuple[int, str]:
        return await execution.run(self._inside, command, timeout)

    async def open(self, command: list[str], *, tty: bool, stdin: bool) -> Session:
        environment = {**self._inside.environment, "TERM": "xterm"} if tty else self._inside.environment
        argv = self._inside.argv(command, tty=tty)
        if tty:
            return await sessions.Terminal.open(argv, environment)
        session = await sessions.Pipes.open(argv, environment)
        if not stdin:
            session.end_input()
        return session

    async def attach(self, *, stdin: bool) -> Session:
        streams, log = self._streams, Path(self._streams.log)
        return await attach(
            Path(streams.directory), log, self._inotify, self._process.wait, tty=streams.tty, stdin=stdin
        )

    async def stats(self) -> Stats:
        return Stats(
            cgroups.cpu_nanoseconds(Path(self._inside.cgroup)), cgroups.resident_bytes(Path(self._inside.cgroup))
        )

    def release(self) -> None:
        cgroups.kill(Path(self._inside.cgroup))
