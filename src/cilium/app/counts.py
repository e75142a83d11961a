"""What happened in this process, counted when it happens; everything else that metrics tell is read when they are.

In: calls from where things happen. Out: Prometheus families. A count costs a microsecond, and nothing in the house
below knows of it: reconcilers are observed through the engine's protocol, the rest through callables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric

from cilium.app import metric_families as families
from cilium.app.metric_families import FAST, Family


@dataclass
class Calls:
    """Of one reconciler, over all its operations."""

    succeeded: int = 0
    failed: int = 0


class Counts:
    """Implements state.metrics.ReconcilerMetrics."""

    def __init__(self) -> None:
        self._durations = _histogram(families.RECONCILER_DURATION)
        self._policy_delay = _histogram(families.POLICY_DELAY)
        self._cni = _histogram(families.CNI_DURATION)
        rollbacks = families.HOST_ROLLBACKS
        self._host_rollbacks = Counter(rollbacks.name, rollbacks.meaning, registry=None)
        errors, current = families.RECONCILER_ERRORS, families.RECONCILER_ERRORS_CURRENT
        self._errors = Counter(errors.name, errors.meaning, errors.labels, registry=None)
        self._current = Gauge(current.name, current.meaning, current.labels, registry=None)
        self._calls: dict[str, Calls] = defaultdict(Calls)

    def operation(self, reconciler: str, operation: str, *, rows: int, failed: int, seconds: float) -> None:
        self._durations.labels(reconciler, operation).observe(seconds)
        calls = self._calls[reconciler]
        if failed:
            self._errors.labels(reconciler, operation).inc(failed)
            calls.failed += 1
        else:
            calls.succeeded += 1

    def failing(self, reconciler: str, rows: int) -> None:
        self._current.labels(reconciler).set(rows)

    def of(self, reconciler: str) -> Calls:
        return self._calls[reconciler]

    def cni_request(self, command: str, seconds: float, *, failed: bool) -> None:
        self._cni.labels(command, "fail" if failed else "success").observe(seconds)

    def policy_implemented(self, seconds: float) -> None:
        self._policy_delay.labels("k8s").observe(seconds)

    def host_policy_rolled_back(self) -> None:
        self._host_rollbacks.inc()

    def collect(self) -> Iterator[Metric]:
        for family in (
            self._durations,
            self._errors,
            self._current,
            self._policy_delay,
            self._cni,
            self._host_rollbacks,
        ):
            yield from map(_plain, family.collect())


def _histogram(family: Family) -> Histogram:
    return Histogram(family.name, family.meaning, family.labels, buckets=FAST, registry=None)


def _plain(family: Metric) -> Metric:
    """Without the times at which series began, which nobody reads and which double their number."""
    family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    return family
