/* cilium_metrics: packets and bytes per reason and direction, exact whatever happens to events.
 * Index: reason * 4 + direction (enum flow_direction). Reader: the agent's Prometheus metrics. */
#pragma once

struct metric {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct metric);
	__uint(max_entries, 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_metrics SEC(".maps");
