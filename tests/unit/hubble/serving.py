"""A Hubble server on a unix socket, fed by a ring in memory."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
from unit.hubble.world import Cluster, MemoryRing

from cilium.api.proto.observer import observer_pb2_grpc
from cilium.hubble.records import Records
from cilium.hubble.server import HubbleServer


class Serving:
    """The server and its surroundings. `lost` is the kernel's count of lost events."""

    def __init__(self, directory: Path, capacity: int = 1000, listen: str = "") -> None:
        self.cluster, self.ring, self.lost = Cluster(), MemoryRing(1 << 20), 0
        self.socket = directory / "hubble.sock"
        self.address = f"unix://{self.socket}"
        self.server = HubbleServer(
            ring=self.ring,
            lost=lambda: self.lost,
            tables=self.cluster.tables,
            nodes=self.cluster.nodes,
            policies=self.cluster.policies,
            cluster="default",
            node_name="n1",
            capacity=capacity,
            socket_path=str(self.socket),
            listen=listen,
        )

    def write(self, records: Records) -> None:
        """As the kernel writes them: with monotonic times."""
        stamped = records.copy()
        stamped["time"] = np.uint64(time.monotonic_ns()) + np.arange(len(records), dtype=np.uint64)
        self.ring.write_all(stamped)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[observer_pb2_grpc.ObserverStub]:
        task = asyncio.ensure_future(self.server.run())
        await until(lambda: task.done() or _listening(self.socket))
        try:
            async with grpc.aio.insecure_channel(self.address) as channel, asyncio.timeout(20):
                await channel.channel_ready()
                yield observer_pb2_grpc.ObserverStub(channel)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _listening(path: Path) -> bool:
    """gRPC waits a second after a connection that was refused: ask before it does."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail after ten seconds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise TimeoutError("the condition never came true")
