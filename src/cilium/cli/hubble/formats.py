"""Flows as text: compact lines, tables, dictionaries, JSON.

Owns: one function per piece of a line (names, arrow, type, verdict) and a `Printer` per output format.
Comes in: GetFlowsResponse messages. Goes out: lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cilium.cli.hubble import times
from cilium.cli.hubble.flags import RESERVED
from cilium.hubble.texts import MATCHES, POINTS, RULE_LABEL, XLATE_POINTS, drop_reason
from cilium.tables.names import object_name

DROP, TRACE, POLICY_VERDICT, TRACE_SOCK = 1, 4, 5, 7
FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED = 1, 2, 3, 4, 5
_RED, _GREEN, _YELLOW, _CYAN, _END = "\033[31m", "\033[32m", "\033[33m", "\033[36m", "\033[0m"
_NAMES = {number: name for name, number in RESERVED.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    time_format: str = "StampMilli"
    color: bool = False
    numeric: bool = False
    """Addresses instead of names."""
    node_name: bool = False
    policy_names: bool = False

    def paint(self, text: str, color: str) -> str:
        return f"{color}{text}{_END}" if self.color else text


def moment(response: Any, style: Style) -> str:
    return times.formatted(response.time.seconds, response.time.nanos, style.time_format)


def ports(flow: Any) -> tuple[str, str]:
    """(source, destination); empty where the protocol has none."""
    kind = flow.l4.WhichOneof("protocol")
    if kind not in ("TCP", "UDP", "SCTP"):
        return "", ""
    l4 = getattr(flow.l4, kind)
    return str(l4.source_port), str(l4.destination_port)


def _end(endpoint: Any, service: Any, address: str, port: str, style: Style) -> str:
    """A pod by its name, else a service by its, else the address. A socket that is not bound has neither address nor
    port yet."""
    port = port if port != "0" else ""
    identity = endpoint.identity
    named = endpoint.pod_name or service.name
    if named and not style.numeric:
        name = f"{endpoint.namespace if endpoint.pod_name else service.namespace}/{named}"
    else:
        name = f"[{address}]" if ":" in address and port else address or _NAMES.get(identity, "unknown")
    shown = f"{name}:{port}" if port else name
    known = f"({_NAMES[identity]})" if identity in _NAMES and not style.numeric else f"(ID:{identity})"
    return f"{style.paint(shown, _CYAN)} {known}"


def ends(flow: Any, style: Style) -> tuple[str, str]:
    """Source and destination of the packet."""
    source_port, destination_port = ports(flow)
    return (
        _end(flow.source, flow.source_service, flow.IP.source, source_port, style),
        _end(flow.destination, flow.destination_service, flow.IP.destination, destination_port, style),
    )


def kind(flow: Any) -> str:
    """`to-endpoint`, `policy-verdict:L3-L4 EGRESS`, `Policy denied`, `pre-xlate-fwd`."""
    from cilium.api.proto.flow import flow_pb2

    event = flow.event_type
    if event.type == TRACE:
        return POINTS.get(event.sub_type, str(event.sub_type))
    if event.type == POLICY_VERDICT:
        direction = flow_pb2.TrafficDirection.Name(flow.traffic_direction)
        return f"policy-verdict:{MATCHES.get(flow.policy_match_type, flow.policy_match_type)} {direction}"
    if event.type == TRACE_SOCK:
        return XLATE_POINTS.get(flow.sock_xlate_point, str(flow.sock_xlate_point))
    if event.type == DROP:
        return drop_reason(flow_pb2.DropReason.Name(flow.drop_reason_desc))
    return f"type {event.type}"


def verdict(flow: Any, style: Style) -> str:
    from cilium.api.proto.flow import flow_pb2

    name = flow_pb2.Verdict.Name(flow.verdict)
    judged = flow.event_type.type == POLICY_VERDICT
    if flow.verdict in (FORWARDED, REDIRECTED):
        return style.paint("ALLOWED" if judged and flow.verdict == FORWARDED else name, _GREEN)
    if flow.verdict in (DROPPED, ERROR):
        return style.paint("DENIED" if judged else name, _RED)
    return style.paint("AUDITED" if judged and flow.verdict == AUDIT else name, _YELLOW)


def policies(flow: Any) -> str:
    """` (egress allowed by CiliumNetworkPolicy default/a spec.egress[0]; log: team)`, or nothing."""
    said = []
    for direction in ("egress", "ingress"):
        for what in ("allowed", "denied"):
            names = [
                f"{object_name(policy.kind, policy.namespace, policy.name)}{_rule(policy)}"
                for policy in getattr(flow, f"{direction}_{what}_by")
            ]
            if names:
                said.append(f"{direction} {what} by {', '.join(names)}")
    if flow.policy_log:
        said.append(f"log: {', '.join(flow.policy_log)}")
    return f" ({'; '.join(said)})" if said else ""


def _rule(policy: Any) -> str:
    """` spec.ingress[0]`; nothing where default deny decided."""
    head = f"{RULE_LABEL}="
    return next((f" {label.removeprefix(head)}" for label in policy.labels if label.startswith(head)), "")


def lost(event: Any) -> str:
    """A line for events that nobody can see any more."""
    from cilium.api.proto.flow import flow_pb2

    return f"EVENTS LOST: {flow_pb2.LostEventSource.Name(event.source)} {event.num_events_lost}"


def compact(response: Any, style: Style) -> str:
    """`Nov 23 01:02:03.004: default/a:1 (ID:9) -> default/b:80 (ID:8) to-endpoint FORWARDED (TCP Flags: SYN)`.

    A reply is shown from the client's side: `client <- server`.
    """
    flow = response.flow
    left, right = ends(flow, style)
    arrow = "->"
    if not flow.HasField("is_reply"):
        arrow = "<>"
    elif flow.is_reply.value:
        left, right, arrow = right, left, "<-"
    node = f" [{flow.node_name}]" if style.node_name else ""
    named = policies(flow) if style.policy_names else ""
    head = f"{moment(response, style)}{node}: {left} {arrow} {right}"
    return f"{head} {kind(flow)} {verdict(flow, style)} ({flow.Summary}){named}"


def dictionary(response: Any, style: Style) -> str:
    """One field per line, flows divided by a line of dashes."""
    flow = response.flow
    left, right = ends(flow, style)
    fields = [("TIMESTAMP", moment(response, style))]
    if style.node_name:
        fields.append(("NODE", flow.node_name))
    fields += [
        ("SOURCE", left),
        ("DESTINATION", right),
        ("TYPE", kind(flow)),
        ("VERDICT", verdict(flow, style)),
        ("SUMMARY", flow.Summary),
    ]
    if style.policy_names and (named := policies(flow)):
        fields.append(("POLICIES", named.strip(" ()")))
    return "\n".join(f"{name:>11}: {value}" for name, value in fields) + "\n" + "-" * 12


TABLE_HEADER = ("TIMESTAMP", "NODE", "SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY")


def cells(response: Any, style: Style) -> list[str]:
    """One row of the table."""
    flow = response.flow
    left, right = ends(flow, style)
    summary = flow.Summary + (policies(flow) if style.policy_names else "")
    return [moment(response, style), flow.node_name, left, right, kind(flow), verdict(flow, style), summary]


def json_line(response: Any, _: Style) -> str:
    """The message as protobuf JSON, with the proto's field names, on one line."""
    from google.protobuf.json_format import MessageToJson

    return str(MessageToJson(response, preserving_proto_field_name=True, indent=None))


LINES: dict[str, Callable[[Any, Style], str]] = {
    "compact": compact,
    "dict": dictionary,
    "json": json_line,
    "jsonpb": json_line,
}
