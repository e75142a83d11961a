"""FlowFilters compiled: whitelist and blacklist as masks over columns, and exact checks for the rest.

Owns: `FilterSet`. Comes in: the lists of flow.FlowFilter of a request. Goes out: of many rows, those worth decoding
(`candidates`), and for a decoded one whether it really is wanted (`Candidates.confirm`).

Within a filter all fields must match, within a field any value. A flow is wanted if any filter of the whitelist
matches (or there is none) and none of the blacklist does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.hubble.addresses import Mask
from cilium.hubble.filter_fields import CHECKS, COLUMNS, Context, FlowTest, RowTest
from cilium.hubble.rows import FlowRows


class FilterError(ValueError):
    """A filter that cannot be obeyed; says which one, which field, and why."""


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    columns: tuple[RowTest, ...]
    checks: tuple[FlowTest, ...]

    def mask(self, rows: FlowRows) -> Mask:
        """Rows that may match; that do match if there are no checks."""
        mask = np.ones(len(rows), np.bool_)
        for column in self.columns:
            mask &= column(rows)
        return mask

    def confirm(self, flow: pb.Flow) -> bool:
        return all(check(flow) for check in self.checks)


def compile_filter(message: pb.FlowFilter, context: Context, where: str) -> CompiledFilter:
    """Raises FilterError; `where` names the filter in it."""
    columns: list[RowTest] = []
    checks: list[FlowTest] = []
    for field, values in message.ListFields():
        if field.name not in COLUMNS and field.name not in CHECKS:
            raise FilterError(f"{where}.{field.name}: not supported by this server")
        try:
            if field.name in COLUMNS:
                columns.append(COLUMNS[field.name](values, context))
            if field.name in CHECKS:
                checks.append(CHECKS[field.name](values, context))
        except (ValueError, re.error) as error:
            raise FilterError(f"{where}.{field.name}: {error}") from error
    return CompiledFilter(tuple(columns), tuple(checks))


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows left after the columns had their say, and which filters are still to be asked for each."""

    rows: FlowRows
    sure: Mask
    """Wanted by a filter of the whitelist that has no more to ask."""
    maybe: Sequence[tuple[CompiledFilter, Mask]]
    unwanted: Sequence[tuple[CompiledFilter, Mask]]

    def confirm(self, position: int, flow: pb.Flow) -> bool:
        """Whether the flow of row `position` is wanted."""
        wanted = self.sure[position] or any(hit[position] and one.confirm(flow) for one, hit in self.maybe)
        return bool(wanted) and not any(hit[position] and one.confirm(flow) for one, hit in self.unwanted)


MAX_FILTERS = 1000
"""Each is asked of every record that is looked at."""


class FilterSet:
    """The filters of one request. Raises FilterError."""

    def __init__(
        self, whitelist: Collection[pb.FlowFilter], blacklist: Collection[pb.FlowFilter], context: Context
    ) -> None:
        if (count := len(whitelist) + len(blacklist)) > MAX_FILTERS:
            raise FilterError(f"{count} filters: at most {MAX_FILTERS} in one request; one filter may have many values")
        self._white = [compile_filter(one, context, f"whitelist[{i}]") for i, one in enumerate(whitelist)]
        self._black = [compile_filter(one, context, f"blacklist[{i}]") for i, one in enumerate(blacklist)]

    def candidates(self, rows: FlowRows) -> Candidates:
        sure = np.full(len(rows), not self._white)
        maybe = [(one, one.mask(rows)) for one in self._white]
        for one, mask in maybe:
            if not one.checks:
                sure |= mask
        maybe = [(one, mask) for one, mask in maybe if one.checks]
        kept = np.logical_or.reduce([sure, *(mask for _, mask in maybe)])
        unwanted = [(one, one.mask(rows)) for one in self._black]
        for one, mask in unwanted:
            if not one.checks:
                kept &= ~mask
        return Candidates(
            rows=rows.where(kept),
            sure=sure[kept],
            maybe=[(one, mask[kept]) for one, mask in maybe],
            unwanted=[(one, mask[kept]) for one, mask in unwanted if one.checks],
        )
