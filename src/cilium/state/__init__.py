"""The state engine: tables of frozen rows, change streams, derivations and the reconciler.

It knows nothing of networking. Everything here belongs to one asyncio loop; nothing is thread safe, nothing
needs a lock. `python -m cilium.state.example` is the guided tour.
"""

from cilium.state.changes import Change, ChangeStream, RowChanges
from cilium.state.clock import Clock, ManualClock
from cilium.state.derivation import Derivation, View
from cilium.state.dump import dump
from cilium.state.errors import DerivationError, StateError, TableError, WriterError
from cilium.state.metrics import NoMetrics, ReconcilerMetrics
from cilium.state.outcomes import each, each_async
from cilium.state.reconciler import Operations, Reconciler
from cilium.state.snapshot import Snapshot
from cilium.state.status import Kind, RowStatus
from cilium.state.table import Table, Writer

__all__ = [
    "Change",
    "ChangeStream",
    "Clock",
    "Derivation",
    "DerivationError",
    "Kind",
    "ManualClock",
    "NoMetrics",
    "Operations",
    "Reconciler",
    "ReconcilerMetrics",
    "RowChanges",
    "RowStatus",
    "Snapshot",
    "StateError",
    "Table",
    "TableError",
    "View",
    "Writer",
    "WriterError",
    "dump",
    "each",
    "each_async",
]
