/* Answering what policy denies (policy-deny-response: icmp): a client learns at once what it would otherwise wait for. Who
 * is answered knows no more than before: that nobody lets it in. */
#pragma once

#include "config/node.h"
#include "maps/answers.h"
#include "stages/reject.h"

static __always_inline bool addr_is_nobody(const union addr *a)
{
	return addr_is_reserved(a) || addr_is_multicast(a) || addr_is_anybody(a);
}

/* Whether this opens something, or belongs to nothing that is known: no answer is ever answered, nor an error. */
static __always_inline bool may_be_told(const struct flow *flow)
{
	if (!answerable(flow) || flow->silent || addr_is_nobody(&flow->source) || addr_is_nobody(&flow->destination))
		return false;
	if (flow->protocol == IPPROTO_ICMP || flow->protocol == IPPROTO_ICMPV6)
		return flow->shape & SHAPE_ECHO_REQUEST;
	return !(flow->tcp_flags & TCP_RST);
}

/* Answers cost more than drops, and go to whoever the packet says it is from. */
static __always_inline bool answer_left(void)
{
	__u32 zero = 0;
	struct answer_budget *budget = bpf_map_lookup_elem(&cilium_answer_budget, &zero);
	__u64 now = bpf_ktime_get_coarse_ns();

	if (!budget)
		return false;
	if (now - budget->since >= SECOND) {
		budget->since = now;
		budget->used = 0;
	}
	return budget->used++ < ANSWERS_PER_SECOND;
}

/* The flow of the answer. */
static __always_inline void turn_flow(const struct __sk_buff *skb, struct flow *flow)
{
	union addr address = flow->source;
	struct local_end end = flow->from;
	__u32 identity = flow->source_identity;
	__be16 port = flow->source_port;
	bool v6 = flow->shape & SHAPE_V6;

	flow->source = flow->destination;
	flow->destination = address;
	flow->from = flow->to;
	flow->to = end;
	flow->source_identity = flow->destination_identity;
	flow->destination_identity = identity;
	flow->source_port = flow->destination_port;
	flow->destination_port = port;
	flow->shape = v6 ? SHAPE_V6 : 0;
	flow->tcp_flags = TCP_RST;
	flow->ttl = REJECT_TTL;
	flow->length = skb->len;
	flow->l4_offset = ETH_HLEN + (v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	flow->report = false;
	if (flow->protocol == IPPROTO_TCP)
		return;
	flow->protocol = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	flow->shape |= SHAPE_ICMP_ERROR;
	flow->tcp_flags = 0;
	flow->icmp_type = v6 ? ICMPV6_DEST_UNREACH : ICMP_DEST_UNREACH;
	flow->icmp_code = v6 ? UNREACHABLE_PROHIBITED6 : UNREACHABLE_PROHIBITED4;
	flow->source_port = flow->destination_port = 0;
}

/* After a drop for `reason`: whether the packet has become its answer, and the flow that of the answer. Where it goes is
 * the hook's to say; its MACs are those of the question. */
STAGE bool deny_answered(struct __sk_buff *skb, struct flow *flow, int reason)
{
	if (!flow || !config_deny_response || (reason != DROP_POLICY_DENIED && reason != DROP_POLICY_DENY))
		return false;
	if (!may_be_told(flow) || !answer_left())
		return false;
	if (!reject(skb, flow, UNREACHABLE_PROHIBITED4, UNREACHABLE_PROHIBITED6))
		return false;
	turn_flow(skb, flow);
	return true;
}

/* What the node sends, or whoever it forwards for, is denied: the answer goes up its stack as if from a pod, of which only the routes
 * are asked. */
static __always_inline int deny_stack(struct __sk_buff *skb, struct flow *flow, int reason)
{
	drop(skb, flow, reason);
	if (!config_deny_response || !deny_answered(skb, flow, reason) || !write_host_mac(skb))
		return TC_ACT_SHOT;
	return bpf_redirect(config_host_ifindex, BPF_F_INGRESS);
}
