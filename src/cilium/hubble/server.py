"""Hubble in the agent: the collector, the names and the gRPC server, as one thing to run.

Owns: `HubbleServer`, its listeners and its tasks. Comes in: the mapped ring, tables, settings. Goes out: the services
observer.Observer and peer.Peer on a unix socket and on TCP.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import structlog

from cilium.api.proto.observer import observer_pb2_grpc
from cilium.api.proto.peer import peer_pb2_grpc
from cilium.hubble.agent_events import AgentEventLog, watch
from cilium.hubble.collector import Collector
from cilium.hubble.default_deny import DefaultDeny
from cilium.hubble.flows import FlowDecoder
from cilium.hubble.names import Names, NameTables
from cilium.hubble.observer import NodeInfo, ObserverService
from cilium.hubble.peers import PeerService
from cilium.hubble.ring import RingMemory
from cilium.hubble.store import DEFAULT_CAPACITY, EventStore
from cilium.state.table import Table
from cilium.tables.kubernetes import CiliumNode
from cilium.tables.rules import PolicyObject

DEFAULT_SOCKET = "/var/run/cilium/hubble.sock"
DEFAULT_LISTEN = ""
MAX_REQUESTS = 256
"""At once; more are refused with RESOURCE_EXHAUSTED."""
GRACE = 0.5
"""Seconds that running requests get when the server stops."""

log = structlog.get_logger(__name__)


class ListenError(OSError):
    """An address that cannot be listened on; says which setting names it."""


class HubbleServer:
    """`await run()` serves until cancelled. Raises ListenError when an address is taken.

    `lost` is the kernel's count of events that did not fit, see Collector. `listen` empty: the unix socket only.
    """

    def __init__(
        self,
        *,
        ring: RingMemory,
        lost: Callable[[], int] | None,
        tables: NameTables,
        nodes: Table[Any, CiliumNode],
        policies: Table[Any, PolicyObject],
        cluster: str,
        node_name: str,
        capacity: int = DEFAULT_CAPACITY,
        socket_path: str = DEFAULT_SOCKET,
        listen: str = DEFAULT_LISTEN,
        credentials: grpc.ServerCredentials | None = None,
        dual_stack: bool = True,
    ) -> None:
        self._socket_path, self._listen, self._credentials = socket_path, listen, credentials
        self._tables, self._policies = tables, policies
        name = f"{cluster}/{node_name}"
        self.store = EventStore(capacity)
        self.collector = Collector(ring, self.store, lost=lost)
        default_deny = DefaultDeny(policies, tables.endpoint_identities, tables.rule_references)
        self.names = Names(tables, default_deny=default_deny, dual_stack=dual_stack)
        self.agent_events = AgentEventLog()
        self.decoder = FlowDecoder(self.names, node_name=name, instance=os.urandom(8))
        self._observer = ObserverService(
            node=NodeInfo(name=name, address=listen, tls=credentials is not None),
            store=self.store,
            poll=self.collector.poll,
            names=self.names,
            decoder=self.decoder,
            agent_events=self.agent_events,
        )
        port = int(listen.rpartition(":")[2]) if listen else 0
        self._peers = PeerService(nodes, cluster=cluster, port=port)

    async def run(self) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=MAX_REQUESTS)
        observer_pb2_grpc.add_ObserverServicer_to_server(self._observer, server)
        peer_pb2_grpc.add_PeerServicer_to_server(self._peers, server)
        self._bind(server)
        await server.start()
        log.info("serving flows", socket=self._socket_path, listen=self._listen, capacity=self.store.capacity)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.collector.run(), name="hubble-collector")
                tasks.create_task(self.names.run(), name="hubble-names")
                tasks.create_task(
                    watch(
                        self.agent_events,
                        endpoints=self._tables.endpoints,
                        ipcache=self._tables.ipcache,
                        policies=self._policies,
                    ),
                    name="hubble-agent-events",
                )
        finally:
            await server.stop(GRACE)
            self._unbind()

    def _bind(self, server: grpc.aio.Server) -> None:
        path = Path(self._socket_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if _answers(path):
            raise ListenError(f"hubble-socket-path: another process serves {path}")
        path.unlink(missing_ok=True)
        self._add(server, f"unix:{path}", "hubble-socket-path", None)
        path.chmod(0o660)
        if self._listen:
            every = "[::]" if Path("/proc/net/if_inet6").exists() else "0.0.0.0"
            address = every + self._listen if self._listen.startswith(":") else self._listen
            self._add(server, address, "hubble-listen-address", self._credentials)

    def _unbind(self) -> None:
        Path(self._socket_path).unlink(missing_ok=True)

    def _add(
        self, server: grpc.aio.Server, address: str, setting: str, credentials: grpc.ServerCredentials | None
    ) -> None:
        try:
            if credentials is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise ListenError(f"{setting}: cannot listen on {address}: {error}") from error


def _answers(path: Path) -> bool:
    """Whether a living process listens there; a socket left behind by a dead one does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
