"""Flows in the words of `cilium-dbg monitor`: one line per packet event, with endpoint ids and identities.

Owns: the lines and the choice by endpoint. Comes in: flow.Flow messages, as GetFlows sends them. Goes out: text such as

    -> endpoint 20, identity 1111->2222 state new ifindex lxc-a: 10.0.0.1:4000 -> 10.0.0.2:80 tcp SYN
    xx drop (Policy denied) to endpoint 20, identity 1111->2222 ifindex lxc-a: 10.0.0.1:4000 -> 10.0.0.2:80 tcp SYN
    Policy verdict log: local EP ID 20, remote ID 1111, proto tcp, ingress, action deny, match none, 10.0.0.1:4000 -> …
    [pre-xlate-fwd] cgroup_id: 4711 sock_cookie: 42, dst [10.96.0.1]:443 tcp, endpoint 10, service default/kubernetes

It neither knows numpy nor gRPC, so that a command line can use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cilium.hubble.texts import MATCHES, POINTS, TCP_FLAG_BITS, XLATE_POINTS, drop_reason, icmp, tcp_flags

TYPES = {"drop": 1, "trace": 4, "policy-verdict": 5, "trace-sock": 7}
"""Event types by the name that --type takes."""
_WITH_PORTS = ("TCP", "UDP", "SCTP")
_ARROWS = {True: "->", False: "<-"}


def line(flow: Any) -> str:
    """One event."""
    match flow.event_type.type:
        case 1:
            return _drop(flow)
        case 5:
            return _verdict(flow)
        case 7:
            return _socket(flow)
        case _:
            return _trace(flow)


def chooser(*, from_: int = 0, to: int = 0, related: int = 0) -> Callable[[Any], bool]:
    """Whether a flow is from, to, or from or to the endpoint of that id on this node; 0: any."""

    def chosen(flow: Any) -> bool:
        source, destination = flow.source.ID, flow.destination.ID
        return from_ in (0, source) and to in (0, destination) and related in (0, source, destination)

    return chosen


def _trace(flow: Any) -> str:
    from cilium.api.proto.flow import flow_pb2

    point = POINTS.get(flow.event_type.sub_type, str(flow.event_type.sub_type))
    way, _, where = point.partition("-")
    name = f"endpoint {flow.destination.ID}" if point == "to-endpoint" else where
    if point == "from-endpoint":
        name = f"endpoint {flow.source.ID}"
    reason = flow_pb2.TraceReason.Name(flow.trace_reason).removeprefix("TRACE_REASON_").lower()
    translated = f" xlated {flow.IP.source_xlated}" if flow.IP.source_xlated else ""
    head = f"{_ARROWS[way == 'to']} {name}, {_identities(flow)} state {reason}"
    return f"{head} {_interface(flow)}{translated}: {_packet(flow)}"


def _drop(flow: Any) -> str:
    from cilium.api.proto.flow import flow_pb2

    known = flow_pb2.DropReason.Name(flow.drop_reason_desc)
    reason = drop_reason(known) if flow.drop_reason_desc else f"reason {flow.drop_reason}"
    target = f" to endpoint {flow.destination.ID}" if flow.destination.ID else ""
    return f"xx drop ({reason}){target}, {_identities(flow)} {_interface(flow)}: {_packet(flow)}"


def _verdict(flow: Any) -> str:
    egress = flow.traffic_direction == 2
    local, remote = (flow.source, flow.destination) if egress else (flow.destination, flow.source)
    action = {1: "allow", 2: "deny", 4: "audit", 5: "redirect"}.get(flow.verdict, "unknown")
    protocol = (flow.l4.WhichOneof("protocol") or "unknown").lower()
    decided = (
        flow.egress_allowed_by or flow.egress_denied_by if egress else flow.ingress_allowed_by or flow.ingress_denied_by
    )
    names = ", ".join("/".join(filter(None, (one.namespace, one.name))) for one in decided)
    return (
        f"Policy verdict log: local EP ID {local.ID}, remote ID {remote.identity}, proto {protocol}, "
        f"{'egress' if egress else 'ingress'}, action {action}, match {MATCHES.get(flow.policy_match_type, '?')}"
        f"{f', policy {names}' if names else ''}, {_packet(flow)}"
    )


def _socket(flow: Any) -> str:
    """The address before or after the translation, whichever way it goes."""
    reverse = flow.sock_xlate_point > 2
    local, address = (flow.destination, flow.IP.source) if reverse else (flow.source, flow.IP.destination)
    kind = flow.l4.WhichOneof("protocol")
    l4 = getattr(flow.l4, kind or "TCP")
    port = l4.source_port if reverse else l4.destination_port
    service = flow.source_service if reverse else flow.destination_service
    point = XLATE_POINTS.get(flow.sock_xlate_point, "unknown")
    owner = f", endpoint {local.ID}" if local.ID else ""
    named = f", service {service.namespace}/{service.name}" if service.name else ""
    return (
        f"[{point}] cgroup_id: {flow.cgroup_id} sock_cookie: {flow.socket_cookie}, "
        f"dst [{address}]:{port} {(kind or 'unknown').lower()}{owner}{named}"
    )


def _identities(flow: Any) -> str:
    return f"identity {flow.source.identity}->{flow.destination.identity}"


def _interface(flow: Any) -> str:
    return f"ifindex {flow.interface.name or flow.interface.index}"


def _packet(flow: Any) -> str:
    kind = flow.l4.WhichOneof("protocol")
    source, destination = flow.IP.source, flow.IP.destination
    if kind not in _WITH_PORTS:
        return f"{source} -> {destination} {_icmp(flow, kind) if kind else flow.Summary}"
    l4 = getattr(flow.l4, kind)
    if ":" in source:
        source, destination = f"[{source}]", f"[{destination}]"
    flags = ""
    if kind == "TCP":
        flags = " " + tcp_flags(sum(bit for name, bit in TCP_FLAG_BITS.items() if getattr(l4.flags, name)))
    return f"{source}:{l4.source_port} -> {destination}:{l4.destination_port} {kind.lower()}{flags}"


def _icmp(flow: Any, kind: str) -> str:
    if kind not in ("ICMPv4", "ICMPv6"):
        return kind.lower()
    message = getattr(flow.l4, kind)
    return f"{kind.lower()} {icmp(int(kind[-1]), message.type, message.code)}"
