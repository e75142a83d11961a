/* cilium_lb_services, cilium_lb_slots, cilium_lb_backends: what a service's address stands for.
 *
 *   cilium_lb_services: (address, port, protocol, scope) -> service: `count` slots from index `slots` on
 *   cilium_lb_slots:    index -> backend id                the slots of all services, back to back
 *   cilium_lb_backends: backend id -> (address, port)
 *
 * Choosing a backend is one hash lookup and two array lookups, whatever the number of services and backends. Ranges of
 * slots are allocated by user space and never changed while a row names them: a change of a service's backends writes a
 * new range, then flips the row in one write, so no connect ever sees half a service. Ranges and backend ids that
 * nobody names any more are used again only after a while, for programs that read the row before.
 * Writer: the agent (features/services); order: backends, slots, service row; deletion in reverse.
 *
 * cilium_lb_reverse: which service a socket meant when it talks to a backend: for recvmsg and getpeername.
 * Writer: the datapath. */
#pragma once

enum service_scope {
	SERVICE_CLUSTER = 0, /* asked from inside the cluster; room for another view from outside */
};

enum service_flags {
	SERVICE_NODE_PORT = 1 << 0, /* the key's address is unspecified: any address of any node */
};

struct service_key {
	union addr address;
	__be16 port;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 scope;    /* enum service_scope */
	__u32 pad;
};

struct service {
	__u32 id;    /* also the reverse-NAT id; stable over restarts of the agent */
	__u32 slots; /* index of the first */
	__u32 count; /* 0: nobody is there, clients are refused */
	__u32 affinity_timeout; /* 0; room for session affinity */
	__u16 flags; /* enum service_flags */
	__u16 pad;
};

struct backend {
	union addr address; /* all zero: none */
	__be16 port;
	__u8 protocol;
	__u8 terminating; /* serves, but only because nobody else does */
	__u32 pad;
};

struct reverse_key {
	__u64 cookie; /* of the socket */
	union addr address; /* of the backend */
	__be16 port;
	__u8 pad[6];
};

struct reverse_entry {
	union addr address; /* of the service */
	__be16 port;
	__u16 pad;
	__u32 id;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct service_key);
	__type(value, struct service);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_lb_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32); /* backend id */
	__uint(max_entries, 524288);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_lb_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32); /* backend id; 0 is never used */
	__type(value, struct backend);
	__uint(max_entries, 131072);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_lb_backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct reverse_key);
	__type(value, struct reverse_entry);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_lb_reverse SEC(".maps");
