"""What the agent did: endpoints that came and went, addresses that changed their identity, policies that changed.

Owns: `AgentEventLog`, the newest events with sequence numbers, and `watch`, which fills it from change streams.
Comes in: changes of tables. Goes out: events of flow.AgentEvent for GetAgentEvents.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.state.changes import Change
from cilium.state.table import Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.rules import PolicyObject

KEPT = 4096
SETTLE = 0.1

Stamped = tuple[int, pb.AgentEvent]
"""Unix time in nanoseconds, and the event."""


class AgentEventLog:
    """The newest `KEPT` events, and a wake-up for those who follow."""

    def __init__(self) -> None:
        self._events: deque[Stamped] = deque(maxlen=KEPT)
        self._end = 0
        self._news = asyncio.Event()
        now = time.time_ns()
        started = pb.AgentEvent(type=pb.AGENT_STARTED)
        started.agent_start.time.FromNanoseconds(now)
        self.add(started, now)

    def add(self, event: pb.AgentEvent, at: int | None = None) -> None:
        self._events.append((time.time_ns() if at is None else at, event))
        self._end += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    def kept(self) -> list[Stamped]:
        return list(self._events)

    async def follow(self) -> AsyncIterator[Stamped]:
        """Events from now on; one who is too slow misses the oldest."""
        cursor = self._end
        while True:
            while cursor < self._end:
                oldest = self._end - len(self._events)
                cursor = max(cursor, oldest)
                event = next(islice(self._events, cursor - oldest, None))
                cursor += 1
                yield event
            await self._news.wait()


async def watch(
    log: AgentEventLog,
    *,
    endpoints: Table[Any, Endpoint],
    ipcache: Table[Any, IPCacheEntry],
    policies: Table[Any, PolicyObject],
) -> None:
    """Turn changes of these tables into events, until cancelled. What is there at the start is no news."""
    wake = asyncio.Event()
    endpoint_changes, address_changes, policy_changes = (
        endpoints.changes(wake=wake),
        ipcache.changes(wake=wake),
        policies.changes(wake=wake),
    )
    first = True
    while True:
        news = [_endpoint_event(change) for change in endpoint_changes.pop()]
        news += [_ipcache_event(change) for change in address_changes.pop()]
        news += [_policy_event(change) for change in policy_changes.pop()]
        for event in news:
            if event is not None and not first:
                log.add(event)
        first = False
        await wake.wait()
        await asyncio.sleep(SETTLE)


def _endpoint_event(change: Change[Any, Endpoint]) -> pb.AgentEvent | None:
    endpoint = change.new or change.old
    if endpoint is None or (change.old and change.new):
        return None
    return pb.AgentEvent(
        type=pb.ENDPOINT_CREATED if change.new else pb.ENDPOINT_DELETED,
        endpoint_update=pb.EndpointUpdateNotification(
            id=endpoint.id, pod_name=endpoint.pod, namespace=endpoint.namespace
        ),
    )


def _ipcache_event(change: Change[Any, IPCacheEntry]) -> pb.AgentEvent | None:
    entry = change.new or change.old
    if entry is None:
        return None
    namespace, _, pod = entry.owner.rpartition("/")
    notification = pb.IPCacheNotification(
        cidr=str(entry.prefix),
        identity=entry.identity,
        host_ip=str(entry.tunnel_endpoint or ""),
        encrypt_key=entry.encrypt_key,
        namespace=namespace,
        pod_name=pod if namespace else "",
    )
    if change.new and change.old:
        notification.old_identity.value = change.old.identity
        notification.old_host_ip = str(change.old.tunnel_endpoint or "")
    return pb.AgentEvent(type=pb.IPCACHE_UPSERTED if change.new else pb.IPCACHE_DELETED, ipcache_update=notification)


def _policy_event(change: Change[Any, PolicyObject]) -> pb.AgentEvent | None:
    policy = change.new or change.old
    if policy is None:
        return None
    return pb.AgentEvent(
        type=pb.POLICY_UPDATED if change.new else pb.POLICY_DELETED,
        policy_update=pb.PolicyUpdateNotification(
            labels=[policy.key], revision=change.revision, rule_count=len(policy.rules)
        ),
    )
