"""Every metric of the agent, declared once: what /metrics serves and docs/reference/metrics.md lists.

Names are upstream's where it has the metric. Prometheus' clients add `_total` to counters and `_bucket`, `_sum` and
`_count` to histograms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import Metric

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets of histograms in seconds, for what is over in milliseconds when all is well."""


@dataclass(frozen=True)
class Family:
    name: str
    kind: Literal["gauge", "counter", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    default: bool = True
    """Served unless the settings say otherwise; false where there may be very many series."""

    @property
    def exposed(self) -> str:
        """The name as queries write it."""
        return self.name + "_total" if self.kind == "counter" else self.name

    def metric(self, samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
        """The family with (label values, value) pairs."""
        found = Metric(self.name, self.meaning, self.kind)
        for values, value in samples:
            found.add_sample(self.exposed, dict(zip(self.labels, values, strict=True)), value)
        return found

    def single(self, value: float) -> Metric:
        return self.metric([((), value)])


TABLE_OBJECTS = Family("cilium_statedb_table_objects", "gauge", "Rows of a table of the agent.", ("table",))
ENDPOINTS = Family("cilium_endpoint", "gauge", "Endpoints of this node: pods, the node itself, its health endpoint.")
ENDPOINT_STATE = Family(
    "cilium_endpoint_state", "gauge", "Endpoints by state: ready, or waiting for an identity.", ("endpoint_state",)
)
POLICIES = Family("cilium_policy", "gauge", "Policy objects known to the agent.")
POLICIES_INCOMPLETE = Family(
    "cilium_policy_incomplete",
    "gauge",
    "Policy objects that the kernel's maps do not hold in full, mostly for want of room; what is missing stays closed.",
)
IDENTITIES = Family("cilium_identity", "gauge", "Security identities known to the agent.", ("type",))
ADDRESSES = Family("cilium_ip_addresses", "gauge", "Addresses of this node's pod CIDRs in use.", ("family",))

FORWARD_COUNT = Family("cilium_forward_count", "counter", "Packets forwarded.", ("direction",))
FORWARD_BYTES = Family("cilium_forward_bytes", "counter", "Bytes forwarded.", ("direction",))
DROP_COUNT = Family("cilium_drop_count", "counter", "Packets dropped.", ("reason", "direction"))
DROP_BYTES = Family("cilium_drop_bytes", "counter", "Bytes dropped.", ("reason", "direction"))
MAP_PRESSURE = Family(
    "cilium_bpf_map_pressure",
    "gauge",
    "Share of a map in use, 0 to 1. Maps that packets fill evict their oldest entries and are not counted.",
    ("map_name",),
)
RULE = ("kind", "namespace", "name", "section", "index", "spec")
RULE_PACKETS = Family(
    "cilium_policy_rule_packets",
    "counter",
    "Packets that a rule of a policy has let through or dropped. `index`: of the element in its section; `spec`: of "
    "the rule in `specs`. Off by default: a series per element.",
    RULE,
    default=False,
)
RULE_BYTES = Family(
    "cilium_policy_rule_bytes",
    "counter",
    "Bytes of these packets, as frames. Off by default.",
    RULE,
    default=False,
)

RECONCILER_DURATION = Family(
    "cilium_reconciler_duration_seconds", "histogram", "Time of one batch of a reconciler.", ("reconciler", "op")
)
RECONCILER_ERRORS = Family(
    "cilium_reconciler_errors", "counter", "Rows whose operation failed, retries included.", ("reconciler", "op")
)
RECONCILER_ERRORS_CURRENT = Family(
    "cilium_reconciler_errors_current", "gauge", "Rows that wait for a retry.", ("reconciler",)
)
RECONCILER_ROWS = Family("cilium_reconciler_rows", "gauge", "Rows by status.", ("reconciler", "status"))
POLICY_DELAY = Family(
    "cilium_policy_implementation_delay",
    "histogram",
    "Seconds from hearing of a policy change to the kernel's policy maps holding it.",
    ("source",),
)
HOST_ROLLBACKS = Family(
    "cilium_host_policy_rollbacks", "counter", "Times that changed policies on this node were rolled back."
)
CNI_DURATION = Family(
    "cilium_cni_request_duration_seconds", "histogram", "Time to serve a CNI request.", ("command", "outcome")
)

UNREACHABLE_NODES = Family("cilium_unreachable_nodes", "gauge", "Nodes that do not answer health checks.")
UNREACHABLE_ENDPOINTS = Family(
    "cilium_unreachable_health_endpoints", "gauge", "Nodes whose health endpoint does not answer."
)
NODE_CONNECTIVITY = Family(
    "cilium_node_health_connectivity_status",
    "gauge",
    "Addresses of a node by type (host, endpoint) and outcome of the last health check (reachable, unreachable).",
    ("node_name", "type", "status"),
)

WATCH_CONNECTED = Family(
    "cilium_k8s_watch_connected", "gauge", "1 while a resource of the API is followed.", ("resource",)
)
WATCH_ERRORS = Family("cilium_k8s_watch_errors", "counter", "Lists and watches that failed.", ("resource",))
OBJECTS_REFUSED = Family("cilium_k8s_objects_refused", "gauge", "Objects that were not understood.", ("resource",))

FLOWS_SEEN = Family("cilium_hubble_flows_seen", "counter", "Flows stored.")
EVENTS_LOST = Family("cilium_hubble_lost_events", "counter", "Events that became no flow.", ("source",))

CPU_SECONDS = Family("cilium_process_cpu_seconds", "counter", "Processor time of the agent.")
MEMORY = Family("cilium_process_resident_memory_bytes", "gauge", "Resident memory of the agent.")
UPTIME = Family("cilium_agent_uptime_seconds", "gauge", "Time since the agent started.")
VERSION = Family("cilium_version", "gauge", "1, with the version of the agent.", ("version",))


def families() -> list[Family]:
    """All of them, in the order of this module."""
    return [value for value in globals().values() if isinstance(value, Family)]


def chosen(names: Iterable[str]) -> frozenset[str]:
    """Names of the families to serve, given the setting `metrics`. Names that nobody has say nothing."""
    on = {family.name for family in families() if family.default}
    known = {name: family.name for family in families() for name in (family.name, family.exposed)}
    for sign, name in ((name[:1], known.get(name[1:])) for name in names):
        if name is not None:
            on = on | {name} if sign == "+" else on - {name}
    return frozenset(on)


def unknown(names: Iterable[str]) -> list[str]:
    """Of the setting `metrics`, what names no metric."""
    known = {name for family in families() for name in (family.name, family.exposed)}
    return [name for name in names if name[1:] not in known]
