"""Containers with stdin or a terminal: what they get as descriptors 0 to 2, and how clients attach to them.

In: ``stdin``, ``stdinOnce`` and ``tty`` of a container. Out: its side of a pipe or pseudo-terminal, whose other side
``stdio`` holds; sessions on it. The output of an attached container is its log, from now on; the first client of one
that is made for a single client (``stdinOnce``, by `kubectl run -i`) sees it from its beginning, however late it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import socket
import struct
import sys
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path

from kubelab.kubelet.config import Object
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.runtime.contract import LaunchError
from kubelab.kubelet.runtime.process import stdio
from kubelab.underlay import cgroups

STDOUT = 1
_CHUNK = 1 << 16


def wanted(container: Object) -> bool:
    return bool(container.get("stdin") or container.get("tty"))


async def prepare(container: Object, directory: Path, log: Path, cgroup: Path) -> int:
    """Starts the holder; the container's side, to be closed by the caller. Raises LaunchError."""
    terminal, once = bool(container.get("tty")), bool(container.get("stdinOnce"))
    if terminal:
        ours, theirs = pty.openpty()
    else:
        theirs, ours = os.pipe()
    cgroups.create(cgroup)
    path = socket_path(directory)
    path.unlink(missing_ok=True)
    if once:
        _unseen(directory).touch()
    words = [str(ours), "terminal" if terminal else "pipe", "once" if once else "always", str(log), str(path)]
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-E", "-I", str(stdio.__file__), *words, str(cgroup),
        pass_fds=[ours], start_new_session=True, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        cwd="/",
    )  # fmt: skip
    os.close(ours)
    assert holder.stdout is not None
    if await holder.stdout.read(1) != b".":
        os.close(theirs)
        raise LaunchError("stdin: the process that holds it did not start")
    return theirs


def socket_path(directory: Path) -> Path:
    return directory / "stdio.sock"


def _unseen(directory: Path) -> Path:
    """Is there until the one client for whom the container is made has come."""
    return directory / "unseen"


class Attachment:
    """Implements ``contract.Session``; its end leaves the container alone."""

    def __init__(self, log: Path, inotify: Inotify, ended: Callable[[], Awaitable[object]], fd: int | None,
                 *, offset: int, terminal: bool, stdin: bool) -> None:  # fmt: skip
        self._log, self._inotify, self._ended = log, inotify, ended
        self._fd, self._terminal, self._stdin = fd, terminal, stdin
        self._reader = asyncio.StreamReader(limit=1 << 20)
        self._follower = asyncio.create_task(self._follow(offset), name="attach")

    def readers(self) -> list[tuple[int, asyncio.StreamReader]]:
        return [(STDOUT, self._reader)]

    async def write(self, data: bytes) -> None:
        while data and self._fd is not None and self._stdin:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                await _writable(self._fd)
            except OSError:
                return  # nobody reads any more

    def end_input(self) -> None:
        if not self._terminal and self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal and self._fd is not None:
            fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def wait(self) -> int:
        await self._ended()
        return 0

    def close(self) -> None:
        self._follower.cancel()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    async def _follow(self, offset: int) -> None:
        ended = asyncio.ensure_future(self._ended())
        subscription = self._inotify.subscribe(str(self._log))
        ended.add_done_callback(lambda _: subscription.wake())
        try:
            with self._log.open("rb") as stream:
                while True:
                    last = ended.done()
                    while data := os.pread(stream.fileno(), _CHUNK, offset):
                        offset += len(data)
                        self._reader.feed_data(data)
                    if last:
                        return
                    await subscription.changed()
        finally:
            self._reader.feed_eof()
            subscription.close()
            ended.cancel()


async def attach(
    directory: Path, log: Path, inotify: Inotify, ended: Callable[[], Awaitable[object]], *, tty: bool, stdin: bool
) -> Attachment:
    """A session on a running container; without the holder (its stdin was taken once and for all), only output."""
    fd = None
    if tty or stdin:
        with contextlib.suppress(OSError):
            fd = await asyncio.to_thread(_receive, socket_path(directory))
            os.set_blocking(fd, False)
    return Attachment(log, inotify, ended, fd, offset=_begin(directory, log), terminal=tty, stdin=stdin)


def _begin(directory: Path, log: Path) -> int:
    """From where on a client that comes now sees the log."""
    try:
        _unseen(directory).unlink()
    except FileNotFoundError:
        return log.stat().st_size
    return 0


def _receive(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(5)
        peer.connect(str(path))
        _, descriptors, _, _ = socket.recv_fds(peer, 1, 1)
    if not descriptors:
        raise ConnectionResetError("no descriptor came")
    return descriptors[0]


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    loop.add_writer(fd, ready)
    try:
        await future
    finally:
        loop.remove_writer(fd)
