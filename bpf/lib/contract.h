/* Makes the compiler write the contract's enums into BTF, from which the control plane reads them. */
#pragma once

#include "lib/drop.h"
#include "lib/flow.h"
#include "config/node.h"
#include "maps/conntrack.h"
#include "maps/ipcache.h"
#include "maps/nat.h"
#include "maps/netdevs.h"
#include "maps/policy.h"
#include "maps/runtime.h"

const volatile struct {
	enum drop_reason drop_reason;
	enum identity identity;
	enum identity_scope identity_scope;
	enum event_type event_type;
	enum flow_direction flow_direction;
	enum flow_verdict flow_verdict;
	enum observation_point observation_point;
	enum trace_reason trace_reason;
	enum event_flags event_flags;
	enum endpoint_flags endpoint_flags;
	enum ct_flags ct_flags;
	enum ipcache_flags ipcache_flags;
	enum verdict_flags verdict_flags;
	enum runtime_flags runtime_flags;
	enum nat_direction nat_direction;
	enum routing_mode routing_mode;
	enum tunnel_protocol tunnel_protocol;
} contract;
