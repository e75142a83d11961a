/* cilium_frags: the ports of a fragmented datagram, learnt from its first fragment (RFC 791, RFC 8200 4.5).
 * Writer: the datapath. */
#pragma once

struct fragment_key {
	union addr source, destination;
	__be32 id; /* IPv4: 16 bits */
	__u8 protocol;
	__u8 pad[3];
};

struct fragment_ports {
	__be16 source, destination;
	__u8 icmp_type;
	__u8 shape; /* enum flow_shape: of ICMP */
	__u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment_ports);
	__uint(max_entries, 8192);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_frags SEC(".maps");
