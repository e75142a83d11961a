"""What happened in this process, counted when it happens; everything else that metrics tell is read when they are.

In: calls from where things happen. Out: Prometheus families. The counters cost a microsecond, and nothing in the house
below knows of them: reconcilers are observed through the engine's protocol, the rest through callables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets in seconds, for what is over in milliseconds when all is well."""


@dataclass
class Calls:
    """Of one reconciler, over all its operations."""

    succeeded: int = 0
    failed: int = 0


def _histogram(name: str, text: str, labels: tuple[str, ...] = ()) -> Histogram:
    return Histogram(name, text, labels, buckets=FAST, registry=None)


@dataclass
class Counts:
    """Implements state.metrics.ReconcilerMetrics."""

    operations: Histogram = field(
        default_factory=lambda: _histogram(
            "cilium_reconciler_duration_seconds", "Time of one batch of a reconciler", ("reconciler", "op")
        )
    )
    failures: Counter = field(
        default_factory=lambda: Counter(
            "cilium_reconciler_errors", "Rows whose operation failed, retries too", ("reconciler", "op"), registry=None
        )
    )
    failing_rows: Gauge = field(
        default_factory=lambda: Gauge(
            "cilium_reconciler_errors_current", "Rows that wait for a retry", ("reconciler",), registry=None
        )
    )
    policy_delay: Histogram = field(
        default_factory=lambda: _histogram(
            "cilium_policy_implementation_delay",
            "Seconds from hearing of a policy change to its enforcement in the kernel",
            ("source",),
        )
    )
    cni: Histogram = field(
        default_factory=lambda: _histogram(
            "cilium_cni_request_duration_seconds", "Time to serve a CNI request", ("command", "outcome")
        )
    )
    _calls: dict[str, Calls] = field(default_factory=lambda: defaultdict(Calls))

    def operation(self, reconciler: str, operation: str, *, rows: int, failed: int, seconds: float) -> None:
        self.operations.labels(reconciler, operation).observe(seconds)
        calls = self._calls[reconciler]
        if failed:
            self.failures.labels(reconciler, operation).inc(failed)
            calls.failed += 1
        else:
            calls.succeeded += 1

    def failing(self, reconciler: str, rows: int) -> None:
        self.failing_rows.labels(reconciler).set(rows)

    def of(self, reconciler: str) -> Calls:
        return self._calls[reconciler]

    def cni_request(self, command: str, seconds: float, *, failed: bool) -> None:
        self.cni.labels(command, "fail" if failed else "success").observe(seconds)

    def policy_implemented(self, seconds: float) -> None:
        self.policy_delay.labels("k8s").observe(seconds)

    def collect(self) -> Iterator[Metric]:
        for family in (self.operations, self.failures, self.failing_rows, self.policy_delay, self.cni):
            yield from map(_plain, family.collect())


def _plain(family: Metric) -> Metric:
    """Without the times at which series began, which nobody reads and which double their number."""
    family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    return family
