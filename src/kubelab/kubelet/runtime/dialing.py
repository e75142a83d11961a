"""Connections to what listens on a pod's loopback, for port-forward.

In: a network namespace and a port. Out: streams of a connection made inside.
"""

from __future__ import annotations

import asyncio
import socket
import threading

from kubelab.kubelet.runtime.contract import Sandbox
from kubelab.underlay import syscalls

TIMEOUT = 10.0


async def dial(sandbox: Sandbox, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to 127.0.0.1, else to ::1. Raises OSError with the last attempt's reason."""
    failure: OSError | None = None
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        end = _socket(sandbox.netns, family)
        try:
            async with asyncio.timeout(TIMEOUT):
                await asyncio.get_running_loop().sock_connect(end, (address, port))
                return await asyncio.open_connection(sock=end)
        except OSError as error:
            failure = failure or error
            end.close()
    assert failure is not None
    raise failure


def _socket(netns: str | None, family: int) -> socket.socket:
    """A socket belongs to the namespace of the thread that makes it; that thread must not live on."""
    made: list[socket.socket | OSError] = []

    def work() -> None:
        try:
            if netns is not None:
                syscalls.enter(netns, syscalls.CLONE_NEWNET)
            made.append(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=work, name="socket in a pod")
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
