"""Serves the CNI plugin on the agent's socket.

In: requests as cilium.protocols.cni frames them, with the pod's namespace as a file descriptor. Out: calls of a
Handler, whose answers go back in the shape the runtime asked for. A request that cannot be decoded or handled is
answered with an error of the specification; it never disturbs another one.

DELs that came while the agent was away lie in the delete queue and are replayed before the first request is taken.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import structlog

from cilium.protocols import cni
from cilium.protocols.cni import CNIError, ErrorCode, Request, Result

log = structlog.get_logger("cni")

PATIENCE = 10.0
"""Seconds for a request to arrive; the plugin has it in hand when it connects."""
ACCEPT_PAUSE = 0.1


class Handler(Protocol):
    """What the agent does for each command. Every method may raise CNIError."""

    async def add(self, request: Request, netns_fd: int) -> Result:
        """Connects the namespace; the same request again returns the same result."""

    async def delete(self, request: Request) -> None:
        """Removes the endpoint; one that is absent is no error."""

    async def check(self, request: Request, netns_fd: int) -> None:
        """Raises if the interface, its addresses or the datapath's row are not as ADD left them."""

    async def collect(self, request: Request) -> None:
        """GC: removes every endpoint of this network that `cni.dev/valid-attachments` does not name."""

    async def status(self, request: Request) -> None:
        """Raises NOT_AVAILABLE if an ADD could not be served now."""


class Served(Protocol):
    def __call__(self, command: str, seconds: float, *, failed: bool) -> None:
        """A request was answered; failed: with an error."""


class CNIServer:
    """The listening socket and one task per request."""

    def __init__(
        self, *, path: Path, delete_queue: Path, handler: Handler, served: Served = lambda *_, **__: None
    ) -> None:
        self._path, self._queue, self._handler, self._served = path, delete_queue, handler, served

    async def run(self, tasks: asyncio.TaskGroup, *, listening: Callable[[], None] = lambda: None) -> None:
        """Replays the delete queue, then serves until cancelled."""
        await self.replay_deletes()
        listener = self._listen()
        loop = asyncio.get_running_loop()
        listening()
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:  # no descriptors left, or the client has gone already
                    log.warning("cni connection not accepted", error=str(error))
                    await asyncio.sleep(ACCEPT_PAUSE)
                    continue
                tasks.create_task(self._serve(connection), name="cni-request")
        finally:
            listener.close()

    async def replay_deletes(self) -> None:
        for entry in sorted(self._queue.glob("*.delete")):
            try:
                request = cni.decode_request(entry.read_bytes()[cni.HEADER.size :])
                await self._handler.delete(request)
                log.info("replayed delete", container=request.container_id)
            except CNIError as error:
                log.warning("queued delete failed", entry=entry.name, error=error.message)
            except Exception as error:  # the next start tries again; this one goes on
                log.warning("queued delete failed", entry=entry.name, error=f"{type(error).__name__}: {error}")
                continue
            entry.unlink(missing_ok=True)

    def _listen(self) -> socket.socket:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(str(self._path))
        self._path.chmod(0o600)
        listener.listen(512)
        return listener

    async def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        netns_fd = -1
        try:
            async with asyncio.timeout(PATIENCE):
                payload, netns_fd = await receive_request(connection)
            status, stdout = await self._answer(payload, netns_fd)
            await asyncio.get_running_loop().sock_sendall(connection, cni.frame_response(status, stdout))
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            log.warning("cni connection lost", error=str(error) or f"no request within {PATIENCE:.0f} s")
        finally:
            if netns_fd >= 0:
                os.close(netns_fd)
            connection.close()

    async def _answer(self, payload: bytes, netns_fd: int) -> tuple[int, bytes]:
        version, command, start, failed = "1.0.0", "unknown", time.monotonic(), True
        try:
            request = cni.decode_request(payload)
            version, command = request.version, request.command
            answer = await self._dispatch(request, netns_fd)
            failed = False
            return 0, answer
        except CNIError as error:
            log.warning("cni request failed", code=int(error.code), error=error.message)
            return 1, cni.encode_error(error, version)
        except Exception as error:
            log.exception("cni request crashed")
            return 1, cni.encode_error(CNIError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"), version)
        finally:
            self._served(command, time.monotonic() - start, failed=failed)

    async def _dispatch(self, request: Request, netns_fd: int) -> bytes:
        if netns_fd < 0 and request.command in {"ADD", "CHECK"}:
            raise CNIError(
                ErrorCode.INVALID_ENVIRONMENT,
                f"CNI_NETNS {request.netns!r} came without an open network namespace",
            )
        match request.command:
            case "ADD":
                return cni.encode_result(await self._handler.add(request, netns_fd), request)
            case "VERSION":
                return cni.encode_version()
            case "CHECK":
                await self._handler.check(request, netns_fd)
            case _:
                calls: dict[str, Callable[[Request], Awaitable[None]]] = {
                    "DEL": self._handler.delete,
                    "GC": self._handler.collect,
                    "STATUS": self._handler.status,
                }
                await calls[request.command](request)
        return b""


async def receive_request(connection: socket.socket) -> tuple[bytes, int]:
    """Returns the payload and the namespace's descriptor (-1 if none came). Raises EOFError on a short request."""
    await _readable(connection)
    data, descriptors, _, _ = socket.recv_fds(connection, 65536, 1)
    netns_fd = descriptors[0] if descriptors else -1
    try:
        loop = asyncio.get_running_loop()
        while len(data) < cni.HEADER.size or len(data) < cni.HEADER.size + cni.HEADER.unpack_from(data)[0]:
            if len(data) >= cni.HEADER.size and cni.HEADER.unpack_from(data)[0] > cni.MAX_REQUEST:
                raise EOFError(f"a request of more than {cni.MAX_REQUEST} bytes")
            part = await loop.sock_recv(connection, 65536)
            if not part:
                raise EOFError("the plugin hung up in the middle of a request")
            data += part
    except BaseException:
        if netns_fd >= 0:
            os.close(netns_fd)
        raise
    return data[cni.HEADER.size :], netns_fd


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
