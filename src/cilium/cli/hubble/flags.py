"""The filter flags of `hubble observe`: their names and what each becomes in a FlowFilter.

Owns: the table `FLAGS`. A flag with two sides exists three times: `--pod`, `--from-pod`, `--to-pod`.
Comes in: the text of a value. Goes out: the value of a filter field; bad values raise ValueError naming the way out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cilium.hubble.texts import POINTS, TCP_FLAG_BITS, XLATE_POINTS
from cilium.tables.identities import Reserved

EVENT_TYPES = {"drop": 1, "capture": 3, "trace": 4, "policy-verdict": 5, "trace-sock": 7, "l7": 129}
VERDICTS = {
    "FORWARDED": 1, "DROPPED": 2, "ERROR": 3, "AUDIT": 4, "REDIRECTED": 5, "TRACED": 6, "TRANSLATED": 7,
}  # fmt: skip
DIRECTIONS = {"ingress": 1, "egress": 2}
_SUB_TYPES = {EVENT_TYPES["trace"]: POINTS, EVENT_TYPES["trace-sock"]: XLATE_POINTS}
RESERVED = {reserved.label.removeprefix("reserved:"): int(reserved) for reserved in Reserved}


@dataclass(frozen=True, slots=True)
class Flag:
    """`fields`: (source field, destination field), or one field for flags without sides."""

    name: str
    fields: tuple[str, ...]
    help: str
    parse: Callable[[str], Any] = str
    short: str = ""
    aliases: tuple[str, ...] = ()
    switch: bool = False
    """Takes no value; `parse` gets the empty string."""
    split: bool = False
    """Several values may be joined with commas."""

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def sided(self) -> bool:
        return len(self.fields) == 2


def _named(numbers: dict[str, int], what: str) -> Callable[[str], int]:
    known = {name.lower(): number for name, number in numbers.items()}

    def parse(value: str) -> int:
        if value.lower() not in known:
            raise ValueError(f"{value!r} is no {what}: give one of {', '.join(numbers)}")
        return known[value.lower()]

    return parse


def _identity(value: str) -> int:
    if value.isdecimal():
        return int(value)
    name = value.lower().removeprefix("reserved:")
    if name not in RESERVED:
        raise ValueError(f"{value!r} is no identity: give a number or one of {', '.join(RESERVED)}")
    return RESERVED[name]


def _port(value: str) -> str:
    if not value.isdecimal() or int(value) > 65535:
        raise ValueError(f"{value!r} is no port: give a number from 0 to 65535")
    return value


def _number(value: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"{value!r} is no number")
    return int(value)


def _event_type(value: str) -> dict[str, Any]:
    name, colon, sub = value.partition(":")
    if name.isdecimal():
        number = int(name)
    elif name.lower() in EVENT_TYPES:
        number = EVENT_TYPES[name.lower()]
    else:
        raise ValueError(f"{name!r} is no event type: give one of {', '.join(EVENT_TYPES)}")
    if not colon:
        return {"type": number}
    subs = {text: point for point, text in _SUB_TYPES.get(number, {}).items()}
    if sub.isdecimal():
        return {"type": number, "match_sub_type": True, "sub_type": int(sub)}
    if sub.lower() not in subs:
        known = ", ".join(subs) or "a number"
        raise ValueError(f"{sub!r} is no sub-type of {name}: give {known}")
    return {"type": number, "match_sub_type": True, "sub_type": subs[sub.lower()]}


def _tcp_flags(value: str) -> dict[str, bool]:
    names = [name.strip().upper() for name in value.split(",")]
    for name in names:
        if name not in TCP_FLAG_BITS:
            raise ValueError(f"{name!r} is no TCP flag: give some of {', '.join(TCP_FLAG_BITS)}")
    return dict.fromkeys(names, True)


def _ip_version(value: str) -> int:
    try:
        return {"4": 1, "v4": 1, "ipv4": 1, "6": 2, "v6": 2, "ipv6": 2}[value.lower()]
    except KeyError:
        raise ValueError(f"{value!r} is no IP version: give 4 or 6") from None


def _workload(value: str) -> dict[str, str]:
    kind, slash, name = value.rpartition("/")
    return {"kind": kind, "name": name} if slash else {"name": value}


def _header(value: str) -> dict[str, str]:
    key, colon, text = value.partition(":")
    if not colon:
        raise ValueError(f"{value!r} is no HTTP header: give Name: value")
    return {"key": key.strip(), "value": text.strip()}


def _drop_reason(value: str) -> str:
    return value.upper()


def _sides(name: str) -> tuple[str, str]:
    return f"source_{name}", f"destination_{name}"


FLAGS = (
    Flag("pod", _sides("pod"), "[namespace/]name prefix; without a namespace it is in default or that of -n"),
    Flag("namespace", _sides("pod"), "pods of a namespace", lambda value: f"{value}/", short="-n"),
    Flag("ip", _sides("ip"), "an address or a CIDR"),
    Flag("port", _sides("port"), "TCP, UDP or SCTP port", _port),
    Flag("label", _sides("label"), "label selector: app=web, app!=web, 'app in (a, b)', !app", short="-l"),
    Flag("identity", _sides("identity"), "number or name of a security identity", _identity),
    Flag("service", _sides("service"), "[namespace/]name prefix of a service"),
    Flag("workload", _sides("workload"), "[kind/]name of a workload", _workload),
    Flag("fqdn", _sides("fqdn"), "DNS name of an address, * as a wildcard"),
    Flag("cluster", _sides("cluster_name"), "name of a cluster"),
    Flag(
        "verdict",
        ("verdict",),
        "FORWARDED, DROPPED, AUDIT, REDIRECTED, ERROR, TRACED or TRANSLATED",
        _named(VERDICTS, "verdict"),
        aliases=("--VERDICT",),
        split=True,
    ),
    Flag(
        "type",
        ("event_type",),
        "trace[:point], drop, policy-verdict, trace-sock[:point], …",
        _event_type,
        short="-t",
        split=True,
    ),
    Flag("protocol", ("protocol",), "tcp, udp, icmp, icmpv4, icmpv6, sctp, http, dns, …", split=True),
    Flag("tcp-flags", ("tcp_flags",), "all of these, for example SYN,ACK", _tcp_flags),
    Flag("traffic-direction", ("traffic_direction",), "ingress or egress", _named(DIRECTIONS, "direction"), split=True),
    Flag("drop-reason-desc", ("drop_reason_desc",), "for example POLICY_DENIED", _drop_reason, split=True),
    Flag("node-name", ("node_name",), "[cluster/]node, * as a wildcard"),
    Flag("node-label", ("node_labels",), "label selector for nodes"),
    Flag("interface", ("interface",), "name of a network interface", lambda value: {"name": value}),
    Flag("ip-version", ("ip_version",), "4 or 6", _ip_version),
    Flag("ipv4", ("ip_version",), "IPv4 only", lambda _: 1, short="-4", switch=True),
    Flag("ipv6", ("ip_version",), "IPv6 only", lambda _: 2, short="-6", switch=True),
    Flag("snat-ip", ("source_ip_xlated",), "source address after masquerading"),
    Flag("uuid", ("uuid",), "one flow"),
    Flag("encrypted", ("encrypted",), "encrypted flows", lambda _: True, switch=True),
    Flag("unencrypted", ("encrypted",), "flows that are not encrypted", lambda _: False, switch=True),
    Flag("http-status", ("http_status_code",), "code, or 4+ for 4xx"),
    Flag("http-method", ("http_method",), "GET, POST, …"),
    Flag("http-path", ("http_path",), "regular expression for the path"),
    Flag("http-url", ("http_url",), "regular expression for the URL"),
    Flag("http-header", ("http_header",), "Name: value", _header),
    Flag("trace-id", ("trace_id",), "OpenTelemetry trace"),
    Flag("ip-trace-id", ("ip_trace_id",), "id carried in an IP option", _number),
    Flag("cel-expression", ("cel_expression",), "CEL predicate, if the server knows CEL"),
)
