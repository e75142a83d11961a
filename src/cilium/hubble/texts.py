"""The words for what a flow says: TCP flags, ICMP types, observation points, drop reasons, match types.

Owns: texts only, without numpy or gRPC, so that the command line can use them too. Numbers are those of flow.proto.
"""

from __future__ import annotations

TCP, UDP, ICMP, ICMPV6, SCTP, IGMP, VRRP = 6, 17, 1, 58, 132, 2, 112

PROTOCOLS = {TCP: "TCP", UDP: "UDP", ICMP: "ICMPv4", ICMPV6: "ICMPv6", SCTP: "SCTP", IGMP: "IGMP", VRRP: "VRRP"}

TCP_FLAG_BITS = {
    "FIN": 1 << 0,
    "SYN": 1 << 1,
    "RST": 1 << 2,
    "PSH": 1 << 3,
    "ACK": 1 << 4,
    "URG": 1 << 5,
    "ECE": 1 << 6,
    "CWR": 1 << 7,
}
_TCP_FLAG_ORDER = ("SYN", "ACK", "RST", "FIN", "PSH", "URG", "ECE", "CWR")

RULE_LABEL = "k8s:io.cilium.k8s.policy.rule"
"""Among the labels of a policy that decided: which of its rules, `spec.ingress[0]`."""

POINTS = {
    0: "to-endpoint",
    1: "to-proxy",
    2: "to-host",
    3: "to-stack",
    4: "to-overlay",
    5: "from-endpoint",
    6: "from-proxy",
    7: "from-host",
    8: "from-stack",
    9: "from-overlay",
    10: "from-network",
    11: "to-network",
    12: "from-crypto",
    13: "to-crypto",
}
"""By sub-type of a trace event, as the kernel numbers them."""

XLATE_POINTS = {1: "pre-xlate-fwd", 2: "post-xlate-fwd", 3: "pre-xlate-rev", 4: "post-xlate-rev"}
"""By sub-type of a trace-sock event: flow.SocketTranslationPoint."""

MATCHES = {0: "none", 1: "L3-Only", 2: "L3-L4", 3: "L4-Only", 4: "all", 5: "L3-Proto", 6: "Proto-Only"}
"""By policy_match_type."""

_ICMP = {
    0: "EchoReply",
    3: "DestinationUnreachable",
    5: "Redirect",
    8: "EchoRequest",
    11: "TimeExceeded",
    12: "ParameterProblem",
    13: "TimestampRequest",
    14: "TimestampReply",
}
_ICMP_UNREACHABLE = {
    0: "Net", 1: "Host", 2: "Protocol", 3: "Port", 4: "FragmentationNeeded", 9: "NetAdminProhibited",
    10: "HostAdminProhibited", 13: "CommAdminProhibited",
}  # fmt: skip
_ICMPV6 = {
    1: "DestinationUnreachable",
    2: "PacketTooBig",
    3: "TimeExceeded",
    4: "ParameterProblem",
    128: "EchoRequest",
    129: "EchoReply",
    130: "MLDv1MulticastListenerQuery",
    133: "RouterSolicitation",
    134: "RouterAdvertisement",
    135: "NeighborSolicitation",
    136: "NeighborAdvertisement",
    137: "Redirect",
    143: "MLDv2MulticastListenerReport",
}
_ICMPV6_UNREACHABLE = {0: "NoRouteToDst", 1: "AdminProhibited", 3: "Address", 4: "Port"}

_ACRONYMS = {
    "ip", "ct", "tcp", "ack", "l2", "l3", "l4", "icmpv4", "icmpv6", "ipv6", "nat", "nat46", "nat64", "fib", "lb",
    "edt", "mac", "vlan", "vni", "tc", "sid", "snat", "dsr", "ttl", "id", "igmp", "srv6",
}  # fmt: skip
_REASONS = {
    "POLICY_DENY": "Policy denied by denylist",
    "DROP_RATE_LIMITED": "Rate limited",
    "DROP_HOST_NOT_READY": "Host datapath not ready",
    "DROP_EP_NOT_READY": "Endpoint policy program not available",
    "DROP_NO_EGRESS_IP": "No egress IP configured",
    "DROP_PUNT_PROXY": "Punt to proxy",
    "DROP_FRAG_NOT_FOUND_WORLD": "Fragment not found",
    "IS_A_CLUSTERIP": "Is a ClusterIP",
}


def tcp_flags(bits: int) -> str:
    """`SYN, ACK`."""
    return ", ".join(name for name in _TCP_FLAG_ORDER if bits & TCP_FLAG_BITS[name])


def icmp(version: int, kind: int, code: int) -> str:
    """`EchoRequest`, `DestinationUnreachable(Port)`; version 4 or 6."""
    names, codes, unreachable = (_ICMP, _ICMP_UNREACHABLE, 3) if version == 4 else (_ICMPV6, _ICMPV6_UNREACHABLE, 1)
    name = names.get(kind, f"{kind}({code})")
    return f"{name}({codes.get(code, code)})" if kind == unreachable else name


def summary(protocol: int, flags: int, kind: int, code: int) -> str:
    """One packet in a few words; `kind` and `code` are those of ICMP."""
    if protocol == TCP:
        return f"TCP Flags: {tcp_flags(flags)}"
    if protocol in (ICMP, ICMPV6):
        return f"{PROTOCOLS[protocol]} {icmp(4 if protocol == ICMP else 6, kind, code)}"
    return PROTOCOLS.get(protocol, f"Protocol {protocol}")


def drop_reason(name: str) -> str:
    """`Policy denied` for POLICY_DENIED."""
    if name in _REASONS:
        return _REASONS[name]
    words = [word.upper() if word in _ACRONYMS else word for word in name.lower().split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])
