/* The endpoints that this processor dealt with last. */
#pragma once

#include "stages/identity.h"
#include "maps/near.h"

/* Addresses that differ in their last byte only never take each other's place. */
static __always_inline __u8 near_index(const union addr *address)
{
	return ((address->halves[0] ^ address->halves[1]) * 0x9e3779b97f4a7c15ULL) >> 56;
}

static __noinline int near_read(struct near_row *row, const union addr *address, __u32 policy_epoch)
{
	const struct endpoint *endpoint = endpoint_at(address);

	row->address = *address;
	row->policy_epoch = policy_epoch;
	row->known = !!endpoint;
	if (endpoint)
		row->endpoint = *endpoint;
	return 0;
}

/* As endpoint_at. Valid until the next call for the same end. */
static __always_inline const struct endpoint *endpoint_near(enum near_end end, const union addr *address,
							    __u32 policy_epoch)
{
	__u32 key = end;
	struct near_rows *near = bpf_map_lookup_elem(&cilium_near, &key);
	struct near_row *row;

	if (unlikely(!near || !policy_epoch))
		return endpoint_at(address);
	row = &near->rows[near_index(address)];
	if (unlikely(row->policy_epoch != policy_epoch || !addr_equal(&row->address, address)))
		near_read(row, address, policy_epoch);
	return row->known ? &row->endpoint : NULL;
}
