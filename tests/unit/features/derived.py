"""A derivation with its tables, for tests of compute functions: rows in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cilium.state import Derivation, Table
from cilium.state.derivation import Compute

Key = Callable[[Any], Any]


class Derived:
    """`inputs` and `outputs`: key functions by table name. Every change is computed at once."""

    def __init__(self, *, inputs: Mapping[str, Key | Table[Any, Any]], outputs: Mapping[str, Key], compute: Compute):
        self.inputs: dict[str, Table[Any, Any]] = {
            name: given if isinstance(given, Table) else Table(name, key=given) for name, given in inputs.items()
        }
        self._writers = {name: table.writer("test") for name, table in self.inputs.items()}
        self.outputs: dict[str, Table[Any, Any]] = {name: Table(name, key=key) for name, key in outputs.items()}
        self._derivation = Derivation(
            "derived",
            inputs=self.inputs,
            outputs={name: table.writer("test") for name, table in self.outputs.items()},
            compute=compute,
        )

    def put(self, table: str, *rows: Any, instead_of: Any = ()) -> None:
        """One transaction: these rows, without those of the keys `instead_of`."""
        self._writers[table].commit(rows, instead_of)
        self._derivation.step()

    def drop(self, table: str, *keys: Any) -> None:
        self._writers[table].commit(deletes=keys)
        self._derivation.step()

    def rows(self, table: str) -> dict[Any, Any]:
        return dict(self.outputs[table].snapshot().items())
