"""Records expanded to flows, still as columns.

Owns: `FlowRows`: one row per flow. A record tells of one packet; it stands for a policy-verdict flow for each decided
direction and then for its trace or drop flow. A socket's record stands for a flow before its translation and one after.
Filters work on these columns, decoding on single rows.
Comes in: records with the sequence number of the first, and who knows whose the sockets are. Goes out: columns with
upstream's meaning of event type, verdict and direction for every flow.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cilium.datapath.generated import EventFlags as Flag
from cilium.datapath.generated import EventType, ObservationPoint
from cilium.datapath.generated import FlowDirection as Direction
from cilium.datapath.generated import FlowVerdict as Verdict
from cilium.hubble.addresses import Mask
from cilium.hubble.records import OPAQUE, POLICY_REASONS, SOCK_EVENT, Records
from cilium.hubble.sockets import NOWHERE, Ends, Nobody, expand, service_is

Column = NDArray[Any]


class Kind(IntEnum):
    """Which of a record's flows."""

    EGRESS_VERDICT = 0
    INGRESS_VERDICT = 1
    EVENT = 2
    TRANSLATED = 3
    """After the translation of a socket; EVENT is the one before it."""


class FlowRows:
    """Flows of consecutive records, in order. All columns have one element per flow."""

    def __init__(self, records: Records, first: int, ends: Ends | None = None) -> None:
        self._records, self.first = records, first
        flags, sockets = records["flags"], records["type"] == EventType.TRACE_SOCK
        there = np.empty((len(records), len(Kind)), np.bool_)
        there[:, Kind.EGRESS_VERDICT] = flags & Flag.EGRESS_DECIDED
        there[:, Kind.INGRESS_VERDICT] = flags & Flag.INGRESS_DECIDED
        there[:, Kind.EVENT] = True
        there[:, Kind.TRANSLATED] = sockets
        self._places: NDArray[np.intp] = np.flatnonzero(there)
        self._expanded: Records | None = None
        """One record per flow, if any of them is a socket's."""
        if sockets.any():
            flows = _take(records, self.index)
            chosen = sockets[self.index]
            flows.view(OPAQUE)[chosen] = expand(
                _take(flows, chosen), self.kind[chosen] == Kind.TRANSLATED, ends or Nobody()
            ).view(OPAQUE)
            self._expanded = flows

    def __len__(self) -> int:
        return len(self._places)

    def where(self, chosen: Mask | slice) -> FlowRows:
        """The flows the mask or slice selects."""
        part = FlowRows.__new__(FlowRows)
        part._records, part.first, part._places = self._records, self.first, self._places[chosen]
        part._expanded = None if self._expanded is None else _take(self._expanded, chosen)
        return part

    @cached_property
    def index(self) -> NDArray[np.intp]:
        """Of the flow's record."""
        return self._places // len(Kind)

    @cached_property
    def kind(self) -> Column:
        return self._places % len(Kind)

    def column(self, name: str) -> Column:
        """A field of the flow's record."""
        return self._records[name][self.index] if self._expanded is None else self._expanded[name]

    @property
    def records(self) -> Records:
        """One per flow."""
        return _take(self._records, self.index) if self._expanded is None else self._expanded

    def socket_ids(self) -> Iterator[tuple[int, int, int]]:
        """Of every socket's flow: its place among these, the socket's cookie, the id of the process's cgroup."""
        if self._expanded is not None:
            places = np.flatnonzero(self.is_socket)
            sockets = self._expanded.view(SOCK_EVENT)
            yield from zip(
                places.tolist(),
                sockets["socket_cookie"][places].tolist(),
                sockets["cgroup_id"][places].tolist(),
                strict=True,
            )

    def _flag(self, flag: Flag) -> Mask:
        mask: Mask = (self.column("flags") & flag) != 0
        return mask

    @cached_property
    def is_event(self) -> Mask:
        mask: Mask = self.kind >= Kind.EVENT
        return mask

    @cached_property
    def is_socket(self) -> Mask:
        mask: Mask = self.column("type") == EventType.TRACE_SOCK
        return mask

    @cached_property
    def redirected(self) -> Mask:
        """Sent to a service, and on to a backend: `translated` is what the destination becomes, not the source.

        The point tells: what comes in is sent on, what goes out gets another source.
        """
        point = self.column("point")
        incoming = (point >= ObservationPoint.FROM_ENDPOINT) & (point <= ObservationPoint.FROM_NETWORK)
        mask: Mask = incoming & ~self.is_socket & (self.column("translated") != np.void(NOWHERE))
        return mask

    def service_place(self, side: str) -> tuple[Column, Column]:
        """Address and port by which an end may be known as a service."""
        address, port = self.column(side), self.column(f"{side}_port")
        if self._expanded is not None:
            meant = self.is_socket & service_is(side, self._expanded)
            address = np.where(meant, self.column("translated"), address)
            port = np.where(meant, self.column("translated_port"), port)
        return address, port

    @cached_property
    def event_type(self) -> Column:
        return np.where(self.is_event, self.column("type"), EventType.POLICY_VERDICT)

    @cached_property
    def sub_type(self) -> Column:
        """Point of a trace or of a socket's translation, reason of a drop, 0 of a policy verdict."""
        kind = self.event_type
        return np.select(
            [(kind == EventType.TRACE) | (kind == EventType.TRACE_SOCK), kind == EventType.DROP],
            [self.column("point"), self.column("reason")],
            0,
        )

    @cached_property
    def denied(self) -> Mask:
        """Policy denied the packet in this policy-verdict flow's direction, or dropped it in this drop flow.

        Egress is decided before ingress: of two decided directions, the last is the one that denied.
        """
        policy = (self.column("type") == EventType.DROP) & np.isin(self.column("reason"), POLICY_REASONS)
        earlier = (self.kind == Kind.EGRESS_VERDICT) & self._flag(Flag.INGRESS_DECIDED)
        denied: Mask = policy & ~earlier
        return denied

    @cached_property
    def audited(self) -> Mask:
        """Let through by audit mode only: in this policy-verdict flow's direction, or in any."""
        mask: Mask = np.select(
            [self.kind == Kind.EGRESS_VERDICT, self.kind == Kind.INGRESS_VERDICT],
            [self._flag(Flag.EGRESS_AUDITED), self._flag(Flag.INGRESS_AUDITED)],
            self.column("verdict") == Verdict.AUDITED,
        )
        return mask

    @property
    def closed(self) -> Mask:
        """No policy allows it: refused, or let through by audit mode only."""
        return self.denied | self.audited

    @cached_property
    def verdict(self) -> Column:
        verdict = self.column("verdict")
        decided = np.select(
            [self.denied, self.audited, verdict == Verdict.REDIRECTED],
            [Verdict.DROPPED, Verdict.AUDITED, Verdict.REDIRECTED],
            Verdict.FORWARDED,
        )
        return np.where(self.is_event, verdict, decided)

    @cached_property
    def direction(self) -> Column:
        """Of the connection at the endpoint where the flow was seen: a reply that a server sends is ingress.

        A packet delivered on its own node is seen at its receiver. A drop has the direction of the packet, a
        refusal that of the policy that refused.
        """
        seen = self.column("direction")
        trace = self.column("type") == EventType.TRACE
        delivered = trace & self._flag(Flag.LOCAL) & (self.column("point") == ObservationPoint.TO_ENDPOINT)
        seen = np.where(delivered, Direction.INGRESS, seen)
        turned = np.select([seen == Direction.INGRESS, seen == Direction.EGRESS], [Direction.EGRESS, Direction.INGRESS])
        refused_in = self.denied & self._flag(Flag.INGRESS_DECIDED)
        refused_out = self.denied & self._flag(Flag.EGRESS_DECIDED)
        return np.select(
            [
                self.kind == Kind.EGRESS_VERDICT,
                (self.kind == Kind.INGRESS_VERDICT) | refused_in,
                refused_out,
                trace & self._flag(Flag.REPLY),
            ],
            [Direction.EGRESS, Direction.INGRESS, Direction.EGRESS, turned],
            seen,
        )

    @cached_property
    def drop_reason(self) -> Column:
        """0 where nothing was dropped."""
        dropped = (self.column("type") == EventType.DROP) & (self.is_event | self.denied)
        return np.where(dropped, self.column("reason"), 0)

    @cached_property
    def is_reply(self) -> Column:
        """1, 0, or -1 where unknown. Policy is asked for the first packet only: its verdicts are no replies."""
        known = np.where(self._flag(Flag.REPLY), 1, 0)
        known = np.where(self._flag(Flag.REPLY_KNOWN), known, -1)
        return np.where(self.is_event, known, 0)


def _take(records: Records, chosen: Any) -> Records:
    """A copy. Whole records are copied as opaque bytes: numpy would copy structured ones field by field."""
    taken: Records = records.view(OPAQUE)[chosen].view(records.dtype)
    return taken
