/* The compressed policy map: a verdict is two lookups.
 *
 *   cilium_policy:        (policy, identity)         -> class     identities that the same rules select share a class
 *   cilium_policy_class:  (class, protocol, port/n)  -> verdict   longest prefix; precedence is resolved at compile time
 *
 * Entries grow with identities + rules, not identities x rules. A policy id names one direction of one policy; equal
 * policies are shared by endpoints. A class is immutable and named by its content, so it may be shared by policies, and
 * an identity moves from its old verdicts to its new ones in one write. Identity 0 holds the class of every identity
 * that has no row of its own (rules without peers). Writer: the agent (features/policy); order of writing: classes
 * before the rows that name them, deletion in reverse.
 *
 * No row, or no matching prefix in the class: denied by default. */
#pragma once

enum verdict_flags {
	VERDICT_DENY = 1 << 0,     /* an explicit deny rule decided */
	VERDICT_REDIRECT = 1 << 1, /* to proxy_port */
	VERDICT_AUTH = 1 << 2,     /* needs an entry in the auth map for auth_type */
	VERDICT_AUDIT = 1 << 3,    /* report AUDIT instead of dropping */
	VERDICT_DEFAULT = 1 << 4,  /* with VERDICT_DENY: default deny decided, as where there is no row */
};

struct policy_key {
	__u32 policy;
	__u32 identity;
};

struct policy_class_key {
	__u32 prefixlen; /* 32: any protocol; 40: one protocol, any port; 40 + n: the first n bits of the port */
	__u32 class;
	__u8 protocol;   /* IPPROTO_* */
	__u8 port[2];    /* destination port, or ICMP type in port[1]; network byte order */
	__u8 pad;
};

struct policy_verdict {
	__u32 cookie;      /* names the deciding rule; 0: default deny */
	__be16 proxy_port; /* with VERDICT_REDIRECT */
	__u8 flags;        /* enum verdict_flags */
	__u8 match;        /* upstream's policy_match_type: 1 L3, 2 L3-L4, 3 L4, 4 all, 5 L3-proto, 6 proto */
	__u8 auth_type;
	__u8 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct policy_key);
	__type(value, __u32); /* class */
	__uint(max_entries, 1048576);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_policy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct policy_class_key);
	__type(value, struct policy_verdict);
	__uint(max_entries, 262144);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_policy_class SEC(".maps");

/* cilium_policy_counters: what every rule has let through or dropped, in packets and bytes of frames. The agent makes a
 * row for every cookie and deletes it with the cookie; who finds none counts nothing. What the collector of dead
 * connections finds uncounted in them goes into a row of the agent's own: an element that all processors write cannot
 * be added to from outside. The sum of both rows is the rule's. */
enum policy_counter_writer {
	COUNTER_DATAPATH = 0,
	COUNTER_AGENT = 1,
};

struct policy_counter_key {
	__u32 cookie;
	__u32 writer; /* enum policy_counter_writer */
};

struct policy_counter {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, struct policy_counter_key);
	__type(value, struct policy_counter);
	__uint(max_entries, 131072);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} cilium_policy_counters SEC(".maps");
