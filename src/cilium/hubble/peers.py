"""The gRPC service peer.Peer: which nodes of the cluster serve flows, and how that changes.

Owns: `PeerService`. Comes in: the table of nodes. Goes out: a stream of changes that begins with every node.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from cilium.api.proto.peer import peer_pb2 as api
from cilium.state.changes import Change
from cilium.state.table import Table
from cilium.tables.kubernetes import CiliumNode


class PeerService:
    """Every node serves its flows on `port` of its first internal address."""

    def __init__(self, nodes: Table[Any, CiliumNode], *, cluster: str, port: int) -> None:
        self._nodes, self._cluster, self._port = nodes, cluster, port

    async def Notify(  # noqa: N802 - named by the proto
        self, request: api.NotifyRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[api.ChangeNotification]:
        changes = self._nodes.changes()
        while True:
            for change in changes.pop():
                notification = self._notification(change)
                if notification is not None:
                    yield notification
            await changes.wait()

    def _notification(self, change: Change[Any, CiliumNode]) -> api.ChangeNotification | None:
        node = change.new or change.old
        if node is None:
            return None
        kind = api.PEER_DELETED if change.new is None else api.PEER_UPDATED if change.old else api.PEER_ADDED
        return api.ChangeNotification(name=f"{self._cluster}/{node.name}", address=self._address(node), type=kind)

    def _address(self, node: CiliumNode) -> str:
        if not node.internal_ips:
            return ""
        address = node.internal_ips[0]
        return f"[{address}]:{self._port}" if address.version == 6 else f"{address}:{self._port}"
