"""What the kubelet asks of a container runtime.

In: sandboxes and containers as frozen descriptions. Out: running containers that can be waited for, stopped, entered,
attached to. Which implementation it is, ``KubeletConfig.runtime`` says; the kubelet sees nothing but this module.
What outlives a kubelet is the runtime's: the kubelet keeps what ``record`` returns and gives it to ``adopt``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from kubelab.kubelet.config import Object

Propagation = Literal["None", "HostToContainer", "Bidirectional"]
LogFormat = Literal["plain", "cri"]
"""``plain``: what the container wrote. ``cri``: lines of ``TIME STREAM TAGS TEXT``, as CRI runtimes write them."""


Notice = tuple[str, str, str]
"""Type, reason and message of an Event."""


class SandboxError(Exception):
    """A sandbox could not be made; nothing of it is left."""


class LaunchError(Exception):
    """A container could not be started; the text says at which step. ``reason`` is what its status will say."""

    reason = "StartError"


class ContainerConfigError(Exception):
    """What the pod wants of a container contradicts itself (CreateContainerConfigError)."""


class CreateError(Exception):
    """The runtime does not take what the pod wants of a container (CreateContainerError); it is tried again."""


class ImageError(Exception):
    """A container's image cannot be had; its state waits with ``reason`` and the start is tried again."""

    def __init__(self, message: str, reason: str = "ErrImagePull") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Mount:
    """A path of the node that appears in the container."""

    source: str
    target: str
    readonly: bool = False
    propagation: Propagation = "None"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a pod's containers share: its place in the network. ``netns`` is None on the node's network."""

    container_id: str
    netns: str | None
    ips: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything that starting a container needs, references resolved; ``container`` is its part of the pod."""

    pod: Object
    container: Object
    attempt: int
    sandbox: Sandbox
    environment: dict[str, str]  # what the pod and Kubernetes say; the runtime adds what its images say
    directory: Path  # the runtime's to use for this attempt; the next attempt removes it
    log: Path
    mounts: tuple[Mount, ...] = ()
    hostname: str | None = None  # None: the node's


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended. ``code`` in the shell's way; ``known`` is False when nobody saw it."""

    code: int
    known: bool = True
    reason: str = ""  # such as OOMKilled; empty: by the code


@dataclass(frozen=True, slots=True)
class Stats:
    """What a container has used: CPU since its start, memory now."""

    cpu_nanoseconds: int = 0
    memory_bytes: int = 0


class Session(Protocol):
    """Streams to processes in a container: of a command (exec), or of the container itself (attach)."""

    def readers(self) -> list[tuple[int, asyncio.StreamReader]]:
        """(1, stdout), (2, stderr); a terminal has only the first."""

    async def write(self, data: bytes) -> None: ...
    def end_input(self) -> None: ...
    def resize(self, rows: int, columns: int) -> None: ...
    async def wait(self) -> int:
        """The exit code, negative for a signal. Raises LaunchError when it turns out that nothing was started."""

    def close(self) -> None:
        """Ends the command if it still runs; never the container."""


class Running(Protocol):
    """A container that was started."""

    @property
    def id(self) -> str:
        """As the pod's status shows it: ``scheme://id``."""

    @property
    def image_id(self) -> str:
        """Of the image it runs, as the pod's status shows it; empty where there are no images."""

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What to tell of what was started."""

    async def wait(self) -> Exit:
        """Once it has ended. May be awaited by several, and again."""

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after ``grace`` seconds; returns when it has ended."""

    async def execute(self, command: list[str], timeout: float) -> tuple[int, str]:
        """Runs a command to its end: (exit code, output); 124 when it took longer."""

    async def open(self, command: list[str], *, tty: bool, stdin: bool) -> Session:
        """Starts a command with streams; without ``stdin`` its input ends at once. Raises LaunchError."""

    async def attach(self, *, stdin: bool) -> Session:
        """The container's own streams. Raises LaunchError when the runtime cannot."""

    async def stats(self) -> Stats: ...

    def record(self) -> Object:
        """What ``Runtime.adopt`` needs, as JSON."""

    def release(self) -> None:
        """After its end: whatever escaped its first process goes."""


class Runtime(Protocol):
    """Makes sandboxes and containers on this node."""

    async def open(self) -> None:
        """Before anything else, ``version`` too: waits for the runtime to come up."""

    def health(self) -> AsyncIterator[str | None]:
        """Each time that it changes, and once at the beginning: None, or why nothing can be started."""

    @property
    def version(self) -> str:
        """``nodeInfo.containerRuntimeVersion``: ``scheme://version``."""

    def log_format(self, directory: Path) -> LogFormat:
        """Of the logs of the pod whose directory it is."""

    async def images(self) -> list[Object]:
        """The node's images, as its status lists them."""

    def ready(self) -> str | None:
        """None when pods can be attached to the network, otherwise the reason why not."""

    async def find(self, pod: Object, directory: Path) -> Sandbox | None:
        """The pod's sandbox that an earlier kubelet made, if it still is there. ``directory`` is the pod's own."""

    async def create(self, pod: Object, directory: Path) -> Sandbox:
        """A fresh sandbox with network and addresses. Raises SandboxError; nothing is left then."""

    async def remove(self, pod: Object, sandbox: Sandbox | None) -> None:
        """Takes the pod's containers and its sandbox away; what is gone already is no error."""

    async def collect(self, keep: set[str]) -> None:
        """Removes what is left of pods with other uids than these."""

    async def start(self, spec: ContainerSpec) -> Running:
        """Starts a container. Raises LaunchError, ImageError, ContainerConfigError, CreateError."""

    async def adopt(self, record: Object) -> Running | None:
        """The container an earlier kubelet recorded; None when it is gone and nobody knows how it ended."""

    async def dial(self, sandbox: Sandbox, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the pod's loopback (``runtime.dialing``). Raises OSError."""

    async def close(self) -> None:
        """The kubelet ends; containers go on."""
