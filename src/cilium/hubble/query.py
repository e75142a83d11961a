"""One GetFlows request, answered from the store.

Owns: `Query`: which records to look at, in which order, and when to stop. Comes in: a GetFlowsRequest, the store, the
decoder. Goes out: lists of GetFlowsResponse, in order of time. It works in slices and gives the event loop back
between them; what a slow client does not fetch in time is overwritten and told as lost, never waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import numpy as np
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.api.proto.observer import observer_pb2 as api
from cilium.hubble.filter_fields import Context
from cilium.hubble.filters import Candidates, FilterError, FilterSet
from cilium.hubble.flows import FlowDecoder
from cilium.hubble.rows import FlowRows
from cilium.hubble.store import EventStore, Loss

WINDOW = 8192
"""Records filtered at once, about a millisecond."""
SLICE = 128
"""Flows decoded at once, two to three milliseconds."""
LATE = 0.2
"""Seconds after `until` in which records of before may still come in."""
_SECOND = 1_000_000_000
_END_OF_TIME = 1 << 63

Responses = list[api.GetFlowsResponse]


class Query:
    """Raises FilterError for a filter or field mask that cannot be obeyed."""

    def __init__(
        self,
        request: api.GetFlowsRequest,
        *,
        store: EventStore,
        decoder: FlowDecoder,
        context: Context,
    ) -> None:
        self._store, self._decoder = store, decoder
        self._node_name, self._names = context.node_name, context.names
        self._filters = FilterSet(request.whitelist, request.blacklist, context)
        self._mask = field_mask(request)
        self._since = _nanoseconds(request.since) if request.HasField("since") else 0
        self._until = _nanoseconds(request.until) if request.HasField("until") else _END_OF_TIME
        if self._since > self._until:
            raise FilterError("since lies after until: no flow can match")
        self._follow, self._first, self._number = request.follow, request.first, request.number

    async def responses(self) -> AsyncIterator[Responses]:
        """All answers, in lists of at most `SLICE`; with `follow` without an end."""
        end = self._store.end
        oldest_first = self._first or not self._number
        if oldest_first:
            start = end if self._follow and not self._number and not self._since else self._store.oldest
            async for part in self._forward(start, None if self._follow else end, self._number):
                yield part
            return
        async for part in self._last(end):
            yield part
        if self._follow:
            async for part in self._forward(end, None, 0):
                yield part

    async def _forward(self, cursor: int, end: int | None, number: int) -> AsyncIterator[Responses]:
        """Records from `cursor` on, up to `end` or without one; at most `number` flows if that is not 0."""
        store = self._store
        while end is None or cursor < end:
            if cursor < store.oldest:
                yield [self._overrun(store.oldest - cursor)]
                cursor = store.oldest
            stop = min(store.end, cursor + WINDOW, end if end is not None else store.end)
            if cursor >= stop:
                if end is not None:
                    return
                if not await self._more(cursor):
                    return
                continue
            records = store.read(cursor, stop)
            losses = self._losses(cursor, stop + (stop == end))
            if losses:
                yield losses
            for flows in self._decode(self._candidates(FlowRows(records, cursor, self._names))):
                found = flows if not number else flows[:number]
                yield [self._flow(flow) for flow in found]
                if number and not (number := number - len(found)):
                    return
                await asyncio.sleep(0)
            if int(records["time"].min()) > self._until:
                return
            cursor = stop
            await asyncio.sleep(0)

    async def _more(self, cursor: int) -> bool:
        """Wait for record `cursor` or a loss; False once `until` has passed."""
        if self._until == _END_OF_TIME:
            await self._store.wait(cursor)
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout((self._until - time.time_ns()) / _SECOND + LATE):
                await self._store.wait(cursor)
                return True
        return False

    async def _last(self, end: int) -> AsyncIterator[Responses]:
        """The newest `number` flows before `end`, oldest of them first."""
        found: list[pb.Flow] = []
        stop = end
        while len(found) < self._number and stop > self._store.oldest:
            start = max(stop - WINDOW, self._store.oldest)
            records = self._store.read(start, stop)
            candidates = self._candidates(FlowRows(records, start, self._names))
            for flows in self._decode(candidates, newest_first=True):
                found += flows
                if len(found) >= self._number:
                    break
                await asyncio.sleep(0)
            if not len(records) or int(records["time"].max()) < self._since:
                break
            stop = start
            await asyncio.sleep(0)
        newest = found[: self._number][::-1]
        place = self._decoder.uuid_place(newest[0].uuid) if newest else None
        losses = self._losses(place[0] if place else stop, end + (not self._follow))
        if losses:
            yield losses
        for at in range(0, len(newest), SLICE):
            yield [self._flow(flow) for flow in newest[at : at + SLICE]]

    def _candidates(self, rows: FlowRows) -> Candidates:
        if self._since or self._until != _END_OF_TIME:
            times = rows.column("time")
            rows = rows.where((times >= np.uint64(self._since)) & (times <= np.uint64(self._until)))
        return self._filters.candidates(rows)

    def _decode(self, candidates: Candidates, *, newest_first: bool = False) -> Iterator[list[pb.Flow]]:
        """Wanted flows, slice by slice; with `newest_first` the slices and the flows in them run backwards."""
        total = len(candidates.rows)
        starts = range(0, total, SLICE)
        for start in reversed(starts) if newest_first else starts:
            flows = self._decoder.flows(candidates.rows.where(slice(start, start + SLICE)))
            wanted = [flow for place, flow in enumerate(flows, start) if candidates.confirm(place, flow)]
            yield wanted[::-1] if newest_first else wanted

    def _losses(self, start: int, stop: int) -> Responses:
        return [
            self._lost(loss)
            for loss in self._store.losses(start, stop)
            if loss.last >= self._since and loss.first <= self._until
        ]

    def _flow(self, flow: pb.Flow) -> api.GetFlowsResponse:
        time = flow.time
        if self._mask is not None:
            masked = pb.Flow()
            self._mask.MergeMessage(flow, masked)
            flow = masked
        return api.GetFlowsResponse(flow=flow, node_name=self._node_name, time=time)

    def _lost(self, loss: Loss) -> api.GetFlowsResponse:
        event = pb.LostEvent(source=pb.PERF_EVENT_RING_BUFFER, num_events_lost=loss.count)
        event.first.FromNanoseconds(loss.first)
        event.last.FromNanoseconds(loss.last)
        return api.GetFlowsResponse(lost_events=event, node_name=self._node_name, time=event.last)

    def _overrun(self, count: int) -> api.GetFlowsResponse:
        event = pb.LostEvent(source=pb.HUBBLE_RING_BUFFER, num_events_lost=count)
        return api.GetFlowsResponse(lost_events=event, node_name=self._node_name)


def field_mask(request: api.GetFlowsRequest) -> FieldMask | None:
    """The request's mask if it has one. Raises FilterError for fields that a flow does not have."""
    if not request.field_mask.paths:
        return None
    for path in request.field_mask.paths:
        if not FieldMask(paths=[path]).IsValidForDescriptor(pb.Flow.DESCRIPTOR):
            raise FilterError(f"field_mask: a flow has no field {path!r}")
    return request.field_mask


def _nanoseconds(time: Timestamp) -> int:
    """Of the range that a record's time can have, whatever the request says."""
    return min(max(int(time.seconds) * _SECOND + int(time.nanos), 0), _END_OF_TIME)
