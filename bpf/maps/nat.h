/* cilium_snat: source translation of traffic that leaves the cluster (masquerading), both directions.
 * Writer: the datapath, which also takes the port of a dead mapping when it needs one; garbage collection: the agent. */
#pragma once

enum nat_direction {
	NAT_EGRESS = 0, /* key: the packet as the pod sent it -> the translated source */
	NAT_INGRESS = 1, /* key: the reply as the world sent it -> the original destination */
};

enum nat_flags { /* how long a silent mapping lives; the same in both its entries */
	NAT_REPLIED = 1 << 0,
	NAT_FIN_OUT = 1 << 1,
	NAT_FIN_IN = 1 << 2,
	NAT_CLOSED = 1 << 3, /* RST, or FIN from both */
};

struct nat_key {
	union addr source, destination;
	__be16 source_port, destination_port; /* ICMP echo: the identifier in both */
	__u8 protocol;
	__u8 direction; /* enum nat_direction */
	__u16 pad;
};

struct nat_entry {
	union addr address;
	__u64 created;
	__u64 used; /* bpf_ktime_get_coarse_ns() of the last packet */
	__be16 port;
	__u8 flags; /* enum nat_flags */
	__u8 pad[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct nat_key);
	__type(value, struct nat_entry);
	__uint(max_entries, 524288);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_snat SEC(".maps");
