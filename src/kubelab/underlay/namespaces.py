"""Namespaces pinned to files, and functions run in a forked child that may enter or make them.

In: paths. Out: bind mounts of namespace files; errors of the child are raised in the parent with their text.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from kubelab.underlay import syscalls


class ChildError(Exception):
    """A forked child failed; the text is what it raised."""


class Child:
    """A forked child that reports once and then stays until released, so that its namespaces can be pinned.

    Use as a context manager: on entry the child has run ``function``; on exit it is gone and reaped.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self.pid = 0
        self._release = -1

    def __enter__(self) -> Child:
        report_read, report_write = os.pipe()
        release_read, self._release = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(report_read)
            os.close(self._release)
            self._child(report_write, release_read)
        os.close(report_write)
        os.close(release_read)
        with os.fdopen(report_read, "rb") as stream:
            report = stream.read()
        if report != b"ok":
            self.__exit__()
            raise ChildError(report.decode(errors="replace") or "the child died without a word")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._release)
        os.waitpid(self.pid, 0)

    def _child(self, report: int, release: int) -> None:
        # Never returns: whatever happens, the copy of the parent's stack must not be unwound.
        try:
            self._function()
            os.write(report, b"ok")
        except OSError as error:
            os.write(report, str(error.args[-1] if len(error.args) < 3 else error).encode()[:4000])
        except BaseException as error:
            ours = type(error).__module__.startswith("kubelab.")
            os.write(report, (str(error) if ours else traceback.format_exc()).encode()[-4000:])
        os.close(report)
        os.read(release, 1)
        os._exit(0)


def run_in_child(function: Callable[[], None]) -> None:
    """Runs ``function`` in a forked child and waits for it. Raises ChildError with the child's text."""
    with Child(function):
        pass


def pin(source: str, path: Path) -> None:
    """Binds a namespace file (``/proc/PID/ns/KIND``) to ``path``; the namespace then outlives its processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(exist_ok=False)
    try:
        syscalls.bind(source, str(path))
    except OSError:
        path.unlink()
        raise


def enter_or_make(path: Path, kind: str, flag: int) -> None:
    """The calling process enters the namespace pinned at ``path``; the first who comes makes it.

    ``kind``: as /proc names it; ``flag``: its CLONE_NEW….
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if path.exists():
            syscalls.enter(str(path), flag)
        else:
            syscalls.unshare(flag)
            pin(f"/proc/self/ns/{kind}", path)
    finally:
        os.close(directory)


def unpin(path: Path) -> None:
    """Undoes ``pin``; what is not there is no error."""
    with suppress(OSError):
        syscalls.umount(str(path))
    path.unlink(missing_ok=True)


def loopback_up() -> None:
    """Brings the loopback device of the current network namespace up."""
    write_sysctl("net/ipv6/conf/default/accept_dad", "0", missing_ok=True)
    # SIOCGIFFLAGS/SIOCSIFFLAGS, netdevice(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = fcntl.ioctl(sock, 0x8913, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1]
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", flags | 1))


def write_sysctl(key: str, value: str, *, missing_ok: bool = False) -> None:
    """Sets one sysctl of the current network namespace; ``key`` is its path below /proc/sys."""
    try:
        Path("/proc/sys", key).write_text(value)
    except FileNotFoundError:
        if not missing_ok:
            raise


def create_network(path: Path, sysctls: Mapping[str, str] | None = None) -> None:
    """Makes a network namespace with its loopback up and pins it at ``path``; ``sysctls`` by dotted name.

    Raises ChildError, FileExistsError.
    """

    def body() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        loopback_up()
        for name, value in (sysctls or {}).items():
            write_sysctl(name.replace(".", "/"), value)
        pin("/proc/self/ns/net", path)

    run_in_child(body)
