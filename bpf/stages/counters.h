/* What each rule has let through or dropped. Not called per packet of a connection: its entry keeps what its rules do not
 * know yet, and tells them when it is reported (stages/conntrack.h). */
#pragma once

#include "lib/common.h"
#include "maps/policy.h"

static __always_inline void count_rule(__u32 cookie, __u32 packets, __u64 bytes)
{
	struct policy_counter_key key = { .cookie = cookie, .writer = COUNTER_DATAPATH };
	struct policy_counter *counter;

	if (!cookie)
		return;
	counter = bpf_map_lookup_elem(&cilium_policy_counters, &key);
	if (counter) {
		counter->packets += packets;
		counter->bytes += bytes;
	}
}

/* The rules that decided, one per direction; 0: none did. */
STAGE int count_rules(__u32 egress_cookie, __u32 ingress_cookie, __u32 packets, __u64 bytes)
{
	count_rule(egress_cookie, packets, bytes);
	count_rule(ingress_cookie, packets, bytes);
	return 0;
}
