/* The last step: into a pod of this node, through the tunnel, by the node's routes, or up to the stack. */
#pragma once

#include "lib/common.h"
#include "lib/drop.h"
#include "lib/event.h"
#include "lib/flow.h"
#include "config/node.h"

#define FIB_SKIP_NEIGH (1U << 2) /* BPF_FIB_LOOKUP_SKIP_NEIGH, since Linux 6.3 */

static __always_inline bool write_macs(struct __sk_buff *skb, const __u8 *destination, const __u8 *source)
{
	struct ethhdr *eth = header_at(skb, 0, sizeof(*eth));

	if (!eth)
		return false;
	__builtin_memcpy(eth->h_dest, destination, ETH_ALEN);
	__builtin_memcpy(eth->h_source, source, ETH_ALEN);
	return true;
}

/* One hop less; the caller made sure that one is left. */
static __always_inline bool decrement_ttl(struct __sk_buff *skb, const struct flow *flow)
{
	if (flow->shape & SHAPE_V6) {
		struct ipv6hdr *ip = header_at(skb, ETH_HLEN, sizeof(*ip));

		if (!ip)
			return false;
		ip->hop_limit--;
	} else {
		struct iphdr *ip = header_at(skb, ETH_HLEN, sizeof(*ip));

		if (!ip)
			return false;
		ip->check = one_hop_less(ip->check);
		ip->ttl--;
	}
	return true;
}

/* Into a pod's namespace in the same run; only from ingress hooks. A packet without hops left is shown to the stack,
 * which answers that and forwards nothing. */
static __always_inline int deliver_to_pod(struct __sk_buff *skb, struct flow *flow, const struct endpoint *pod)
{
	if (unlikely(flow->ttl <= 1)) {
		trace(skb, flow, TO_STACK);
		return TC_ACT_OK;
	}
	trace(skb, flow, TO_ENDPOINT);
	count(skb, DROP_NONE, DIRECTION_INGRESS);
	if (!decrement_ttl(skb, flow) || !write_macs(skb, pod->mac, pod->node_mac))
		return drop(skb, flow, DROP_ERROR_WRITING_TO_PACKET);
	return bpf_redirect_peer(pod->ifindex, 0);
}

static __always_inline int deliver_to_stack(struct __sk_buff *skb, struct flow *flow)
{
	trace(skb, flow, TO_STACK);
	return TC_ACT_OK;
}

/* What the node's routes say (BPF_FIB_LKUP_RET_*); where it goes next is left in `fib`. */
static __always_inline long ask_routes(struct __sk_buff *skb, const struct flow *flow, struct bpf_fib_lookup *fib)
{
	fib->ifindex = skb->ifindex;
	if (!skb->gso_size)
		fib->tot_len = skb->len - ETH_HLEN;
	if (flow->shape & SHAPE_V6) {
		fib->family = AF_INET6;
		__builtin_memcpy(fib->ipv6_src, &flow->source, 16);
		__builtin_memcpy(fib->ipv6_dst, &flow->destination, 16);
	} else {
		fib->family = AF_INET;
		fib->ipv4_src = flow->source.words[3];
		fib->ipv4_dst = flow->destination.words[3];
	}
	return bpf_fib_lookup(skb, fib, sizeof(*fib), FIB_SKIP_NEIGH);
}

/* The node's routes, asked here rather than by the stack. Whatever needs an answer (too big, unreachable, no
 * forwarding) is left to the stack, which gives it. */
STAGE int deliver_by_route(struct __sk_buff *skb, struct flow *flow)
{
	struct bpf_fib_lookup fib = {};
	struct bpf_redir_neigh next = {};

	if (!flow)
		return TC_ACT_SHOT;
	if (unlikely(flow->ttl <= 1))
		return deliver_to_stack(skb, flow);
	if (ask_routes(skb, flow, &fib) != BPF_FIB_LKUP_RET_SUCCESS ||
	    fib.ifindex == config_host_ifindex || (fib.ifindex == skb->ifindex && flow->point != FROM_NETWORK))
		return deliver_to_stack(skb, flow);
	next.nh_family = fib.family;
	if (fib.family == AF_INET6)
		__builtin_memcpy(next.ipv6_nh, fib.ipv6_dst, 16);
	else
		next.ipv4_nh = fib.ipv4_dst;
	trace(skb, flow, TO_NETWORK);
	if (!decrement_ttl(skb, flow))
		return drop(skb, flow, DROP_ERROR_WRITING_TO_PACKET);
	return bpf_redirect_neigh(fib.ifindex, &next, sizeof(next), 0);
}
