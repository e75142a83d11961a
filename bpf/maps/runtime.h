/* cilium_runtime: what the agent changes while programs run. One entry; array lookups are inlined by the JIT. */
#pragma once

enum runtime_flags {
	RUNTIME_EVENTS_OFF = 1 << 0,
	RUNTIME_HIDE_RECEIVED = 1 << 1, /* what a socket receives from a backend is not told, whatever the interval */
};

struct runtime {
	__u32 policy_epoch; /* raised after every change of policies, identities or endpoints: connections are judged anew */
	__u32 flags;        /* enum runtime_flags */
	__u64 aggregation;  /* ns between two events of one direction of one connection; 0: every packet is told */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct runtime);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_runtime SEC(".maps");
