/* cilium_xdp_neighbours: when a packet was last left to the kernel for the sake of a neighbour. The kernel only notices that
 * a neighbour must be asked again for its MAC address when it sends there itself (RFC 4861 7.3.2). */
#pragma once

struct neighbour_key {
	union addr address;
	__u32 ifindex;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct neighbour_key);
	__type(value, __u64); /* bpf_ktime_get_coarse_ns() */
	__uint(max_entries, 4096);
} cilium_xdp_neighbours SEC(".maps");
