/* The node itself as an endpoint: what reaches it from other nodes and from outside, and what it sends there. Between the
 * node and its own pods, and in the tunnel, the rows of its addresses in cilium_lxc say it all (stages/admit.h); here it is
 * found whatever address a packet bears. All of it is dead code without config_host_firewall. */
#pragma once

#include "config/node.h"
#include "stages/admit.h"
#include "stages/deliver.h"
#include "stages/encap.h"
#include "stages/identity.h"
#include "stages/neighbour.h"

#define DHCP_SERVER 67
#define DHCP_CLIENT 68
#define DHCP6_CLIENT 546
#define DHCP6_SERVER 547

/* The node's row, if a policy is enforced on it. Every address of the node has the same; this one it always has. */
static __always_inline const struct endpoint *guarded_node(void)
{
	const struct endpoint *node;
	union addr router;

	if (!config_host_firewall)
		return NULL;
	router = config_enable_ipv4 ? addr_constant(&config_router4) : addr_constant(&config_router6);
	node = endpoint_at(&router);
	return node && node->ingress_policy | node->egress_policy ? node : NULL;
}

/* How the node gets its addresses (RFC 2131, RFC 8415): without them there is nobody to be reached. */
static __always_inline bool is_dhcp(const struct flow *flow)
{
	__u16 source = bpf_ntohs(flow->source_port), destination = bpf_ntohs(flow->destination_port);
	__u16 client = flow->shape & SHAPE_V6 ? DHCP6_CLIENT : DHCP_CLIENT;
	__u16 server = flow->shape & SHAPE_V6 ? DHCP6_SERVER : DHCP_SERVER;

	if (flow->protocol != IPPROTO_UDP)
		return false;
	return flow->direction == DIRECTION_INGRESS ? source == server && destination == client :
						      source == client && destination == server;
}

/* What no policy of the node judges: what a link needs to work, and the datapath's own tunnel between nodes. ICMP errors
 * are admit_stateless's. */
static __always_inline bool beyond_policy(const struct flow *flow, const union addr *peer)
{
	if (is_discovery(flow) || flow->protocol == IPPROTO_IGMP || is_dhcp(flow))
		return true;
	return encapsulated(flow) && is_node(identity_of(peer));
}

/* For the node though none of its rows says so, as the packet tells: link-local addresses, multicast, broadcast. */
static __always_inline bool reaches_node(const struct __sk_buff *skb, const struct flow *flow)
{
	return addr_is_multicast(&flow->destination) || addr_is_link_local(&flow->destination) ||
	       addr_is_anybody(&flow->destination) || skb->pkt_type == PACKET_BROADCAST;
}

/* Likewise, as the routes tell: the broadcast and anycast addresses of a link, an address that has no row. Where no route
 * leads, the node answers itself. */
STAGE bool taken_by_node(struct __sk_buff *skb, const struct flow *flow)
{
	struct bpf_fib_lookup fib = {};
	long found;

	if (!flow || !guarded_node())
		return false;
	found = ask_routes(skb, flow, &fib);
	return found == BPF_FIB_LKUP_RET_NOT_FWDED || found == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* What a pod sends to everybody on its link, or to a link-local address, is heard by the node; but link-local addresses of
 * IPv4 are routed (metadata of clouds). To the pod's own policy its receiver is who it was. */
static __always_inline void heard_by_node(struct __sk_buff *skb, struct flow *flow)
{
	bool routed = addr_is_v4(&flow->destination) && addr_is_link_local(&flow->destination);
	const struct endpoint *node = guarded_node();

	if (node && ((!routed && reaches_node(skb, flow)) || taken_by_node(skb, flow)))
		flow->to = local_end(node);
}

/* 0 or the reason to drop. */
static __always_inline int admit_to_node(struct __sk_buff *skb, struct flow *flow)
{
	const struct endpoint *node = guarded_node();

	if (!node || beyond_policy(flow, &flow->source))
		return 0;
	/* Nobody outside has the address of a pod or of the node itself. */
	if (endpoint_at(&flow->source))
		return DROP_INVALID_SOURCE_IP;
	flow_to(flow, node);
	return admit(skb, flow);
}

static __always_inline int admit_from_node(struct __sk_buff *skb, struct flow *flow, const struct endpoint *node)
{
	if (beyond_policy(flow, &flow->destination))
		return 0;
	flow_from(flow, node);
	return admit(skb, flow);
}

/* Whether a packet that cannot be read may go on: as long as nothing in its direction is closed. */
static __always_inline bool may_be_unreadable(const struct flow *flow)
{
	const struct endpoint *node = guarded_node();

	return !node || !(flow->direction == DIRECTION_INGRESS ? node->ingress_policy : node->egress_policy);
}
