"""A table as plain data, for people and for JSON.

In: a table or a snapshot. Out: a list of dicts of JSON types, sorted by key.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import msgspec

from cilium.state.snapshot import Snapshot
from cilium.state.table import Table

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


def dump(source: Table[K, R] | Snapshot[K, R], *, enc_hook: Callable[[Any], Any] | None = None) -> list[dict[str, Any]]:
    """Every row as a dict; a row that is no struct becomes `{"value": row}`.

    `enc_hook` turns types that msgspec does not know (addresses, say) into ones it does; `str` often is
    enough.
    """
    snapshot = source.snapshot() if isinstance(source, Table) else source
    items: list[tuple[Any, R]] = list(snapshot.items())
    try:
        items.sort(key=lambda item: item[0])
    except TypeError:  # keys of mixed types, such as both address families, have no order
        items.sort(key=lambda item: str(item[0]))
    plain = (msgspec.to_builtins(row, str_keys=True, enc_hook=enc_hook) for _, row in items)
    return [value if isinstance(value, dict) else {"value": value} for value in plain]
