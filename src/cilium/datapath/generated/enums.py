"""The datapath's enums; names without their C prefix. Generated from bpf/ by tools/generate_views.py: do not edit, run `make views`."""
from enum import IntEnum, IntFlag


class IcmpType(IntEnum):
    """enum icmp_type."""

    ECHOREPLY = 0
    DEST_UNREACH = 3
    SOURCE_QUENCH = 4
    ECHO = 8
    TIME_EXCEEDED = 11
    PARAMETERPROB = 12


class Identity(IntEnum):
    """enum identity."""

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8
    WORLD_IPV4 = 9
    WORLD_IPV6 = 10
    RESERVED_MAX = 99


class IdentityScope(IntEnum):
    """enum identity_scope."""

    GLOBAL = 0
    CIDR = 16777216
    REMOTE_NODE = 33554432
    MASK = 4278190080


class DropReason(IntEnum):
    """enum drop_reason."""

    NONE = 0
    INVALID_SOURCE_MAC = 130
    INVALID_DESTINATION_MAC = 131
    INVALID_SOURCE_IP = 132
    POLICY_DENIED = 133
    INVALID_PACKET_DROPPED = 134
    CT_TRUNCATED_OR_INVALID_HEADER = 135
    CT_MISSING_TCP_ACK_FLAG = 136
    CT_UNKNOWN_L4_PROTOCOL = 137
    CT_CANNOT_CREATE_ENTRY_FROM_PACKET = 138
    UNSUPPORTED_L3_PROTOCOL = 139
    MISSED_TAIL_CALL = 140
    ERROR_WRITING_TO_PACKET = 141
    UNKNOWN_L4_PROTOCOL = 142
    UNKNOWN_ICMPV4_CODE = 143
    UNKNOWN_ICMPV4_TYPE = 144
    UNKNOWN_ICMPV6_CODE = 145
    UNKNOWN_ICMPV6_TYPE = 146
    ERROR_RETRIEVING_TUNNEL_KEY = 147
    UNKNOWN_L3_TARGET_ADDRESS = 150
    STALE_OR_UNROUTABLE_IP = 151
    ERROR_WHILE_CORRECTING_L3_CHECKSUM = 153
    ERROR_WHILE_CORRECTING_L4_CHECKSUM = 154
    CT_MAP_INSERTION_FAILED = 155
    INVALID_IPV6_EXTENSION_HEADER = 156
    IP_FRAGMENTATION_NOT_SUPPORTED = 157
    SERVICE_BACKEND_NOT_FOUND = 158
    NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT = 160
    FAILED_TO_INSERT_INTO_PROXYMAP = 161
    UNKNOWN_CONNECTION_TRACKING_STATE = 163
    UNSUPPORTED_L2_PROTOCOL = 166
    NO_MAPPING_FOR_NAT_MASQUERADE = 167
    UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE = 168
    FIB_LOOKUP_FAILED = 169
    ENCAPSULATION_TRAFFIC_IS_PROHIBITED = 170
    INVALID_IDENTITY = 171
    UNKNOWN_SENDER = 172
    IS_A_CLUSTERIP = 174
    FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND = 175
    FORBIDDEN_ICMPV6_MESSAGE = 176
    DENIED_BY_LB_SRC_RANGE_CHECK = 177
    SOCKET_LOOKUP_FAILED = 178
    SOCKET_ASSIGN_FAILED = 179
    PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL = 180
    POLICY_DENY = 181
    VLAN_FILTERED = 182
    INVALID_VNI = 183
    AUTH_REQUIRED = 189
    TTL_EXCEEDED = 196
    RATE_LIMITED = 198
    IGMP_HANDLED = 199
    MULTICAST_HANDLED = 201
    HOST_NOT_READY = 202
    EP_NOT_READY = 203
    NO_EGRESS_IP = 204
    PUNT_PROXY = 205


class CtFlags(IntFlag):
    """enum ct_flags."""

    LOW_OPENED = 1
    SEEN_REPLY = 2
    FIN_CLIENT = 4
    FIN_SERVER = 8
    CLOSING = 16
    RELATED = 32
    AUDIT = 64


class EndpointFlags(IntFlag):
    """enum endpoint_flags."""

    HOST = 1
    NOT_READY = 2
    AUDIT = 4
    NO_SOURCE_CHECK = 8
    HEALTH = 16
    ADOPTING = 32


class EventType(IntEnum):
    """enum event_type."""

    DROP = 1
    TRACE = 4
    POLICY_VERDICT = 5
    TRACE_SOCK = 7


class FlowDirection(IntEnum):
    """enum flow_direction."""

    UNKNOWN = 0
    INGRESS = 1
    EGRESS = 2


class FlowVerdict(IntEnum):
    """enum flow_verdict."""

    FORWARDED = 1
    DROPPED = 2
    ERROR = 3
    AUDITED = 4
    REDIRECTED = 5
    TRANSLATED = 7


class ObservationPoint(IntEnum):
    """enum observation_point."""

    TO_ENDPOINT = 0
    TO_PROXY = 1
    TO_HOST = 2
    TO_STACK = 3
    TO_OVERLAY = 4
    FROM_ENDPOINT = 5
    FROM_PROXY = 6
    FROM_HOST = 7
    FROM_STACK = 8
    FROM_OVERLAY = 9
    FROM_NETWORK = 10
    TO_NETWORK = 11


class TraceReason(IntEnum):
    """enum trace_reason."""

    UNKNOWN = 0
    NEW = 1
    ESTABLISHED = 2
    REPLY = 3
    RELATED = 4


class EventFlags(IntFlag):
    """enum event_flags."""

    REPLY = 1
    REPLY_KNOWN = 2
    EGRESS_DECIDED = 4
    INGRESS_DECIDED = 8
    LOCAL = 16
    EGRESS_AUDITED = 32
    INGRESS_AUDITED = 64


class SockPoint(IntEnum):
    """enum sock_point."""

    FORWARD = 1
    REVERSE = 3


class IpcacheFlags(IntFlag):
    """enum ipcache_flags."""

    SKIP_TUNNEL = 1


class NatDirection(IntEnum):
    """enum nat_direction."""

    FORWARD = 0
    REVERSE = 1


class NatFlags(IntFlag):
    """enum nat_flags."""

    REPLIED = 1
    FIN_OUT = 2
    FIN_IN = 4
    CLOSED = 8
    DSR = 16


class NatClient(IntEnum):
    """enum nat_client."""

    FOR_POD = 0
    FOR_HOST = 1
    FOR_PEER = 2
    CLIENTS = 3


class NearEnd(IntEnum):
    """enum near_end."""

    SENDER = 0
    RECEIVER = 1
    ENDS = 2


class NetdevFlags(IntFlag):
    """enum netdev_flags."""

    TAKES_FRAMES = 1
    TX_WAITS = 2


class VerdictFlags(IntFlag):
    """enum verdict_flags."""

    DENY = 1
    REDIRECT = 2
    AUTH = 4
    AUDIT = 8
    DEFAULT = 16


class PolicyCounterWriter(IntEnum):
    """enum policy_counter_writer."""

    DATAPATH = 0
    AGENT = 1


class RuntimeFlags(IntFlag):
    """enum runtime_flags."""

    EVENTS_OFF = 1
    HIDE_RECEIVED = 2


class ServiceScope(IntEnum):
    """enum service_scope."""

    CLUSTER = 0
    EXTERNAL = 1
    ORIGINAL = 2


class ServiceFlags(IntFlag):
    """enum service_flags."""

    NODE_PORT = 1
    SOURCE_CHECK = 2
    SOURCE_DENY = 4
    MAGLEV = 8
    DSR = 16
    LOCAL = 32
    REDIRECT = 64
    HOST_PORT = 128


class BackendState(IntEnum):
    """enum backend_state."""

    ACTIVE = 0
    TERMINATING = 1


class AffinityKind(IntEnum):
    """enum affinity_kind."""

    ADDRESS = 0
    SOCKET = 1


class SkipBit(IntEnum):
    """enum skip_bit."""

    ENDPOINT = 63


class RoutingMode(IntEnum):
    """enum routing_mode."""

    TUNNEL = 0
    NATIVE = 1


class TunnelProtocol(IntEnum):
    """enum tunnel_protocol."""

    VXLAN = 0
    GENEVE = 1


class DsrDispatch(IntEnum):
    """enum dsr_dispatch."""

    OFF = 0
    OPTION = 1
    GENEVE = 2
