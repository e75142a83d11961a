/* cilium_netdev: the devices that connect this node to others, by ifindex, and what masquerading uses on them.
 * Writer: the agent (features/programs). */
#pragma once

enum netdev_flags {
	NETDEV_TAKES_FRAMES = 1 << 0, /* XDP may redirect to it (ndo_xdp_xmit), from itself or from another device */
	NETDEV_TX_WAITS = 1 << 1,     /* veth: what XDP_TX sends may wait for the next packet; what is redirected does not */
};

struct netdev {
	union addr masquerade4; /* v4-mapped; all zero: what needs it is dropped, a pod's address never leaks */
	union addr masquerade6;
	__u8 mac[6];
	__u16 flags; /* enum netdev_flags */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct netdev);
	__uint(max_entries, 256);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_netdev SEC(".maps");
