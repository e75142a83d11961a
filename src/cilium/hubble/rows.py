"""Records expanded to flows, still as columns.

Owns: `FlowRows`: one row per flow. A record tells of one packet; it stands for a policy-verdict flow for each decided
direction and then for its trace or drop flow. Filters work on these columns, decoding on single rows.
Comes in: records with the sequence number of the first. Goes out: columns with upstream's meaning of event type,
verdict and direction for every flow.
"""

from __future__ import annotations

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
from cilium.hubble.records import POLICY_REASONS, Records

Column = NDArray[Any]


class Kind(IntEnum):
    """Which of a record's flows."""

    EGRESS_VERDICT = 0
    INGRESS_VERDICT = 1
    EVENT = 2


class FlowRows:
    """Flows of consecutive records, in order. All columns have one element per flow."""

    def __init__(self, records: Records, first: int, places: NDArray[np.intp] | None = None) -> None:
        self.records, self.first = records, first
        if places is None:
            flags = records["flags"]
            there = np.empty((len(records), len(Kind)), np.bool_)
            there[:, Kind.EGRESS_VERDICT] = flags & Flag.EGRESS_DECIDED
            there[:, Kind.INGRESS_VERDICT] = flags & Flag.INGRESS_DECIDED
            there[:, Kind.EVENT] = True
            places = np.flatnonzero(there)
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def where(self, mask: Mask) -> FlowRows:
        """The flows the mask selects."""
        return FlowRows(self.records, self.first, self._places[mask])

    def part(self, window: slice) -> FlowRows:
        return FlowRows(self.records, self.first, self._places[window])

    @cached_property
    def index(self) -> NDArray[np.intp]:
        """Of the flow's record."""
        return self._places // len(Kind)

    @cached_property
    def kind(self) -> Column:
        return self._places % len(Kind)

    def column(self, name: str) -> Column:
        """A field of the flow's record."""
        return self.records[name][self.index]

    def _flag(self, flag: Flag) -> Mask:
        mask: Mask = (self.column("flags") & flag) != 0
        return mask

    @cached_property
    def is_event(self) -> Mask:
        mask: Mask = self.kind == Kind.EVENT
        return mask

    @cached_property
    def event_type(self) -> Column:
        return np.where(self.is_event, self.column("type"), EventType.POLICY_VERDICT)

    @cached_property
    def sub_type(self) -> Column:
        """Observation point of a trace, reason of a drop, 0 of a policy verdict."""
        kind = self.event_type
        return np.select(
            [kind == EventType.TRACE, kind == EventType.DROP], [self.column("point"), self.column("reason")], 0
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
        """Let through by audit mode only. Where both directions were decided, default deny tells which it was."""
        audited = self.column("verdict") == Verdict.AUDITED
        egress = self._flag(Flag.EGRESS_DECIDED) & (self.column("egress_cookie") == 0)
        ingress = self._flag(Flag.INGRESS_DECIDED) & (self.column("ingress_cookie") == 0)
        own = np.select([self.kind == Kind.EGRESS_VERDICT, self.kind == Kind.INGRESS_VERDICT], [egress, ingress], True)
        mask: Mask = audited & (own | ~(egress | ingress))
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
