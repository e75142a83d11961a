"""Rows become flows: the protobuf messages that clients see.

Owns: `FlowDecoder`. Comes in: `FlowRows` that passed the filters, and `Names`. Goes out: one flow.Flow per row.
Only what is asked for is decoded; nothing here runs per packet.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.datapath.generated import EventFlags as Flag
from cilium.datapath.generated import EventType, SockPoint
from cilium.datapath.generated import FlowDirection as Direction
from cilium.datapath.generated import ObservationPoint as Point
from cilium.hubble import texts
from cilium.hubble.addresses import is_ipv4, mac_text, text
from cilium.hubble.names import Names, Party
from cilium.hubble.records import Event, events
from cilium.hubble.rows import FlowRows, Kind
from cilium.hubble.sockets import NOWHERE
from cilium.tables.rules import AUDITED_DEFAULT_DENY, DEFAULT_DENY, Action, RuleReference

TO_ENDPOINT = 101
"""flow.TraceObservationPoint shifts the kernel's 0."""
POLICY_LABEL = "k8s:io.cilium.k8s.policy."
_NO_MAC = bytes(6)
_HEX = frozenset("0123456789abcdef")
_SECOND = 1_000_000_000


class FlowDecoder:
    """`node_name` is `cluster/node`; `instance` are 8 bytes that make this agent's uuids unique."""

    def __init__(self, names: Names, *, node_name: str, instance: bytes) -> None:
        self._names = names
        self._node_name = node_name
        self._instance = instance.hex()

    def flows(self, rows: FlowRows) -> list[pb.Flow]:
        """The rows as messages, in order."""
        columns = zip(
            events(rows.records),
            rows.index.tolist(),
            rows.kind.tolist(),
            rows.event_type.tolist(),
            rows.sub_type.tolist(),
            rows.verdict.tolist(),
            rows.direction.tolist(),
            rows.drop_reason.tolist(),
            rows.is_reply.tolist(),
            rows.closed.tolist(),
            rows.redirected.tolist(),
            strict=True,
        )
        flows = []
        for event, index, kind, type_, sub_type, verdict, direction, reason, reply, closed, redirected in columns:
            flow = self._socket(event) if event.is_socket else self._packet(event, redirected)
            flow.uuid = self._uuid_of(f"{(rows.first + index) << 2 | kind:014x}")
            flow.verdict = verdict
            flow.event_type.type = type_
            flow.event_type.sub_type = sub_type
            flow.traffic_direction = direction
            if reason:
                flow.drop_reason = reason
                flow.drop_reason_desc = reason if reason in _DROP_REASONS else pb.DROP_REASON_UNKNOWN
            if reply >= 0:
                flow.is_reply.value = bool(reply)
                flow.reply = bool(reply)
            if kind == Kind.EVENT:
                self._observed(flow, event)
            self._decided(flow, event, kind, closed)
            flows.append(flow)
        for place, cookie, cgroup in rows.socket_ids():
            flows[place].socket_cookie, flows[place].cgroup_id = cookie, cgroup
        return flows

    def uuid_place(self, uuid: str) -> tuple[int, int] | None:
        """(sequence number, kind) of a flow of this agent; None for any other uuid."""
        digits = uuid.replace("-", "").lower()
        place = digits[18:]
        if len(digits) != 32 or not set(digits) <= _HEX or self._uuid_of(place) != uuid.lower():
            return None
        number = int(place, 16)
        return number >> 2, number & 3

    def _uuid_of(self, place: str) -> str:
        """RFC 9562 version 8: the agent's run and the flow's place in it, so that the same flow keeps its uuid."""
        i = self._instance
        return f"{i[:8]}-{i[8:12]}-8{i[12:15]}-8{i[15]}{place[:2]}-{place[2:]}"

    def _packet(self, event: Event, redirected: bool) -> pb.Flow:
        summary = texts.summary(event.protocol, event.tcp_flags, event.source_port, event.destination_port)
        if redirected:
            summary += f"; to {_place(event.translated, event.translated_port)}"
        flow = self._flow(
            event,
            Type=pb.L3_L4,
            IP=pb.IP(
                source=text(event.source),
                destination=text(event.destination),
                ipVersion=pb.IPv4 if is_ipv4(event.source) else pb.IPv6,
                source_xlated=text(event.translated) if event.is_translated and not redirected else "",
            ),
            source_service=self._service(event.source, event.source_port, event.protocol),
            destination_service=self._service(event.destination, event.destination_port, event.protocol),
            Summary=summary,
        )
        _fill_l4(flow, event)
        if event.source_mac != _NO_MAC or event.destination_mac != _NO_MAC:
            flow.ethernet.source = mac_text(event.source_mac)
            flow.ethernet.destination = mac_text(event.destination_mac)
        if event.ifindex:
            flow.interface.index = event.ifindex
            flow.interface.name = self._names.interface(event.ifindex)
        if event.tunnel_vni:
            flow.tunnel.protocol = pb.Tunnel.VXLAN
            flow.tunnel.vni = event.tunnel_vni
        return flow

    def _socket(self, event: Event) -> pb.Flow:
        """`translated` is the service's address. Where a socket sends from is known if it is bound, or a pod's."""
        service = self._service(event.translated, event.translated_port, event.protocol)
        reverse = event.point >= SockPoint.REVERSE
        source, destination = (text(end) if end != NOWHERE else "" for end in (event.source, event.destination))
        point: Any = event.point
        flow = self._flow(
            event,
            Type=pb.SOCK,
            IP=pb.IP(
                source=source,
                destination=destination,
                ipVersion=pb.IPv4 if is_ipv4(event.translated) else pb.IPv6,
            ),
            source_service=service if reverse else None,
            destination_service=None if reverse else service,
            sock_xlate_point=point,
            Summary=texts.PROTOCOLS.get(event.protocol, "Unknown"),
        )
        _fill_l4(flow, event)
        return flow

    def _flow(self, event: Event, **said: Any) -> pb.Flow:
        """What packets and sockets have in common: when, and between whom."""
        names = self._names
        return pb.Flow(
            time={"seconds": event.time // _SECOND, "nanos": event.time % _SECOND},
            node_name=self._node_name,
            source=_endpoint(names.party(event.source, event.source_endpoint, event.source_identity)),
            destination=_endpoint(
                names.party(event.destination, event.destination_endpoint, event.destination_identity)
            ),
            **said,
        )

    def _service(self, address: bytes, port: int, protocol: int) -> pb.Service | None:
        name = self._names.services.at(address, port, protocol)
        return None if name is None else _named_service(*name)

    def _observed(self, flow: pb.Flow, event: Event) -> None:
        if event.type == EventType.TRACE:
            point: Any = TO_ENDPOINT if event.point == Point.TO_ENDPOINT else event.point
            reason: Any = event.reason if event.reason in _TRACE_REASONS else pb.TRACE_REASON_UNKNOWN
            flow.trace_observation_point, flow.trace_reason = point, reason

    def _decided(self, flow: pb.Flow, event: Event, kind: int, closed: bool) -> None:
        """Name the rules that decided: of its own direction for a policy verdict, of both for the packet's event.

        Egress is the client's, ingress the server's; packets of an established connection carry the cookies of its
        opening. `closed` speaks of the last direction that was decided.
        """
        client, server = event.source_endpoint, event.destination_endpoint
        if event.flags & Flag.REPLY:
            client, server = server, client
        if kind != Kind.INGRESS_VERDICT and (event.flags & Flag.EGRESS_DECIDED or event.egress_cookie):
            last = kind == Kind.EGRESS_VERDICT or not event.flags & Flag.INGRESS_DECIDED
            shut = (closed and last) or bool(event.flags & Flag.EGRESS_AUDITED)
            rules = self._rules(flow, event.egress_cookie, shut, client, Direction.EGRESS)
            refused = self._refused(event.egress_cookie, shut)
            (flow.egress_denied_by if refused else flow.egress_allowed_by).extend(rules)
            flow.policy_match_type = event.egress_match
        if kind != Kind.EGRESS_VERDICT and (event.flags & Flag.INGRESS_DECIDED or event.ingress_cookie):
            rules = self._rules(flow, event.ingress_cookie, closed, server, Direction.INGRESS)
            refused = self._refused(event.ingress_cookie, closed)
            (flow.ingress_denied_by if refused else flow.ingress_allowed_by).extend(rules)
            flow.policy_match_type = event.ingress_match

    def _refused(self, cookie: int, closed: bool) -> bool:
        """A rule refuses if it is a deny rule (audit mode lets pass what it refuses), no rule refuses if closed."""
        rule = self._names.rule(cookie)
        return rule.action is Action.DENY if rule is not None else closed

    def _rules(self, flow: pb.Flow, cookie: int, closed: bool, endpoint: int, direction: Direction) -> list[pb.Policy]:
        """The rules that decided; what they want to have logged goes into the flow."""
        audited = cookie == AUDITED_DEFAULT_DENY
        if audited or (cookie == DEFAULT_DENY and closed):
            return [_policy(one) for one in self._names.default_deny(endpoint, direction, audited)]
        rule = self._names.rule(cookie)
        if rule is not None and rule.log and rule.log not in flow.policy_log:
            flow.policy_log.append(rule.log)
        return [] if rule is None else [_policy(rule)]


_DROP_REASONS = frozenset(pb.DropReason.values())
_TRACE_REASONS = frozenset(pb.TraceReason.values())


@lru_cache(maxsize=8192)
def _endpoint(party: Party) -> pb.Endpoint:
    """Shared between flows: a message that is assigned to a field is copied."""
    endpoint = pb.Endpoint(
        ID=party.endpoint,
        identity=party.identity,
        namespace=party.namespace,
        labels=party.labels,
        pod_name=party.pod,
        cluster_name=party.cluster,
    )
    if party.workload_name:
        endpoint.workloads.add(name=party.workload_name, kind=party.workload_kind)
    return endpoint


@lru_cache(maxsize=1024)
def _named_service(namespace: str, name: str) -> pb.Service:
    return pb.Service(namespace=namespace, name=name)


def _place(address: bytes, port: int) -> str:
    return f"{text(address)}:{port}" if is_ipv4(address) else f"[{text(address)}]:{port}"


@lru_cache(maxsize=1024)
def _policy(rule: RuleReference) -> pb.Policy:
    """Labels as upstream derives them from the object, and one that names the rule: the message has no field for it."""
    derived = [f"{POLICY_LABEL}derived-from={rule.kind}", f"{POLICY_LABEL}name={rule.name}"]
    if rule.namespace:
        derived.append(f"{POLICY_LABEL}namespace={rule.namespace}")
    if rule.place:
        derived.append(f"{texts.RULE_LABEL}={rule.place}")
    return pb.Policy(
        name=rule.name,
        namespace=rule.namespace,
        labels=[*rule.labels, *derived] if rule.kind else rule.labels,
        kind=rule.kind,
        revision=rule.revision,
    )


def _fill_l4(flow: pb.Flow, event: Event) -> None:
    ports: dict[str, Any] = {"source_port": event.source_port, "destination_port": event.destination_port}
    l4 = flow.l4
    match event.protocol:
        case texts.TCP:
            l4.TCP.CopyFrom(pb.TCP(**ports, flags=None if event.is_socket else _tcp_flags(event.tcp_flags)))
        case texts.UDP:
            l4.UDP.CopyFrom(pb.UDP(**ports))
        case texts.SCTP:
            l4.SCTP.CopyFrom(pb.SCTP(**ports))
        case texts.ICMP:
            l4.ICMPv4.CopyFrom(pb.ICMPv4(type=event.source_port, code=event.destination_port))
        case texts.ICMPV6:
            l4.ICMPv6.CopyFrom(pb.ICMPv6(type=event.source_port, code=event.destination_port))
        case texts.IGMP:
            l4.IGMP.SetInParent()
        case texts.VRRP:
            l4.VRRP.SetInParent()


@lru_cache(maxsize=256)
def _tcp_flags(bits: int) -> pb.TCPFlags:
    return pb.TCPFlags(**{name: bool(bits & bit) for name, bit in texts.TCP_FLAG_BITS.items()})
