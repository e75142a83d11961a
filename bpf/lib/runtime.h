/* The agent's switches, and counters that never depend on events. */
#pragma once

#include "lib/common.h"
#include "lib/flow.h"
#include "maps/metrics.h"
#include "maps/runtime.h"

static __always_inline const struct runtime *runtime(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cilium_runtime, &zero);
}

/* What a verdict of this run is good for. Read first: rows read later may be newer than it, never older. */
static __always_inline __u32 policy_epoch(void)
{
	const struct runtime *settings = runtime();

	return settings ? *(volatile const __u32 *)&settings->policy_epoch : 0;
}

static __always_inline void count_frame(__u32 length, __u32 reason, __u32 direction)
{
	__u32 index = reason * 4 + direction;
	struct metric *metric = bpf_map_lookup_elem(&cilium_metrics, &index);

	if (metric) {
		metric->packets++;
		metric->bytes += length;
	}
}

static __always_inline void count(struct __sk_buff *skb, __u32 reason, __u32 direction)
{
	count_frame(skb->len, reason, direction);
}
