/* cilium_sampler: when a flow without conntrack was last reported, so that it is visible at the aggregation interval
 * and not with every packet. Two ways per set; a flow that loses its place is reported early, never lost.
 * Writer and reader: the datapath. */
#pragma once

#define SAMPLER_SETS 4096

struct sampler_set {
	__u32 tag[2];
	__u32 time[2]; /* units of 2^20 ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct sampler_set);
	__uint(max_entries, SAMPLER_SETS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cilium_sampler SEC(".maps");
