"""Network namespaces by descriptor. In: a descriptor and a callable. Out: what the callable returns inside.

A network namespace belongs to a thread (setns(2)), so every call gets a thread of its own that ends with it: no thread
of a pool is ever left in a foreign namespace.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cilium.datapath.errors import DatapathError
from cilium.datapath.libbpf.library import ffi, libc

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
SO_NETNS_COOKIE = 71
_NSFS_MAGIC_PREFIX = "net:["


class NamespaceError(DatapathError):
    """No network namespace there, or it cannot be entered."""


def open_netns(path: str | Path) -> int:
    """A descriptor of the network namespace at `path` (e.g. /proc/1/ns/net or a bind mount).

    Raises NamespaceError naming the path when it is absent or something else.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NamespaceError(f"network namespace {path}: {error.strerror}") from None
    if not is_netns(fd):
        os.close(fd)
        raise NamespaceError(f"{path} is no network namespace")
    return fd


def is_netns(fd: int) -> bool:
    """Whether a descriptor refers to a network namespace."""
    target = os.readlink(f"/proc/self/fd/{fd}")
    if target.startswith(_NSFS_MAGIC_PREFIX):
        return True
    # A bind mount shows its own path; the kernel accepts it for CLONE_NEWNET only if it is one: try, in a thread.
    outcome: list[int] = []
    thread = threading.Thread(target=lambda: outcome.append(_enter(fd)))
    thread.start()
    thread.join()
    return outcome == [0]


def netns_cookie() -> int:
    """What the kernel calls this process's network namespace in programs (SO_NETNS_COOKIE, socket(7)); Linux 5.14."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        try:
            return int.from_bytes(anything.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")
        except OSError as error:
            raise NamespaceError(f"cookie of the network namespace: {error.strerror}") from None


def run_in_netns(fd: int, action: Callable[[], T]) -> T:
    """Run `action` in the namespace and return its result or raise its exception. Raises NamespaceError.

    Blocks the calling thread; sockets that `action` opens stay in that namespace for good.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            if number := _enter(fd):
                raise NamespaceError(f"enter network namespace (descriptor {fd}): {os.strerror(number)}")
            result.append(action())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name=f"netns-{fd}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def new_netns() -> int:
    """A descriptor of a new network namespace without a name: it goes when its last descriptor and socket go.

    Raises NamespaceError.
    """
    made: list[int] = []
    failure: list[int] = []

    def body() -> None:
        if libc().unshare(CLONE_NEWNET) != 0:
            failure.append(int(ffi.errno))
            return
        made.append(os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=body, name="netns-new")
    thread.start()
    thread.join()
    if not made:
        reason = os.strerror(failure[0]) if failure else "/proc is not readable"
        raise NamespaceError(f"make a network namespace: {reason}")
    return made[0]


async def call_in_netns(fd: int, action: Callable[[], T]) -> T:
    """`run_in_netns` without blocking the loop."""
    return await asyncio.to_thread(run_in_netns, fd, action)


def _enter(fd: int) -> int:
    """0 or errno."""
    return 0 if libc().setns(fd, CLONE_NEWNET) == 0 else int(ffi.errno)
