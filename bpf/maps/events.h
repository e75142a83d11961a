/* cilium_events: what happened to packets, as fixed 128-byte records in one ring. Nobody is woken per record: the
 * reader polls the mapped ring (hubble/ring.py). cilium_events_lost counts what did not fit, per event type. */
#pragma once

enum event_type { /* upstream's monitor message types */
	EVENT_DROP = 1,
	EVENT_TRACE = 4,
	EVENT_POLICY_VERDICT = 5,
	EVENT_TRACE_SOCK = 7, /* a translation in a socket: a struct sock_event */
};

enum flow_direction {
	DIRECTION_UNKNOWN = 0,
	DIRECTION_INGRESS = 1,
	DIRECTION_EGRESS = 2,
};

enum flow_verdict { /* values of flow.Verdict */
	VERDICT_FORWARDED = 1,
	VERDICT_DROPPED = 2,
	VERDICT_ERROR = 3,
	VERDICT_AUDITED = 4,
	VERDICT_REDIRECTED = 5,
	VERDICT_TRANSLATED = 7,
};

enum observation_point { /* the kernel's values: flow.TraceObservationPoint with TO_ENDPOINT as 0 */
	TO_ENDPOINT = 0,
	TO_PROXY = 1,
	TO_HOST = 2,
	TO_STACK = 3,
	TO_OVERLAY = 4,
	FROM_ENDPOINT = 5,
	FROM_PROXY = 6,
	FROM_HOST = 7,
	FROM_STACK = 8,
	FROM_OVERLAY = 9,
	FROM_NETWORK = 10,
	TO_NETWORK = 11,
};

enum trace_reason { /* values of flow.TraceReason */
	TRACE_UNKNOWN = 0,
	TRACE_NEW = 1,
	TRACE_ESTABLISHED = 2,
	TRACE_REPLY = 3,
	TRACE_RELATED = 4,
};

enum event_flags {
	EVENT_REPLY = 1 << 0,          /* the packet goes from server to client */
	EVENT_REPLY_KNOWN = 1 << 1,    /* otherwise is_reply is unset in the flow */
	EVENT_EGRESS_DECIDED = 1 << 2, /* egress policy was evaluated: egress_cookie names the rule, 0 is default deny */
	EVENT_INGRESS_DECIDED = 1 << 3,
	EVENT_LOCAL = 1 << 4,          /* both ends on this node: one record tells egress, ingress and delivery */
	EVENT_EGRESS_AUDITED = 1 << 5, /* with EVENT_EGRESS_DECIDED: denied, and let through by audit mode */
	EVENT_INGRESS_AUDITED = 1 << 6,
};

/* One record is one packet worth telling about. hubble/ expands it into the flows upstream's users expect:
 * a policy-verdict flow for each decided direction and a trace or drop flow. */
struct event {
	__u64 time;          /* bpf_ktime_get_ns(): CLOCK_MONOTONIC */
	__u8 type;           /* enum event_type */
	__u8 point;          /* enum observation_point */
	__u8 reason;         /* drop reason, or enum trace_reason */
	__u8 direction;      /* enum flow_direction, seen from the endpoint that the hook belongs to */
	__u8 verdict;        /* enum flow_verdict */
	__u8 protocol;       /* IPPROTO_* */
	__u8 tcp_flags;      /* as in the header; with aggregation the union since the last event */
	__u8 flags;          /* enum event_flags */
	union addr source;
	union addr destination;
	__be16 source_port;      /* ICMP: type */
	__be16 destination_port; /* ICMP: code */
	__u32 ifindex;
	__u32 source_identity;
	__u32 destination_identity;
	__u16 source_endpoint;      /* endpoint id if it lives on this node, else 0 */
	__u16 destination_endpoint;
	__u32 length;               /* of the packet, in bytes */
	__u32 egress_cookie;
	__u32 ingress_cookie;
	union addr translated; /* at TO_* points the source after masquerading, at FROM_* the backend of a service */
	__be16 translated_port;
	__u8 egress_match; /* policy_match_type */
	__u8 ingress_match;
	__u8 ext_error; /* e.g. -errno of a helper */
	__u8 pad[3];
	__u32 packets; /* packets this record stands for (aggregation) */
	__u32 tunnel_vni;
	__u8 source_mac[6];
	__u8 destination_mac[6];
	__u32 pad2;
};

enum sock_point { /* flow.SocketTranslationPoint before the translation; after it: one more */
	SOCK_FORWARD = 1, /* connect, sendmsg: from the address of a service to that of a backend */
	SOCK_REVERSE = 3, /* recvmsg, getpeername: from a backend to the service that the process meant */
};

/* A record of the same ring and the same size: one translation in a socket, where there is no packet. hubble/ expands it
 * into two flows, as upstream's users expect: before (SOCK_XLATE_POINT_PRE_*, verdict TRACED, the address `destination`)
 * and after (SOCK_XLATE_POINT_POST_*, verdict TRANSLATED, the address `translated`). In the flows of SOCK_REVERSE that
 * address is the source, and the process the destination. Who the process is, user space knows from `netns_cookie` (a
 * pod, or the node: config_host_netns_cookie), or from `cgroup_id` (a container; 0 where the kernel does not say).
 * What lies where in struct event means the same here, but for the last 24 bytes; what is not set is 0. */
struct sock_event {
	__u64 time;
	__u8 type;      /* EVENT_TRACE_SOCK */
	__u8 point;     /* enum sock_point */
	__u8 unset[2];  /* reason, direction */
	__u8 verdict;   /* VERDICT_TRANSLATED */
	__u8 protocol;  /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 unset2[2]; /* tcp_flags, flags */
	union addr source;      /* of the socket, if it is bound to one; else all zero */
	union addr destination; /* as it was before the translation; v4-mapped, also of an IPv6 socket that talks IPv4 */
	__be16 source_port;     /* of the socket, if it has one already; a socket that connects mostly has none */
	__be16 destination_port;
	__u8 unset3[28];        /* ifindex, identities, endpoints, length, rules */
	union addr translated;  /* as it is after it */
	__be16 translated_port;
	__u8 unset4[6];         /* matches, ext_error */
	__u64 socket_cookie;    /* SO_COOKIE: that of the same socket in cilium_lb_reverse */
	__u64 cgroup_id;        /* of the process: the inode number of its cgroup2 directory */
	__u64 netns_cookie;     /* SO_NETNS_COOKIE of the socket's network namespace */
};

_Static_assert(sizeof(struct sock_event) == sizeof(struct event), "one ring, one size");
_Static_assert(offsetof(struct sock_event, destination_port) == offsetof(struct event, destination_port) &&
		       offsetof(struct sock_event, translated_port) == offsetof(struct event, translated_port),
	       "what both records have lies in the same places");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32); /* enum event_type */
	__type(value, __u64);
	__uint(max_entries, 8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_events_lost SEC(".maps");
