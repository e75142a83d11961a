"""Prometheus metrics of the agent: counters of the datapath, sizes of tables, outcomes of reconcilers.

Everything is read when somebody scrapes; nothing is counted twice. Names are upstream's where it has the metric.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cilium.app.inspection import Inspection
from cilium.datapath.generated import DropReason, FlowDirection
from cilium.datapath.maps import BpfMap

PRESSURED = ("cilium_lxc", "cilium_ipcache", "cilium_ipcache_cidr", "cilium_policy", "cilium_policy_class")
"""Maps that the agent fills; those that packets fill evict their oldest entries."""


class AgentCollector(Collector):
    """One per agent; register it in the process's registry."""

    def __init__(self, agent: Inspection) -> None:
        self._agent = agent

    def collect(self) -> Iterable[Metric]:
        yield from self._tables()
        yield from self._reconcilers()
        yield from self._datapath()
        yield from self._process()
        yield from self._nodes()
        yield from self._kubernetes()
        yield from self._hubble()
        yield from self._agent.counts.collect()

    def _tables(self) -> Iterator[Metric]:
        tables = self._agent.tables
        sizes = GaugeMetricFamily("cilium_statedb_table_objects", "Rows of a table", labels=["table"])
        for name, table in tables.items():
            sizes.add_metric([name], len(table))
        yield sizes
        if "endpoints" in tables:
            yield GaugeMetricFamily("cilium_endpoint", "Endpoints of this node", value=len(tables["endpoints"]))
            ready = tables.get("endpoint-policies")
            states = Counter(
                "ready" if row.kind == "host" or (ready is not None and row.id in ready.snapshot()) else "waiting"
                for row in tables["endpoints"].snapshot()
            )
            endpoints = GaugeMetricFamily("cilium_endpoint_state", "Endpoints by state", labels=["endpoint_state"])
            for state, count in sorted(states.items()):
                endpoints.add_metric([state], count)
            yield endpoints
        if "policies" in tables:
            yield GaugeMetricFamily("cilium_policy", "Policy objects known", value=len(tables["policies"]))
        if "identities" in tables:
            kinds = Counter(row.source for row in tables["identities"].snapshot())
            identities = GaugeMetricFamily("cilium_identity", "Identities known", labels=["type"])
            for kind, count in sorted(kinds.items()):
                identities.add_metric([kind], count)
            yield identities
        if "ip-allocations" in tables:
            families = Counter(f"ipv{row.address.version}" for row in tables["ip-allocations"].snapshot())
            addresses = GaugeMetricFamily("cilium_ip_addresses", "Addresses in use", labels=["family"])
            for family, count in sorted(families.items()):
                addresses.add_metric([family], count)
            yield addresses

    def _reconcilers(self) -> Iterator[Metric]:
        rows = GaugeMetricFamily("cilium_reconciler_rows", "Rows by status", labels=["reconciler", "status"])
        for reconciler in self._agent.reconcilers:
            for kind, count in Counter(row.kind.value for row in reconciler.status.snapshot()).items():
                rows.add_metric([reconciler.name, kind], count)
        yield rows
        yield GaugeMetricFamily(
            "cilium_errors_warnings", "Rows the datapath or the API does not follow", value=len(self._agent.errors())
        )

    def _datapath(self) -> Iterator[Metric]:
        forwards = CounterMetricFamily("cilium_forward_count", "Packets forwarded", labels=["direction"])
        bytes_forwarded = CounterMetricFamily("cilium_forward_bytes", "Bytes forwarded", labels=["direction"])
        drops = CounterMetricFamily("cilium_drop_count", "Packets dropped", labels=["reason", "direction"])
        bytes_dropped = CounterMetricFamily("cilium_drop_bytes", "Bytes dropped", labels=["reason", "direction"])
        for reason, direction, packets, size in packet_counts(self._agent.maps.get("cilium_metrics")):
            if reason == 0:
                forwards.add_metric([direction], packets)
                bytes_forwarded.add_metric([direction], size)
            else:
                name = reason_name(reason)
                drops.add_metric([name, direction], packets)
                bytes_dropped.add_metric([name, direction], size)
        yield from (forwards, bytes_forwarded, drops, bytes_dropped)
        pressure = GaugeMetricFamily("cilium_bpf_map_pressure", "Share of a map in use", labels=["map_name"])
        for name in PRESSURED:
            port = self._agent.maps.get(name)
            if port is not None:
                keys, _ = port.dump()
                pressure.add_metric([name.removeprefix("cilium_")], len(keys) / port.spec.max_entries)
        yield pressure

    def _process(self) -> Iterator[Metric]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield CounterMetricFamily(
            "cilium_process_cpu_seconds", "Processor time of the agent", value=usage.ru_utime + usage.ru_stime
        )
        yield GaugeMetricFamily(
            "cilium_process_resident_memory_max_bytes", "Largest resident size", value=usage.ru_maxrss * 1024
        )
        yield GaugeMetricFamily(
            "cilium_agent_uptime_seconds", "Since the agent started", value=time.time() - self._agent.started
        )

    def _nodes(self) -> Iterator[Metric]:
        """A node is unreachable when one of its own addresses is, a health endpoint likewise."""
        rows = self._agent.tables["node-health"].snapshot() if "node-health" in self._agent.tables else ()
        failed: dict[str, set[str]] = {"host": set(), "endpoint": set()}
        status = GaugeMetricFamily(
            "cilium_node_health_connectivity_status",
            "Addresses of a node by the outcome of the last health check",
            labels=["node_name", "type", "status"],
        )
        counts: Counter[tuple[str, str, str]] = Counter()
        for row in rows:
            counts[row.node, row.kind, "reachable" if row.ok else "unreachable"] += 1
            if not row.ok:
                failed[row.kind].add(row.node)
        for labels, count in sorted(counts.items()):
            status.add_metric(labels, count)
        yield GaugeMetricFamily("cilium_unreachable_nodes", "Nodes that do not answer", value=len(failed["host"]))
        yield GaugeMetricFamily(
            "cilium_unreachable_health_endpoints",
            "Nodes whose health endpoint does not answer",
            value=len(failed["endpoint"]),
        )
        yield status

    def _kubernetes(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily(
            "cilium_k8s_watch_connected", "Whether a resource is followed", labels=["resource"]
        )
        failures = CounterMetricFamily("cilium_k8s_watch_errors", "Requests that failed", labels=["resource"])
        refused = GaugeMetricFamily("cilium_k8s_objects_refused", "Objects not understood", labels=["resource"])
        for health in self._agent.reflectors():
            connected.add_metric([health.resource], float(health.connected))
            failures.add_metric([health.resource], health.failures)
            refused.add_metric([health.resource], health.quarantined)
        yield from (connected, failures, refused)

    def _hubble(self) -> Iterator[Metric]:
        observer = self._agent.sections["hubble"]().get("observer") if "hubble" in self._agent.sections else None
        if observer is None:
            return
        yield CounterMetricFamily("cilium_hubble_flows_seen", "Flows stored", value=observer["seen-flows"])
        lost = CounterMetricFamily("cilium_hubble_lost_events", "Events that no flow tells of", labels=["source"])
        lost.add_metric(["ring_buffer"], observer["lost-events"])
        yield lost


def packet_counts(port: BpfMap | None) -> Iterator[tuple[int, str, int, int]]:
    """(reason, direction, packets, bytes), summed over processors; what was never counted is left out."""
    if port is None:
        return
    keys, values = port.dump()
    for key, value in zip(keys, values, strict=True):
        packets = int(value["packets"].sum())
        if packets:
            reason, direction = divmod(int(key), 4)
            yield reason, FlowDirection(direction).name.lower(), packets, int(value["bytes"].sum())


def reason_name(reason: int) -> str:
    return DropReason(reason).name.replace("_", " ").capitalize() if reason in set(DropReason) else f"reason {reason}"
