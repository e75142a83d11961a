/* cilium_ct: one entry per tracked connection, found from both directions by one lookup: the key is the tuple with its
 * two ends in order, the entry says which end opened the connection. A flow between two endpoints of this node has one
 * entry, not two. A flow gets an entry only if a policy is enforced on an endpoint of this node that takes part in it,
 * or if a service translates it (masquerading keeps its own state, cilium_snat). Writer: the datapath; expiry: the
 * datapath (a dead entry is no entry), garbage collection: the agent (features/conntrack). */
#pragma once

enum ct_flags {
	CT_LOW_OPENED = 1 << 0,   /* the lower end of the key is the client */
	CT_SEEN_REPLY = 1 << 1,
	CT_FIN_CLIENT = 1 << 2,   /* FIN seen from the client */
	CT_FIN_SERVER = 1 << 3,
	CT_CLOSING = 1 << 4,      /* RST, or FIN from both */
	CT_RELATED = 1 << 5,
	CT_AUDIT = 1 << 6,        /* let through by audit mode only */
};

struct ct_key {
	union addr low, high;
	__be16 low_port, high_port; /* ICMP echo: the identifier on both sides; other protocols: 0 */
	__u8 protocol;
	__u8 pad;
	__u16 zone; /* 0; room for overlapping clusters */
};

struct ct_entry {
	__u64 expires;        /* bpf_ktime_get_coarse_ns() */
	__u64 packets[2];     /* [0] from the client, [1] from the server */
	__u64 bytes[2];
	__u64 reported[2];    /* time of the last event for this direction: aggregation */
	__u64 told_bytes[2];  /* what of all this its rules have counted (cilium_policy_counters) and events have told */
	__u32 told_packets[2];
	__u32 policy_epoch;   /* of cilium_runtime when the verdict was taken; older: decide again */
	__u32 client_identity;
	__u32 server_identity;
	__u32 egress_cookie;  /* the rules that let it through; 0: not enforced on this node */
	__u32 ingress_cookie;
	__be16 proxy_port;
	__u16 rev_nat;        /* 0; room for services */
	__u16 endpoints[2];   /* ids of client and server, 0: not of this node; an address goes to other pods in time */
	__u8 flags;           /* enum ct_flags */
	__u8 tcp_flags[2];    /* seen from the client, from the server, since the last event */
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct ct_key);
	__type(value, struct ct_entry);
	__uint(max_entries, 524288);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_ct SEC(".maps");
