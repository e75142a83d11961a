/* Why a packet was dropped: upstream's numbers. A name is DROP_ and the name in flow.DropReason (names that begin with
 * DROP_ there stand as they are). Values below 130 are metrics reasons, not drops. */
#pragma once

enum drop_reason {
	DROP_NONE = 0,
	DROP_INVALID_SOURCE_MAC = 130,
	DROP_INVALID_DESTINATION_MAC = 131,
	DROP_INVALID_SOURCE_IP = 132,             /* the interface does not own the source address */
	DROP_POLICY_DENIED = 133,                 /* no rule allows it */
	DROP_INVALID_PACKET_DROPPED = 134,        /* truncated or contradictory IP header */
	DROP_CT_TRUNCATED_OR_INVALID_HEADER = 135, /* the same for the transport header */
	DROP_CT_MISSING_TCP_ACK_FLAG = 136,
	DROP_CT_UNKNOWN_L4_PROTOCOL = 137,
	DROP_CT_CANNOT_CREATE_ENTRY_FROM_PACKET = 138,
	DROP_UNSUPPORTED_L3_PROTOCOL = 139,       /* neither IPv4 nor IPv6, or the family is switched off */
	DROP_MISSED_TAIL_CALL = 140,
	DROP_ERROR_WRITING_TO_PACKET = 141,       /* a helper refused to change the packet */
	DROP_UNKNOWN_L4_PROTOCOL = 142,
	DROP_UNKNOWN_ICMPV4_CODE = 143,
	DROP_UNKNOWN_ICMPV4_TYPE = 144,
	DROP_UNKNOWN_ICMPV6_CODE = 145,
	DROP_UNKNOWN_ICMPV6_TYPE = 146,
	DROP_ERROR_RETRIEVING_TUNNEL_KEY = 147,   /* a packet on the overlay device without a tunnel key */
	DROP_UNKNOWN_L3_TARGET_ADDRESS = 150,     /* nobody has this address */
	DROP_STALE_OR_UNROUTABLE_IP = 151,        /* sent to this node for an address that is not here (any more) */
	DROP_ERROR_WHILE_CORRECTING_L3_CHECKSUM = 153,
	DROP_ERROR_WHILE_CORRECTING_L4_CHECKSUM = 154,
	DROP_CT_MAP_INSERTION_FAILED = 155,       /* the connection could not be remembered */
	DROP_INVALID_IPV6_EXTENSION_HEADER = 156, /* unknown, or too many */
	DROP_IP_FRAGMENTATION_NOT_SUPPORTED = 157,
	DROP_SERVICE_BACKEND_NOT_FOUND = 158,     /* a service without backends */
	DROP_NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT = 160, /* no node is known behind which the address lives */
	DROP_FAILED_TO_INSERT_INTO_PROXYMAP = 161,
	DROP_UNKNOWN_CONNECTION_TRACKING_STATE = 163,
	DROP_UNSUPPORTED_L2_PROTOCOL = 166,
	DROP_NO_MAPPING_FOR_NAT_MASQUERADE = 167, /* no address or no free port to masquerade with */
	DROP_UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE = 168, /* neither TCP, UDP, ICMP echo nor an ICMP error */
	DROP_FIB_LOOKUP_FAILED = 169,
	DROP_ENCAPSULATION_TRAFFIC_IS_PROHIBITED = 170,
	DROP_INVALID_IDENTITY = 171,              /* the tunnel key carries no usable identity */
	DROP_UNKNOWN_SENDER = 172,
	DROP_IS_A_CLUSTERIP = 174,                /* asked from outside, but for the inside only */
	DROP_FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND = 175, /* a fragment whose first one was not seen */
	DROP_FORBIDDEN_ICMPV6_MESSAGE = 176,      /* router advertisement or redirect from a pod */
	DROP_DENIED_BY_LB_SRC_RANGE_CHECK = 177,  /* the client is not among those who may ask */
	DROP_SOCKET_LOOKUP_FAILED = 178,
	DROP_SOCKET_ASSIGN_FAILED = 179,
	DROP_PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL = 180,
	DROP_POLICY_DENY = 181,                   /* a deny rule */
	DROP_VLAN_FILTERED = 182,
	DROP_INVALID_VNI = 183,
	DROP_AUTH_REQUIRED = 189,                 /* the rule wants authenticated peers */
	DROP_TTL_EXCEEDED = 196,
	DROP_RATE_LIMITED = 198,
	DROP_IGMP_HANDLED = 199,                  /* counted, never reported: group membership, nobody forwards it */
	DROP_MULTICAST_HANDLED = 201,             /* likewise: link-local multicast and neighbour discovery chatter */
	DROP_HOST_NOT_READY = 202,
	DROP_EP_NOT_READY = 203,                  /* the endpoint has no policy yet */
	DROP_NO_EGRESS_IP = 204,
	DROP_PUNT_PROXY = 205,                    /* the rule wants a proxy and there is none */
};
