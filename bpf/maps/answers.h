/* Room to work in, not pinned: how many denials a processor has answered in this second (stages/deny.h). Reader and
 * writer: the datapath. */
#pragma once

#define ANSWERS_PER_SECOND 1000

struct answer_budget {
	__u64 since;
	__u32 used;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct answer_budget);
	__uint(max_entries, 1);
} cilium_answer_budget SEC(".maps");
