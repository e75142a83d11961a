/* What a service's address stands for.
 *
 *   cilium_lb_services: (address, port, protocol, scope) -> service: `count` slots from index `slots` on
 *   cilium_lb_slots:    index -> backend id                the slots of all services, back to back
 *   cilium_lb_backends: backend id -> (address, port)
 *   cilium_lb_maglev:   service id -> table of backend ids  Maglev: a choice that other nodes make alike; entry = hash
 *                                                          % config_maglev_size; none there: as without Maglev
 *
 * Choosing a backend is one hash lookup and two array lookups, whatever the number of services and backends. Ranges of
 * slots are allocated by user space and never changed while a row names them: a change of a service's backends writes a
 * new range, then flips the row in one write, so no connect ever sees half a service. Ranges and backend ids that
 * nobody names any more are used again only after a while, for programs that read the row before. A weight is a number
 * of slots. Who asks from outside may find another row than who asks inside: fewer backends, other rules.
 *
 *   cilium_lb_source_ranges:  (service id, prefix) -> 1     who may ask from outside, or may not
 *   cilium_lb_affinity_match: (service id, backend id) -> 1 backends to which a client may stay true
 *   cilium_lb_skip:           (pod, service address) -> 1   pods that are not redirected: local redirects' own backends
 * Writer of all these: the agent (features/services); order: backends, slots, tables, then the service row; deletion in
 * reverse. A backend that is no more is zeroed: connections that were made to it are chosen anew.
 *
 *   cilium_lb_affinity: (client, service id) -> the backend it had last
 *   cilium_lb_reverse:  which service a socket meant when it talks to a backend: for recvmsg and getpeername
 * Writer of these: the datapath. Connections whose packets are translated are in cilium_snat (maps/nat.h). */
#pragma once

enum service_scope {
	SERVICE_CLUSTER = 0,  /* asked by pods and nodes of the cluster */
	SERVICE_EXTERNAL = 1, /* asked from outside; no row: not reachable from there */
	SERVICE_ORIGINAL = 2, /* what a local redirect took the place of: for those whom cilium_lb_skip names */
};

enum service_flags {
	SERVICE_NODE_PORT = 1 << 0,    /* the key's address is unspecified: any address of any node */
	SERVICE_SOURCE_CHECK = 1 << 1, /* cilium_lb_source_ranges lists who may ask */
	SERVICE_SOURCE_DENY = 1 << 2,  /* with SOURCE_CHECK: lists who may not */
	SERVICE_MAGLEV = 1 << 3,       /* cilium_lb_maglev has a table for the id */
	SERVICE_DSR = 1 << 4,          /* backends of other nodes answer the client themselves */
	SERVICE_LOCAL = 1 << 5,        /* traffic policy Local: nobody here is no refusal, but silence */
	SERVICE_REDIRECT = 1 << 6,     /* local redirect: cilium_lb_skip has a say */
	SERVICE_HOST_PORT = 1 << 7,    /* of a pod of this node */
};

struct service_key {
	union addr address;
	__be16 port;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	__u8 scope;    /* enum service_scope */
	__u32 pad;
};

struct service {
	__u32 id;    /* also the reverse-NAT id; stable over restarts of the agent */
	__u32 slots; /* index of the first */
	__u32 count; /* 0: nobody is there, clients are refused */
	__u32 affinity_timeout; /* seconds; 0: no session affinity */
	__u16 flags; /* enum service_flags */
	__u16 pad;
};

enum backend_state {
	BACKEND_ACTIVE = 0,
	BACKEND_TERMINATING = 1, /* connections it has go on; new ones only if nobody else is there */
};

struct backend {
	union addr address; /* all zero: none */
	__be16 port;
	__u8 protocol;
	__u8 state; /* enum backend_state */
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
	__u64 netns_cookie; /* of the socket: where to look for it */
};

struct source_range_key {
	__u32 prefixlen; /* 32 bits of the service, then of the address: 96 + length for IPv4 */
	__u32 service;
	union addr address;
};

enum affinity_kind { AFFINITY_ADDRESS = 0, AFFINITY_SOCKET = 1 };

struct affinity_key {
	union addr client; /* its address; AFFINITY_SOCKET: the cookie of its network namespace in halves[1] */
	__u32 service;
	__u8 kind; /* enum affinity_kind */
	__u8 pad[3];
};

struct affinity_entry {
	__u64 used; /* bpf_ktime_get_coarse_ns() */
	__u32 backend;
	__u32 pad;
};

struct affinity_match_key {
	__u32 service;
	__u32 backend;
};

enum skip_bit { SKIP_ENDPOINT = 63 };

struct skip_key {
	__u64 netns_cookie; /* to packets, which have none, the endpoint's number with bit SKIP_ENDPOINT */
	union addr address;
	__be16 port;
	__u8 protocol;
	__u8 pad[5];
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

/* A table is never changed: a new one takes its place. Services with the same backends share one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__type(key, __u32); /* service id */
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(key_size, sizeof(__u32));
		__uint(value_size, sizeof(__u32)); /* backend id */
		__uint(max_entries, 16381);
		__uint(map_flags, BPF_F_INNER_MAP | BPF_F_MMAPABLE); /* of any size: while it changes there are two */
	});
} cilium_lb_maglev SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct reverse_key);
	__type(value, struct reverse_entry);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_lb_reverse SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct source_range_key);
	__type(value, __u32); /* 1 */
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_lb_source_ranges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct affinity_key);
	__type(value, struct affinity_entry);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_lb_affinity SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct affinity_match_key);
	__type(value, __u32); /* 1 */
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_lb_affinity_match SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct skip_key);
	__type(value, __u32); /* 1 */
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_lb_skip SEC(".maps");
