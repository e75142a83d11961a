/* cilium_snat: connections whose packets are translated, both directions: masquerading (the source, towards the world)
 * and services (the destination, and the source where replies must come back here). One map for both, so that no two of
 * them ever claim one port of the node.
 * Writer: the datapath, which also takes the port of a dead mapping when it needs one; garbage collection: the agent. */
#pragma once

enum nat_direction {
	NAT_FORWARD = 0, /* key: the packet as the client sent it -> both ends as the server sees them */
	NAT_REVERSE = 1, /* key: the reply as the server sent it -> both ends as the client sees them */
};

enum nat_flags { /* how long a silent mapping lives; the same in both its entries */
	NAT_REPLIED = 1 << 0,
	NAT_FIN_OUT = 1 << 1,
	NAT_FIN_IN = 1 << 2,
	NAT_CLOSED = 1 << 3, /* RST, or FIN from both */
	NAT_DSR = 1 << 4,    /* forward only: replies go straight to the client */
};

struct nat_key {
	union addr source, destination;
	__be16 source_port, destination_port; /* ICMP echo: the identifier in both */
	__u8 protocol;
	__u8 direction; /* enum nat_direction */
	__u16 pad;
};

struct nat_entry {
	union addr source, destination; /* what the packet gets */
	__be16 source_port, destination_port;
	__u32 backend; /* id in cilium_lb_backends; 0: masquerading */
	__u64 created;
	__u64 used; /* bpf_ktime_get_coarse_ns() of the last packet */
	__u32 service; /* id in cilium_lb_services */
	__u8 flags; /* enum nat_flags */
	__u8 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct nat_key);
	__type(value, struct nat_entry);
	__uint(max_entries, 524288);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_snat SEC(".maps");

/* What one run needs to know of a mapping: more than fits on the stack. Programs do not interrupt each other on a
 * processor: they run with softirqs off, or in one. */
struct nat_work {
	struct nat_key forward, reverse;
	struct nat_entry mapping, back; /* under `forward` and `reverse` */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct nat_work);
	__uint(max_entries, 1);
} cilium_nat_work SEC(".maps");

/* When a packet was last translated for whom: what nobody needs costs a load, not a lookup (stages/balance.h). */
enum nat_client {
	NAT_FOR_POD = 0,  /* a pod asked a service in packets: what arrives for pods may be a reply */
	NAT_FOR_HOST = 1, /* a client outside was sent to this node's own sockets: what they send may be a reply */
	NAT_FOR_PEER = 2, /* a pod of another node asked this one: what pods of this node send to such may be a reply */
	NAT_CLIENTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32); /* enum nat_client */
	__type(value, __u64); /* bpf_ktime_get_coarse_ns() */
	__uint(max_entries, NAT_CLIENTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_nat_clients SEC(".maps");
