"""A node with containerd: pods with images run there, stand-ins go on as processes.

In: the kubelet's requests. Out: each is passed to the one of two runtimes that has the pod. Which one that is, is
decided when the pod's sandbox is made, and kept in a file of the pod's directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.runtime.containerd.choice import CONTAINERD, PROCESS, choose
from kubelab.kubelet.runtime.containerd.runtime import ContainerdRuntime
from kubelab.kubelet.runtime.contract import ContainerSpec, LogFormat, Running, Runtime, Sandbox
from kubelab.kubelet.runtime.process.runtime import ProcessRuntime

MARK = "runtime"


class SplitRuntime:
    """Implements ``contract.Runtime``."""

    def __init__(self, config: KubeletConfig, inotify: Inotify) -> None:
        self._processes, self._containers = ProcessRuntime(config, inotify), ContainerdRuntime(config)
        self._runtimes: dict[str, Runtime] = {PROCESS: self._processes, CONTAINERD: self._containers}
        self._directory = Path(config.directory) / "pods"

    async def open(self) -> None:
        await self._containers.open()

    def health(self) -> AsyncIterator[str | None]:
        return self._containers.health()

    @property
    def version(self) -> str:
        return self._containers.version

    def ready(self) -> str | None:
        return self._processes.ready()

    async def images(self) -> list[Object]:
        return await self._containers.images()

    def log_format(self, directory: Path) -> LogFormat:
        return self._runtimes[_read(directory) or PROCESS].log_format(directory)

    async def find(self, pod: Object, directory: Path) -> Sandbox | None:
        name = _read(directory) or await choose(pod, self._containers.knows, self._processes.stands_in)
        _write(directory, name)
        return await self._runtimes[name].find(pod, directory)

    async def create(self, pod: Object, directory: Path) -> Sandbox:
        return await self._of(pod).create(pod, directory)

    async def remove(self, pod: Object, sandbox: Sandbox | None) -> None:
        await self._of(pod).remove(pod, sandbox)

    async def collect(self, keep: set[str]) -> None:
        await asyncio.gather(self._processes.collect(keep), self._containers.collect(keep))

    async def start(self, spec: ContainerSpec) -> Running:
        return await self._of(spec.pod).start(spec)

    async def adopt(self, record: Object) -> Running | None:
        return await self._runtimes[CONTAINERD if "container" in record else PROCESS].adopt(record)

    async def dial(self, sandbox: Sandbox, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self._processes.dial(sandbox, port)  # both give the namespace that it takes

    async def close(self) -> None:
        await self._containers.close()

    def _of(self, pod: Object) -> Runtime:
        """A pod that never had a sandbox has left nothing with either."""
        return self._runtimes[_read(self._directory / pod["metadata"]["uid"]) or PROCESS]


def _write(directory: Path, name: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARK).write_text(name)


def _read(directory: Path) -> str | None:
    with suppress(FileNotFoundError):
        return (directory / MARK).read_text()
    return None
