"""The gRPC service observer.Observer of one node.

Owns: `ObserverService`. Comes in: requests. Goes out: flows, agent events, the node's status. Errors of the request
are INVALID_ARGUMENT with the field and the reason; a slow client slows nobody but itself.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import grpc
import numpy as np

from cilium.api.proto.observer import observer_pb2 as api
from cilium.api.proto.relay import relay_pb2 as relay
from cilium.hubble.agent_events import AgentEventLog
from cilium.hubble.filter_fields import Context
from cilium.hubble.filters import FilterError
from cilium.hubble.flows import FlowDecoder
from cilium.hubble.names import Names
from cilium.hubble.query import Query
from cilium.hubble.store import EventStore, flows_in

RATE_WINDOW_NS = 60 * 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """What the node says of itself. `name` is `cluster/node`."""

    name: str
    address: str = ""
    tls: bool = False
    started: int = field(default_factory=time.monotonic_ns)

    @property
    def uptime_ns(self) -> int:
        return time.monotonic_ns() - self.started


class ObserverService:
    """The methods of the service by their names; `poll` brings the store up to date, when somebody asks."""

    def __init__(
        self,
        *,
        node: NodeInfo,
        store: EventStore,
        poll: Callable[[], None],
        names: Names,
        decoder: FlowDecoder,
        agent_events: AgentEventLog,
    ) -> None:
        self._node, self._store, self._poll, self._names = node, store, poll, names
        self._decoder, self._agent_events = decoder, agent_events
        self._context = Context(names=names, node_name=node.name, uuid_place=decoder.uuid_place)

    async def GetFlows(  # noqa: N802 - named by the proto
        self, request: api.GetFlowsRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[api.GetFlowsResponse]:
        try:
            query = Query(request, store=self._store, decoder=self._decoder, context=self._context)
        except FilterError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self._poll()
        self._names.refresh()
        async for responses in query.responses():
            for response in responses:
                yield response

    async def GetAgentEvents(  # noqa: N802
        self, request: api.GetAgentEventsRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[api.GetAgentEventsResponse]:
        since = request.since.ToNanoseconds() if request.HasField("since") else 0
        until = request.until.ToNanoseconds() if request.HasField("until") else 1 << 63
        kept = [(at, event) for at, event in self._agent_events.kept() if since <= at <= until]
        number = request.number or len(kept)
        for at, event in kept[:number] if request.first else kept[len(kept) - min(number, len(kept)) :]:
            yield self._agent_event(at, event)
        if request.follow:
            async for at, event in self._agent_events.follow():
                if at > until:
                    return
                yield self._agent_event(at, event)

    async def GetDebugEvents(  # noqa: N802
        self, request: api.GetDebugEventsRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[api.GetDebugEventsResponse]:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "this datapath writes no debug events; GetFlows tells of every drop with its reason",
        )
        yield api.GetDebugEventsResponse()  # not reached: abort raises

    async def GetNodes(  # noqa: N802
        self, request: api.GetNodesRequest, context: grpc.aio.ServicerContext
    ) -> api.GetNodesResponse:
        self._poll()
        node = api.Node(
            name=self._node.name,
            version=release(),
            address=self._node.address,
            state=relay.NODE_CONNECTED,
            tls=api.TLS(enabled=self._node.tls),
            uptime_ns=self._node.uptime_ns,
            num_flows=self._store.num_flows(),
            max_flows=self._store.capacity,
            seen_flows=self._store.seen_flows,
        )
        return api.GetNodesResponse(nodes=[node])

    async def GetNamespaces(  # noqa: N802
        self, request: api.GetNamespacesRequest, context: grpc.aio.ServicerContext
    ) -> api.GetNamespacesResponse:
        """Namespaces of the flows that are kept."""
        self._poll()
        self._names.refresh()
        records = self._store.read(self._store.oldest, self._store.end)
        found: set[tuple[str, str]] = set()
        for side in ("source", "destination"):
            ends = np.empty(len(records), [("a", "V16"), ("e", "<u2"), ("i", "<u4")])
            ends["a"], ends["e"], ends["i"] = records[side], records[f"{side}_endpoint"], records[f"{side}_identity"]
            for end in set(ends.tolist()):
                party = self._names.party(*end)
                if party.namespace:
                    found.add((party.cluster or self._node.name.partition("/")[0], party.namespace))
        namespaces = [api.Namespace(cluster=cluster, namespace=name) for cluster, name in sorted(found)]
        return api.GetNamespacesResponse(namespaces=namespaces)

    async def ServerStatus(  # noqa: N802
        self, request: api.ServerStatusRequest, context: grpc.aio.ServicerContext
    ) -> api.ServerStatusResponse:
        self._poll()
        status = api.ServerStatusResponse(
            num_flows=self._store.num_flows(),
            max_flows=self._store.capacity,
            seen_flows=self._store.seen_flows,
            uptime_ns=self._node.uptime_ns,
            version=release(),
            flows_rate=self._rate(),
        )
        status.num_connected_nodes.value = 1
        status.num_unavailable_nodes.value = 0
        return status

    def _rate(self) -> float:
        """Flows per second of the last minute, or of the time that is kept if that is shorter."""
        records = self._store.read(self._store.oldest, self._store.end)
        if not len(records):
            return 0.0
        now = time.time_ns()
        recent = records[records["time"] > np.uint64(now - RATE_WINDOW_NS)]
        full = self._store.oldest > 0 and len(recent) == len(records)
        window = now - int(records["time"].min()) if full else min(RATE_WINDOW_NS, self._node.uptime_ns)
        return flows_in(recent) * 1e9 / max(window, 1)

    def _agent_event(self, at: int, event: Any) -> api.GetAgentEventsResponse:
        response = api.GetAgentEventsResponse(agent_event=event, node_name=self._node.name)
        response.time.FromNanoseconds(at)
        return response


def release() -> str:
    """`cilium v0.1.0`."""
    try:
        return f"cilium v{version('cilium')}"
    except PackageNotFoundError:
        return "cilium (not installed)"
