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
from kubelab.kubelet.runtime.contract import Exit, Notice, Session, Stats
from kubelab.kubelet.runtime.process import execution, groups, sessions
from kubelab.kubelet.runtime.process.execution import Inside, privileges
from kubelab.kubelet.runtime.process.interactive import attach
from kubelab.kubelet.runtime.process.launch import Launch
from kubelab.kubelet.runtime.process.processes import Process
from kubelab.underlay import cgroups

OOM_KILLED = "OOMKilled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Where a container's output goes and its input comes from; of plain types, like ``Inside``."""

    log: str
    directory: str
    tty: bool


class ProcessContainer:
    """Implements ``contract.Running``."""

    def __init__(self, process: Process, inside: Inside, streams: Streams, identity: str, inotify: Inotify,
                 killed: int = 0) -> None:  # fmt: skip
        self._process, self._inside, self._streams, self._id = process, inside, streams, identity
        self._inotify, self._killed = inotify, killed
        self.notices: tuple[Notice, ...] = ()

    @classmethod
    def of(cls, process: Process, launched: Launch, inotify: Inotify, killed: int) -> ProcessContainer:
        """``killed``: what ``groups.oom_kills`` said before it started."""
        inside = Inside(
            pid=process.pid,
            groups=[str(path) for path in launched.groups],
            environment=launched.environment,
            cwd=launched.cwd,
            privileges=privileges(launched.security),
        )
        streams = Streams(log=str(launched.log), directory=str(launched.directory), tty=launched.tty)
        made = cls(process, inside, streams, f"kubelab://{uuid.uuid4().hex}", inotify, killed)
        replaced = launched.fallback is not None and process.executes(launched.fallback)
        if notice := launched.fallback_notice if replaced else launched.notice:
            made.notices = (("Normal", "StandIn", notice),)
        return made

    @classmethod
    def adopt(cls, record: Object, inotify: Inotify) -> ProcessContainer | None:
        process = Process.adopt(record["inside"]["pid"], record["started"])
        if process is None:
            return None
        return cls(process, Inside(**record["inside"]), Streams(**record["streams"]), record["id"], inotify,
                   record["killed"])  # fmt: skip

    def record(self) -> Object:
        return {
            "id": self._id,
            "started": self._process.started,
            "inside": asdict(self._inside),
            "streams": asdict(self._streams),
            "killed": self._killed,
        }

    @property
    def id(self) -> str:
        return self._id

    @property
    def image_id(self) -> str:
        return ""

    async def wait(self) -> Exit:
        code = await self._process.wait()
        starved = code != 0 and groups.oom_kills(self._groups) > self._killed
        return Exit(code, self._process.exit_known, OOM_KILLED if starved else "")

    async def stop(self, grace: float) -> None:
        # Waiting for a process that ignores the signal would be in vain.
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
        return Stats(cgroups.cpu_nanoseconds(self._groups[0]), cgroups.resident_bytes(self._groups[0]))

    def release(self) -> None:
        cgroups.kill(self._groups[0])

    @property
    def _groups(self) -> list[Path]:
        return [Path(group) for group in self._inside.groups]
