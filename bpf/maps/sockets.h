/* cilium_lb_sockets: which sockets may be in cilium_lb_reverse, a byte for each value of the cookie's lower bits. Every
 * socket that is closed asks: cookies are given out in order, so what is asked lies in the processor's cache, which a
 * bucket of cilium_lb_reverse does not. A byte that says too much costs a lookup, one that says too little leaves an entry
 * to the end of all entries that are not used.
 * Writer and reader: the datapath. */
#pragma once

#define SOCKET_MARKS 64 /* per element: a line of the cache */
#define SOCKET_ELEMENTS 1024

struct socket_marks {
	__u8 marked[SOCKET_MARKS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct socket_marks);
	__uint(max_entries, SOCKET_ELEMENTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_lb_sockets SEC(".maps");
