"""Prometheus metrics of the agent and the operator: counters of the datapath, sizes of tables, outcomes of reconcilers.

In: what the agent can be asked about itself. Out: families of `metric_families`. Whatever can be read is read when
somebody scrapes, and nothing is counted twice; what has to be counted when it happens is in `counts`. No map that
packets fill is read: a full connection table would cost seconds.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from cilium.app import metric_families as families
from cilium.app.inspection import Inspection
from cilium.datapath.generated import DropReason, FlowDirection
from cilium.datapath.maps import BpfMap
from cilium.features.policy.counters import totals
from cilium.hubble.texts import drop_reason

log = structlog.get_logger("metrics")

PRESSURED = (
    "cilium_lxc",
    "cilium_ipcache",
    "cilium_ipcache_cidr",
    "cilium_policy",
    "cilium_policy_class",
    "cilium_policy_counters",
)
"""Maps that the agent fills; those that packets fill evict their oldest entries."""


class AgentCollector(Collector):
    """One per agent; register it in the process's registry."""

    def __init__(self, agent: Inspection) -> None:
        self._agent = agent
        self._served = families.chosen(agent.settings.metrics.chosen)
        for name in families.unknown(agent.settings.metrics.chosen):
            log.warning("setting metrics names no metric; docs/reference/metrics.md has them", name=name)

    def collect(self) -> Iterable[Metric]:
        """What the settings want."""
        return (metric for metric in self._all() if metric.name in self._served)

    def _all(self) -> Iterator[Metric]:
        yield from self._tables()
        yield from self._reconcilers()
        yield from self._datapath()
        yield from self._nodes()
        yield from self._kubernetes()
        yield from self._hubble()
        yield from self._process()
        yield from self._agent.counts.collect()

    def _rows(self, table: str) -> Iterable[Any]:
        """None before the agent has the table."""
        found = self._agent.tables.get(table)
        return found.snapshot() if found is not None else ()

    def _sizes(self) -> Metric:
        return families.TABLE_OBJECTS.metric(((name,), len(table)) for name, table in self._agent.tables.items())

    def _tables(self) -> Iterator[Metric]:
        yield self._sizes()
        served = {row.endpoint for row in self._rows("endpoint-policies")}
        endpoints = list(self._rows("endpoints"))
        states = ("ready" if row.kind == "host" or row.id in served else "waiting" for row in endpoints)
        yield families.ENDPOINTS.single(len(endpoints))
        yield families.ENDPOINT_STATE.metric(_counted(states))
        yield families.POLICIES.single(sum(1 for _ in self._rows("policies")))
        yield families.POLICIES_INCOMPLETE.single(sum(1 for _ in self._rows("policy-problems")))
        yield families.IDENTITIES.metric(_counted(row.source for row in self._rows("identities")))
        addresses = (f"ipv{row.address.version}" for row in self._rows("ip-allocations"))
        yield families.ADDRESSES.metric(_counted(addresses))

    def _reconcilers(self) -> Iterator[Metric]:
        yield families.RECONCILER_ROWS.metric(
            ((reconciler.name, kind), count)
            for reconciler in self._agent.reconcilers
            for kind, count in Counter(row.kind.value for row in reconciler.status.snapshot()).items()
        )

    def _datapath(self) -> Iterator[Metric]:
        counted = list(packet_counts(self._agent.maps.get("cilium_metrics")))
        forwarded = [row for row in counted if row[0] == 0]
        dropped = [row for row in counted if row[0] != 0]
        yield families.FORWARD_COUNT.metric(((direction,), packets) for _, direction, packets, _ in forwarded)
        yield families.FORWARD_BYTES.metric(((direction,), size) for _, direction, _, size in forwarded)
        yield families.DROP_COUNT.metric(((reason_name(r), direction), packets) for r, direction, packets, _ in dropped)
        yield families.DROP_BYTES.metric(((reason_name(r), direction), size) for r, direction, _, size in dropped)
        yield families.MAP_PRESSURE.metric(self._pressure())
        if {families.RULE_PACKETS.name, families.RULE_BYTES.name} & self._served:
            yield from self._rules()

    def _rules(self) -> Iterator[Metric]:
        port = self._agent.maps.get("cilium_policy_counters")
        counted = totals(port) if port is not None else {}
        found = [(row, counted[row.cookie]) for row in self._rows("rule-references") if row.cookie in counted]
        names = [((r.kind, r.namespace, r.name, r.section, str(r.index), str(r.spec)), count) for r, count in found]
        yield families.RULE_PACKETS.metric((name, packets) for name, (packets, _) in names)
        yield families.RULE_BYTES.metric((name, size) for name, (_, size) in names)

    def _pressure(self) -> Iterator[tuple[tuple[str], float]]:
        for name in PRESSURED:
            port = self._agent.maps.get(name)
            if port is not None:
                keys, _ = port.dump()
                yield (name.removeprefix("cilium_"),), len(keys) / port.spec.max_entries

    def _nodes(self) -> Iterator[Metric]:
        """A node is unreachable when one of its own addresses is, a health endpoint likewise."""
        outcomes = Counter(
            (row.node, row.kind, "reachable" if row.ok else "unreachable") for row in self._rows("node-health")
        )
        silent = Counter(kind for _, kind, status in outcomes if status == "unreachable")
        yield families.UNREACHABLE_NODES.single(silent["host"])
        yield families.UNREACHABLE_ENDPOINTS.single(silent["endpoint"])
        yield families.NODE_CONNECTIVITY.metric(sorted(outcomes.items()))

    def _kubernetes(self) -> Iterator[Metric]:
        watches = self._agent.reflectors()
        yield families.WATCH_CONNECTED.metric(((watch.resource,), watch.connected) for watch in watches)
        yield families.WATCH_ERRORS.metric(((watch.resource,), watch.failures) for watch in watches)
        yield families.OBJECTS_REFUSED.metric(((watch.resource,), watch.quarantined) for watch in watches)

    def _hubble(self) -> Iterator[Metric]:
        section = self._agent.sections.get("hubble")
        observer = section().get("observer") if section is not None else None
        if observer is not None:
            yield families.FLOWS_SEEN.single(observer["seen-flows"])
            yield families.EVENTS_LOST.metric([(("ring_buffer",), observer["lost-events"])])

    def _process(self) -> Iterator[Metric]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        yield families.CPU_SECONDS.single(usage.ru_utime + usage.ru_stime)
        yield families.MEMORY.single(pages * os.sysconf("SC_PAGE_SIZE"))
        yield families.UPTIME.single(time.time() - self._agent.started)
        yield families.VERSION.metric([((self._agent.version,), 1)])


class OperatorCollector(AgentCollector):
    """What an operator has of all this."""

    def _all(self) -> Iterator[Metric]:
        yield self._sizes()
        yield from self._reconcilers()
        yield from self._kubernetes()
        yield from self._process()
        yield from self._agent.counts.collect()


def _counted(values: Iterable[str]) -> list[tuple[tuple[str], float]]:
    return [((value,), count) for value, count in sorted(Counter(values).items())]


def packet_counts(port: BpfMap | None) -> Iterator[tuple[int, str, int, int]]:
    """(reason, direction, packets, bytes), summed over processors; what was never counted is left out."""
    if port is None:
        return
    keys, values = port.dump()
    packets, sizes = values["packets"].sum(axis=-1), values["bytes"].sum(axis=-1)
    for index in packets.nonzero()[0]:
        reason, direction = divmod(int(keys[index]), 4)
        yield reason, FlowDirection(direction).name.lower(), int(packets[index]), int(sizes[index])


def reason_name(reason: int) -> str:
    """As flows have it."""
    return drop_reason(DropReason(reason).name) if reason in set(DropReason) else f"reason {reason}"
