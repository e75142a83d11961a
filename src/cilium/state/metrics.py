"""What the reconciler tells of itself, as a protocol: who counts, and with what library, is the
application's affair.
"""

from __future__ import annotations

from typing import Protocol


class ReconcilerMetrics(Protocol):
    def operation(self, reconciler: str, operation: str, *, rows: int, failed: int, seconds: float) -> None:
        """One call of `update`, `delete` or `prune` ended; `failed` of its `rows` did."""

    def failing(self, reconciler: str, rows: int) -> None:
        """How many rows are in error now."""


class NoMetrics:
    """Counts nothing."""

    def operation(self, reconciler: str, operation: str, *, rows: int, failed: int, seconds: float) -> None:
        pass

    def failing(self, reconciler: str, rows: int) -> None:
        pass
