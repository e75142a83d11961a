/* cilium_lxc: the endpoints of this node and the node's own addresses, by IP address.
 * Writer: the agent (features/endpoint). One lookup of a packet's source gives identity, policy and anti-spoofing
 * (the row must name the interface the packet came from). A copy of an endpoint's row under the address ::ifindex
 * (ifindex in network byte order in the last word; ::/96 never names a peer) is optional: it tells the datapath whose
 * interface it is when the source address does not: link-local neighbour discovery, ENDPOINT_NO_SOURCE_CHECK. */
#pragma once

enum endpoint_flags {
	ENDPOINT_HOST = 1 << 0,      /* an address of this node itself: deliver to the stack */
	ENDPOINT_NOT_READY = 1 << 1, /* no policy computed yet: drop with DROP_EP_NOT_READY, both directions */
	ENDPOINT_AUDIT = 1 << 2,     /* verdicts are reported as AUDIT, nothing is dropped by policy */
	ENDPOINT_NO_SOURCE_CHECK = 1 << 3, /* anti-spoofing disabled by annotation; read from the row by interface */
	ENDPOINT_HEALTH = 1 << 4,
	ENDPOINT_ADOPTING = 1 << 5, /* came under a policy a moment ago: its connections from before are taken over */
};

struct endpoint_key {
	union addr address;
};

struct endpoint {
	__u32 ifindex;        /* host side of the veth pair; 0 for ENDPOINT_HOST */
	__u32 identity;       /* security identity */
	__u32 ingress_policy; /* first half of a policy_key; 0: ingress is not enforced */
	__u32 egress_policy;  /* likewise for egress */
	__u16 id;             /* endpoint id on this node */
	__u16 flags;          /* enum endpoint_flags */
	__u8 mac[6];          /* of the pod's interface */
	__u8 node_mac[6];     /* of the host side: the pod's gateway MAC */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct endpoint_key);
	__type(value, struct endpoint);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_lxc SEC(".maps");
