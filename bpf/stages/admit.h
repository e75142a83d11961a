/* May this packet pass? Conntrack and policy in one place, the same for every hook.
 * In: a parsed flow with the rows of its local ends. Out: 0 or the reason to drop; what the event will say. */
#pragma once

#include "stages/conntrack.h"
#include "stages/identity.h"
#include "stages/policy.h"

static __always_inline bool enforced(const struct flow *flow)
{
	return flow->from.ingress_policy | flow->from.egress_policy | flow->to.ingress_policy | flow->to.egress_policy;
}

static __always_inline void opening_of(struct opening *opening, const struct flow *flow, enum ct_side side)
{
	if (side == CT_CLIENT) {
		opening->client = flow->from;
		opening->server = flow->to;
		opening->client_identity = flow->source_identity;
		opening->server_identity = flow->destination_identity;
		opening->port = flow->destination_port;
	} else {
		opening->client = flow->to;
		opening->server = flow->from;
		opening->client_identity = flow->destination_identity;
		opening->server_identity = flow->source_identity;
		opening->port = flow->source_port;
	}
	opening->protocol = flow->protocol;
	if (flow->protocol == IPPROTO_ICMP || flow->protocol == IPPROTO_ICMPV6) {
		__u8 type = flow->icmp_type;

		if (side == CT_SERVER && flow->shape & SHAPE_ECHO) /* what opened it was the request */
			type = flow->shape & SHAPE_V6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO;
		opening->port = bpf_htons(type);
	}
}

/* Asks the policies whether the connection may be opened; the flow learns who decided. */
STAGE int judge(struct flow *flow, __u32 side)
{
	struct opening opening = {};
	int reason;

	if (!flow)
		return DROP_POLICY_DENIED;
	resolve_identities(flow);
	opening_of(&opening, flow, side);
	reason = policy_verdict(&opening);
	flow->egress_cookie = opening.egress_cookie;
	flow->ingress_cookie = opening.ingress_cookie;
	flow->egress_match = opening.egress_match;
	flow->ingress_match = opening.ingress_match;
	flow->flags |= opening.decided;
	if (opening.decided & (EVENT_EGRESS_AUDITED | EVENT_INGRESS_AUDITED))
		flow->verdict = VERDICT_AUDITED;
	if (reason)
		count_rules(flow->egress_cookie, flow->ingress_cookie, 1, flow->length);
	if (reason && side == CT_SERVER)
		flow->flags |= EVENT_REPLY | EVENT_REPLY_KNOWN;
	return reason;
}

/* Policies of the node itself judge neither ICMP errors (who reports "too big" must reach it, and it must reach others) nor
 * how it refuses. */
static __always_inline void spare_node(struct local_end *end)
{
	if (end->flags & ENDPOINT_HOST)
		end->ingress_policy = end->egress_policy = 0;
}

/* The node resets what it does not know, or may not be asked (stages/deny.h). That opens nothing. */
static __always_inline bool node_refuses(const struct flow *flow)
{
	return config_host_firewall && flow->tcp_flags & TCP_RST && flow->from.flags & ENDPOINT_HOST;
}

/* A connection that is not known: judged, and remembered if it may pass, in the place of the one before it. */
static __always_inline int admit_new(struct flow *flow, const struct ct_key *key, struct ct_entry *before, __u64 now,
				     bool source_is_low)
{
	enum ct_side side = ct_guess_side(flow);
	bool refuses = node_refuses(flow);
	int reason;

	if (unlikely(refuses))
		spare_node(&flow->from);
	reason = judge(flow, side);
	if (reason || refuses)
		return reason;
	if (unlikely(ct_may_answer(flow))) {
		count_rules(flow->egress_cookie, flow->ingress_cookie, 1, flow->length);
		flow->report = sample(flow);
		return 0;
	}
	flow->trace = side == CT_CLIENT ? TRACE_NEW : TRACE_REPLY;
	flow->report = events_on();
	flow->flags |= EVENT_REPLY_KNOWN;
	if (side == CT_SERVER)
		flow->flags |= EVENT_REPLY;
	source_is_low = (side == CT_CLIENT) == source_is_low;
	return before ? ct_replace(before, flow, now, source_is_low) : ct_create(flow, key, now, source_is_low);
}

/* A connection from before the policies changed, or whose sender is another than it was: judged again in the direction
 * in which it was opened. If it is denied now, its entry stays for a while: replies that are on their way must be known
 * as such, or they would open the connection from the other side. */
static __always_inline int admit_again(struct flow *flow, struct ct_entry *entry, enum ct_side side, __u64 now)
{
	int reason = judge(flow, side);

	if (reason) {
		ct_revoke(entry, now);
		flow->silent = true; /* it may be allowed again in a moment */
		return reason;
	}
	if (entry->egress_cookie != flow->egress_cookie || entry->ingress_cookie != flow->ingress_cookie)
		ct_count_all(entry);
	entry->policy_epoch = flow->policy_epoch;
	entry->client_identity = side == CT_CLIENT ? flow->source_identity : flow->destination_identity;
	entry->server_identity = side == CT_CLIENT ? flow->destination_identity : flow->source_identity;
	entry->egress_cookie = flow->egress_cookie;
	entry->ingress_cookie = flow->ingress_cookie;
	if (flow->verdict == VERDICT_AUDITED)
		entry->flags |= CT_AUDIT;
	else
		entry->flags &= ~CT_AUDIT;
	return 0;
}

/* An ICMP error passes with the connection it is about. */
STAGE bool related(struct __sk_buff *skb, struct flow *flow, __u64 now)
{
	struct quoted inner = {};
	struct ct_entry *entry;
	struct ct_key key;
	bool low;

	if (!flow || !parse_quoted(skb, flow, &inner))
		return false;
	/* The error goes to the sender of what it quotes. */
	if (!addr_equal(&inner.source, &flow->destination))
		return false;
	low = ct_key_of(&inner, &key);
	entry = ct_lookup(&key, now);
	if (!entry || entry->policy_epoch != flow->policy_epoch)
		return false;
	flow->flags |= EVENT_REPLY_KNOWN;
	if (ct_side(entry, low) == CT_CLIENT)
		flow->flags |= EVENT_REPLY;
	flow->trace = TRACE_RELATED;
	flow->egress_cookie = entry->egress_cookie;
	flow->ingress_cookie = entry->ingress_cookie;
	flow->report = sample(flow);
	return true;
}

/* ICMP that opens nothing: an error passes with its connection, all else packet by packet, if a rule allows it. */
static __always_inline int admit_stateless(struct __sk_buff *skb, struct flow *flow, __u64 now)
{
	int reason;

	if (flow->shape & SHAPE_ICMP_ERROR && related(skb, flow, now)) {
		reason = 0;
	} else {
		if (config_host_firewall && flow->shape & SHAPE_ICMP_ERROR) {
			spare_node(&flow->from);
			spare_node(&flow->to);
		}
		reason = judge(flow, CT_CLIENT);
		if (reason)
			return reason;
		flow->report = sample(flow);
	}
	count_rules(flow->egress_cookie, flow->ingress_cookie, 1, flow->length);
	return 0;
}

static __always_inline int admit_tracked(struct __sk_buff *skb, struct flow *flow)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct ct_entry *entry, *known;
	enum ct_side side = CT_CLIENT;
	struct ct_key key;
	bool low, first;
	int reason;

	if (unlikely(flow->shape & (SHAPE_ICMP_ERROR | SHAPE_ICMP_OTHER)))
		return admit_stateless(skb, flow, now);
	low = ct_key_of(flow, &key);
	known = bpf_map_lookup_elem(&cilium_ct, &key);
	entry = ct_alive(known, now);
	if (entry)
		side = ct_side(entry, low);
	if (unlikely(!entry || ct_reopens(flow, entry, side)))
		return admit_new(flow, &key, known, now, low);
	if (unlikely(entry->policy_epoch != flow->policy_epoch || !ct_same_sender(entry, flow, side))) {
		if (!ct_same_ends(entry, flow, side))
			return admit_new(flow, &key, known, now, low);
		reason = admit_again(flow, entry, side, now);
		if (reason)
			return reason;
	}
	first = side == CT_SERVER && !(entry->flags & CT_SEEN_REPLY);
	ct_touch(entry, flow, side, now);
	ct_report(entry, flow, side, first, now);
	if (flow->report) {
		flow->trace = side == CT_SERVER ? TRACE_REPLY : TRACE_ESTABLISHED;
		flow->source_identity = side == CT_CLIENT ? entry->client_identity : entry->server_identity;
		flow->destination_identity = side == CT_CLIENT ? entry->server_identity : entry->client_identity;
	}
	return 0;
}

STAGE int admit(struct __sk_buff *skb, struct flow *flow)
{
	if (!flow)
		return DROP_INVALID_PACKET_DROPPED;
	if (unlikely((flow->from.flags | flow->to.flags) & ENDPOINT_NOT_READY))
		return DROP_EP_NOT_READY;
	if (enforced(flow))
		return admit_tracked(skb, flow);
	report_untracked(flow);
	if (flow->report)
		resolve_identities(flow);
	return 0;
}
