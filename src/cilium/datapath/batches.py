"""What every reconciler of a map does: write rows as one batch, tell which rows failed, remove what nobody wants."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from cilium.datapath.maps import Array, BpfMap, MapWriteError

R = TypeVar("R")


def update_rows(
    port: BpfMap,
    rows: Sequence[R],
    *,
    keys: Callable[[Sequence[R]], Array],
    values: Callable[[Sequence[R]], Array],
    name: Callable[[R], Hashable],
) -> dict[Hashable, Exception]:
    """Writes all rows; the failures by `name`, as a reconciler wants them."""
    try:
        port.update(keys(rows), values(rows))
    except MapWriteError as error:
        return {name(rows[index]): failure for index, failure in error.failures.items()}
    return {}


def delete_rows(
    port: BpfMap, rows: Sequence[R], *, keys: Callable[[Sequence[R]], Array], name: Callable[[R], Hashable]
) -> dict[Hashable, Exception]:
    """Removes all rows; the failures by `name`."""
    try:
        port.delete(keys(rows))
    except MapWriteError as error:
        return {name(rows[index]): failure for index, failure in error.failures.items()}
    return {}


def prune(port: BpfMap, wanted: Array) -> int:
    """Deletes every key of the map that is not among `wanted`; returns how many there were."""
    keep = {key.tobytes() for key in wanted}
    present, _ = port.dump()
    stale = [index for index, key in enumerate(present) if key.tobytes() not in keep]
    if stale:
        port.delete(present[stale])
    return len(stale)
