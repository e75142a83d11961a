/* cilium_near: what each processor last read of cilium_lxc, or that nobody of this node is at an address. A row is found
 * here without a call and without hashing as the kernel does, within one line of the cache: some 20 ns less for the two
 * lookups that every packet needs. Good for one policy_epoch, which is raised after every change of cilium_lxc.
 * Writer and reader: the datapath. Programs do not interrupt each other on a processor (maps/nat.h). */
#pragma once

#include "maps/endpoints.h"

#define NEAR_ROWS 256

/* A run holds one row of each while it reads the other. */
enum near_end { NEAR_SENDER = 0, NEAR_RECEIVER = 1, NEAR_ENDS };

struct near_row {
	union addr address;
	struct endpoint endpoint;
	__u32 policy_epoch; /* read before the endpoint; 0: nothing is here */
	__u32 known;        /* 0: no endpoint of this node */
	__u64 pad;
};

struct near_rows {
	struct near_row rows[NEAR_ROWS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32); /* enum near_end */
	__type(value, struct near_rows);
	__uint(max_entries, NEAR_ENDS);
} cilium_near SEC(".maps");
