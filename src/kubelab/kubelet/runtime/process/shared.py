"""What the containers of a pod share beside its network: an IPC namespace, /dev/shm, and, when it says so
(``shareProcessNamespace``), a PID namespace whose first process is a pause container.

In: pods. Out: paths of namespaces to enter. All of it is in the node's /run and goes with the pod, or with the power.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from kubelab.kubelet.runtime.process.launch import Launch, launch
from kubelab.kubelet.runtime.process.processes import Process, start_time
from kubelab.underlay import namespaces, syscalls

ROOT = Path("/run/kubelab/pods")
SHM_SIZE = "64m"


class Shared:
    """Of all pods of a node."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._starting: dict[str, asyncio.Lock] = {}
        self._pauses: dict[str, Process] = {}
        self._reapers: set[asyncio.Task[int]] = set()  # pause containers are children

    def shm(self, uid: str) -> Path:
        """The pod's /dev/shm. Raises OSError."""
        path = self._root / uid / "shm"
        path.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(path):
            flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
            syscalls.mount("shm", str(path), "tmpfs", flags, f"mode=1777,size={SHM_SIZE}")
        return path

    def ipc(self, uid: str) -> Path:
        """Where its IPC namespace is pinned, or will be by the first who enters it."""
        return self._root / uid / "ipc"

    async def pids(self, uid: str, pause: Launch) -> str:
        """The pod's PID namespace; ``pause`` is started where none lives. Raises LaunchError."""
        async with self._starting.setdefault(uid, asyncio.Lock()):
            process = self._pauses.get(uid) or self._adopt(uid)
            if process is None or start_time(process.pid) != process.started:
                process = await launch(pause)
                self._record(uid).write_text(json.dumps([process.pid, process.started]))
            if self._pauses.get(uid) is not process:
                self._pauses[uid] = process
                reaper = asyncio.create_task(process.wait())
                self._reapers.add(reaper)
                reaper.add_done_callback(self._reapers.discard)
        return f"/proc/{process.pid}/ns/pid"

    def _adopt(self, uid: str) -> Process | None:
        record = self._record(uid)
        return Process.adopt(*json.loads(record.read_text())) if record.exists() else None

    def _record(self, uid: str) -> Path:
        return self._root / uid / "pause.json"

    def remove(self, uid: str) -> None:
        """After the pod's processes; what is not there is no error."""
        self._starting.pop(uid, None)
        self._pauses.pop(uid, None)
        directory = self._root / uid
        if directory.is_dir():
            namespaces.unpin(directory / "ipc")
            with suppress(OSError):
                syscalls.umount(str(directory / "shm"))
            shutil.rmtree(directory, ignore_errors=True)

    def collect(self, keep: set[str]) -> None:
        for directory in self._root.glob("*"):
            if directory.name not in keep:
                self.remove(directory.name)
