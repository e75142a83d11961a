"""What each field of a FlowFilter means.

Owns: one function per kind of field, found in `COLUMNS` (answered from columns, before anything is decoded) or
`CHECKS` (answered from the decoded flow). A field that needs both is in both: its columns narrow, its check decides.
Comes in: the field's values. Goes out: a function of rows, or of a flow. Bad values raise ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.hubble import addresses, texts
from cilium.hubble.addresses import Mask
from cilium.hubble.labels import parse_selector
from cilium.hubble.names import Names
from cilium.hubble.rows import FlowRows

RowTest = Callable[[FlowRows], Mask]
FlowTest = Callable[[pb.Flow], bool]
Values = Sequence[Any]

_L7_PROTOCOLS = {"http", "dns", "kafka"}
_L4_PROTOCOLS = {
    "tcp": (texts.TCP,),
    "udp": (texts.UDP,),
    "icmp": (texts.ICMP, texts.ICMPV6),
    "icmpv4": (texts.ICMP,),
    "icmpv6": (texts.ICMPV6,),
    "sctp": (texts.SCTP,),
    "igmp": (texts.IGMP,),
    "vrrp": (texts.VRRP,),
}
_WITH_PORTS = (texts.TCP, texts.UDP, texts.SCTP)


@dataclass(frozen=True, slots=True)
class Context:
    """What fields are compared with beside the flow itself."""

    names: Names
    node_name: str
    """`cluster/node`."""
    uuid_place: Callable[[str], tuple[int, int] | None]


class _Generations(Protocol):
    generation: int


class _Current:
    """A set of numbers derived from names, derived anew when the names have changed."""

    def __init__(self, names: _Generations, derive: Callable[[], Any]) -> None:
        self._names, self._derive = names, derive
        self._generation = -1
        self._value: Any = None

    def __call__(self) -> Any:
        if self._generation != self._names.generation:
            self._value, self._generation = self._derive(), self._names.generation
        return self._value


def _any(masks: Sequence[Mask]) -> Mask:
    result: Mask = np.logical_or.reduce(masks)
    return result


def _one_of(column: Callable[[FlowRows], Any], values: Iterable[int]) -> RowTest:
    wanted = np.array(sorted(set(values)))
    return lambda rows: np.isin(column(rows), wanted)


def _field(name: str) -> Callable[[Values, Context], RowTest]:
    return lambda values, _: _one_of(lambda rows: rows.column(name), values)


def _derived(column: Callable[[FlowRows], Any]) -> Callable[[Values, Context], RowTest]:
    return lambda values, _: _one_of(column, (int(value) for value in values))


def _address(name: str) -> Callable[[Values, Context], RowTest]:
    def field(values: Values, _: Context) -> RowTest:
        networks = [addresses.network(value) for value in values]

        def test(rows: FlowRows) -> Mask:
            column = rows.column(name)
            return _any([addresses.in_network(column, one) for one in networks])

        return test

    return field


def _source_translated(values: Values, context: Context) -> RowTest:
    """Masquerading only: where a destination was translated, the source is what it was."""
    matches = _address("translated")(values, context)
    return lambda rows: matches(rows) & ~(rows.redirected | rows.is_socket)


def _port(name: str) -> Callable[[Values, Context], RowTest]:
    def field(values: Values, _: Context) -> RowTest:
        ports = [_number(value, 65535, "port") for value in values]
        matches = _one_of(lambda rows: rows.column(name), ports)
        return lambda rows: np.logical_and(np.isin(rows.column("protocol"), _WITH_PORTS), matches(rows))

    return field


def _number(value: str, most: int, what: str) -> int:
    if not value.isdecimal() or int(value) > most:
        raise ValueError(f"{value!r} is no {what}: give a number up to {most}")
    return int(value)


def pod_test(values: Values) -> Callable[[str, str], bool]:
    """Of namespace and name: `ns/prefix`, `prefix` in namespace default, `/prefix` in any, `ns/` for all its pods."""
    wanted = [value.split("/", 1) if "/" in value else ["default", value] for value in values]
    return lambda namespace, pod: (
        bool(pod) and any(namespace in (ns or namespace,) and pod.startswith(prefix) for ns, prefix in wanted)
    )


def _pod_rows(side: str) -> Callable[[Values, Context], RowTest]:
    def field(values: Values, context: Context) -> RowTest:
        accept, names = pod_test(values), context.names
        known = _Current(names, lambda: addresses.fingerprint_set(names.addresses(accept)))
        local = _Current(names, lambda: np.array(names.endpoints(accept), np.uint16))
        return lambda rows: (
            np.isin(addresses.fingerprints(rows.column(side)), known())
            | np.isin(rows.column(f"{side}_endpoint"), local())
        )

    return field


def _pod_check(side: str) -> Callable[[Values, Context], FlowTest]:
    def field(values: Values, _: Context) -> FlowTest:
        accept = pod_test(values)

        def test(flow: pb.Flow) -> bool:
            endpoint = getattr(flow, side)
            return accept(endpoint.namespace, endpoint.pod_name)

        return test

    return field


def _label_rows(side: str) -> Callable[[Values, Context], RowTest]:
    def field(values: Values, context: Context) -> RowTest:
        selectors, names = [parse_selector(value) for value in values], context.names
        known = _Current(
            names, lambda: np.array([0, *names.identities(lambda ls: any(s.matches(ls) for s in selectors))])
        )
        return lambda rows: np.isin(rows.column(f"{side}_identity"), known())

    return field


def _label_check(side: str) -> Callable[[Values, Context], FlowTest]:
    def field(values: Values, _: Context) -> FlowTest:
        selectors = [parse_selector(value) for value in values]
        return lambda flow: any(s.matches(getattr(flow, side).labels) for s in selectors)

    return field


def _service_rows(side: str) -> Callable[[Values, Context], RowTest]:
    def field(values: Values, context: Context) -> RowTest:
        accept, services = pod_test(values), context.names.services
        known = _Current(services, lambda: services.places(accept))
        return lambda rows: known().match(*rows.service_place(side), rows.column("protocol"))

    return field


def _event_type(values: Values, _: Context) -> RowTest:
    def test(rows: FlowRows) -> Mask:
        return _any(
            [
                (rows.event_type == one.type) & ((rows.sub_type == one.sub_type) | (not one.match_sub_type))
                for one in values
            ]
        )

    return test


def _protocol(values: Values, _: Context) -> RowTest:
    numbers: list[int] = []
    for value in values:
        name = value.lower()
        if name not in _L4_PROTOCOLS and name not in _L7_PROTOCOLS:
            known = ", ".join([*_L4_PROTOCOLS, *sorted(_L7_PROTOCOLS)])
            raise ValueError(f"{value!r} is no known protocol: give one of {known}")
        numbers += _L4_PROTOCOLS.get(name, ())
    return _one_of(lambda rows: rows.column("protocol"), numbers)


def _tcp_flags(values: Values, _: Context) -> RowTest:
    wanted = [sum(bit for name, bit in texts.TCP_FLAG_BITS.items() if getattr(one, name)) for one in values]

    def test(rows: FlowRows) -> Mask:
        flags = rows.column("tcp_flags")
        mask: Mask = _any([flags & one == one for one in wanted]) & (rows.column("protocol") == texts.TCP)
        return mask

    return test


def _ip_version(values: Values, _: Context) -> RowTest:
    def test(rows: FlowRows) -> Mask:
        either = [addresses.is_ipv4_column(rows.column(side)) for side in ("source", "destination")]
        return np.isin(np.where(_any(either), pb.IPv4, pb.IPv6), list(values))

    return test


def _interface(values: Values, context: Context) -> RowTest:
    """By index, or by the name that the index has now."""

    def test(rows: FlowRows) -> Mask:
        column = rows.column("ifindex")
        wanted = [
            int(index)
            for index in np.unique(column)
            if any(one.index in (0, index) and one.name in ("", context.names.interface(int(index))) for one in values)
        ]
        return np.isin(column, wanted)

    return test


def _node_name(values: Values, context: Context) -> RowTest:
    """`node` or `cluster/node` with `*` as a wildcard; `cluster/` for every node of a cluster."""
    cluster, _, node = context.node_name.partition("/")
    found = False
    for value in values:
        own, _, pattern = value.rpartition("/")
        found = found or (fnmatchcase(cluster, own or cluster) and fnmatchcase(node, pattern or "*"))
    return lambda rows: np.full(len(rows), found)


def _uuid(values: Values, context: Context) -> RowTest:
    places = [place for value in values if (place := context.uuid_place(value))]

    def test(rows: FlowRows) -> Mask:
        hits = [(rows.index == number - rows.first) & (rows.kind == kind) for number, kind in places]
        return _any([np.zeros(len(rows), np.bool_), *hits])

    return test


def _encrypted(values: Values, _: Context) -> RowTest:
    return lambda rows: np.full(len(rows), False in values)


def _workload(side: str) -> Callable[[Values, Context], FlowTest]:
    def field(values: Values, _: Context) -> FlowTest:
        return lambda flow: any(
            one.name in ("", own.name) and one.kind.lower() in ("", own.kind.lower())
            for one in values
            for own in getattr(flow, side).workloads
        )

    return field


def _cluster(side: str) -> Callable[[Values, Context], FlowTest]:
    return lambda values, _: lambda flow: getattr(flow, side).cluster_name in values


def _service(side: str) -> Callable[[Values, Context], FlowTest]:
    def field(values: Values, _: Context) -> FlowTest:
        accept = pod_test(values)

        def test(flow: pb.Flow) -> bool:
            service = getattr(flow, side)
            return accept(service.namespace, service.name)

        return test

    return field


def _fqdn(side: str) -> Callable[[Values, Context], FlowTest]:
    """Names of an address as DNS answered it, `*` as a wildcard."""

    def field(values: Values, _: Context) -> FlowTest:
        patterns = [value.lower().rstrip(".") for value in values]
        return lambda flow: any(
            fnmatchcase(name.lower().rstrip("."), one) for name in getattr(flow, side) for one in patterns
        )

    return field


def _http(get: Callable[[pb.HTTP], str], *, pattern: bool) -> Callable[[Values, Context], FlowTest]:
    def field(values: Values, _: Context) -> FlowTest:
        if pattern:
            wanted = [re.compile(value) for value in values]
        else:
            wanted = [re.compile(re.escape(value).replace(r"\+", ".*"), re.IGNORECASE) for value in values]
        return lambda flow: flow.l7.HasField("http") and any(one.fullmatch(get(flow.l7.http)) for one in wanted)

    return field


def _http_header(values: Values, _: Context) -> FlowTest:
    wanted = {(one.key.lower(), one.value) for one in values}
    return lambda flow: any((one.key.lower(), one.value) in wanted for one in flow.l7.http.headers)


def _dns_query(values: Values, _: Context) -> FlowTest:
    wanted = [re.compile(value) for value in values]
    return lambda flow: flow.l7.HasField("dns") and any(one.search(flow.l7.dns.query) for one in wanted)


def _trace_id(values: Values, _: Context) -> FlowTest:
    return lambda flow: flow.trace_context.parent.trace_id in values and flow.HasField("trace_context")


def _ip_trace_id(values: Values, _: Context) -> FlowTest:
    return lambda flow: flow.HasField("ip_trace_id") and flow.ip_trace_id.trace_id in values


def _node_labels(values: Values, _: Context) -> FlowTest:
    selectors = [parse_selector(value) for value in values]
    return lambda flow: any(one.matches(flow.node_labels) for one in selectors)


COLUMNS: dict[str, Callable[[Values, Context], RowTest]] = {
    "source_ip": _address("source"),
    "destination_ip": _address("destination"),
    "source_ip_xlated": _source_translated,
    "source_pod": _pod_rows("source"),
    "destination_pod": _pod_rows("destination"),
    "source_label": _label_rows("source"),
    "destination_label": _label_rows("destination"),
    "source_service": _service_rows("source"),
    "destination_service": _service_rows("destination"),
    "verdict": _derived(lambda rows: rows.verdict),
    "event_type": _event_type,
    "protocol": _protocol,
    "source_port": _port("source_port"),
    "destination_port": _port("destination_port"),
    "reply": _derived(lambda rows: rows.is_reply),
    "source_identity": _field("source_identity"),
    "destination_identity": _field("destination_identity"),
    "tcp_flags": _tcp_flags,
    "node_name": _node_name,
    "ip_version": _ip_version,
    "uuid": _uuid,
    "traffic_direction": _derived(lambda rows: rows.direction),
    "drop_reason_desc": _derived(lambda rows: rows.drop_reason),
    "interface": _interface,
    "encrypted": _encrypted,
}

CHECKS: dict[str, Callable[[Values, Context], FlowTest]] = {
    "source_pod": _pod_check("source"),
    "destination_pod": _pod_check("destination"),
    "source_label": _label_check("source"),
    "destination_label": _label_check("destination"),
    "source_workload": _workload("source"),
    "destination_workload": _workload("destination"),
    "source_cluster_name": _cluster("source"),
    "destination_cluster_name": _cluster("destination"),
    "source_service": _service("source_service"),
    "destination_service": _service("destination_service"),
    "source_fqdn": _fqdn("source_names"),
    "destination_fqdn": _fqdn("destination_names"),
    "http_status_code": _http(lambda http: str(http.code), pattern=False),
    "http_method": _http(lambda http: http.method, pattern=False),
    "http_path": _http(lambda http: re.sub(r"^\w+://[^/]*|[?#].*$", "", http.url), pattern=True),
    "http_url": _http(lambda http: http.url, pattern=True),
    "http_header": _http_header,
    "dns_query": _dns_query,
    "trace_id": _trace_id,
    "ip_trace_id": _ip_trace_id,
    "node_labels": _node_labels,
}
