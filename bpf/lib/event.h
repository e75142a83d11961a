/* Writing events: whether a packet is worth one, and the record. Nobody is woken; what does not fit is counted. */
#pragma once

#include "lib/common.h"
#include "lib/drop.h"
#include "lib/flow.h"
#include "lib/runtime.h"
#include "maps/sampler.h"

#define TCP_STATE_FLAGS (TCP_SYN | TCP_FIN | TCP_RST)

static __always_inline bool events_on(void)
{
	const struct runtime *now = runtime();

	return now && !(now->flags & RUNTIME_EVENTS_OFF);
}

/* The same record from every hook. `frame` to `end` is what of the frame can be read directly. */
static __always_inline int event_put(const struct flow *flow, __u32 type, __u32 reason, __u32 ifindex, __u32 length,
				     const void *frame, const void *end)
{
	const struct ethhdr *eth = frame;
	struct event *event;

	event = bpf_ringbuf_reserve(&cilium_events, sizeof(*event), 0);
	if (!event) {
		__u64 *lost = bpf_map_lookup_elem(&cilium_events_lost, &type);

		if (lost)
			*lost += 1;
		return 0;
	}
	event->time = bpf_ktime_get_ns();
	event->type = type;
	event->point = flow->point;
	event->reason = reason;
	event->direction = flow->direction;
	event->verdict = flow->verdict;
	event->protocol = flow->protocol;
	event->tcp_flags = flow->tcp_flags;
	event->flags = flow->flags;
	event->source = flow->source;
	event->destination = flow->destination;
	event->source_port = flow->source_port;
	event->destination_port = flow->destination_port;
	if (flow->protocol == IPPROTO_ICMP || flow->protocol == IPPROTO_ICMPV6) {
		event->source_port = bpf_htons(flow->icmp_type);
		event->destination_port = bpf_htons(flow->icmp_code);
	}
	event->ifindex = ifindex;
	event->source_identity = flow->source_identity;
	event->destination_identity = flow->destination_identity;
	event->source_endpoint = flow->from.id;
	event->destination_endpoint = flow->to.id;
	event->length = length;
	event->egress_cookie = flow->egress_cookie;
	event->ingress_cookie = flow->ingress_cookie;
	event->translated = flow->translated;
	event->translated_port = flow->translated_port;
	event->egress_match = flow->egress_match;
	event->ingress_match = flow->ingress_match;
	event->ext_error = flow->ext_error;
	__builtin_memset(event->pad, 0, sizeof(event->pad));
	event->packets = flow->packets ?: 1;
	event->tunnel_vni = flow->tunnel_vni;
	event->pad2 = 0;
	if ((const void *)(eth + 1) <= end) {
		__builtin_memcpy(event->source_mac, eth->h_source, ETH_ALEN);
		__builtin_memcpy(event->destination_mac, eth->h_dest, ETH_ALEN);
	} else {
		__builtin_memset(event->source_mac, 0, 2 * ETH_ALEN);
	}
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

STAGE int event_write(struct __sk_buff *skb, const struct flow *flow, __u32 type, __u32 reason)
{
	if (!flow)
		return 0;
	return event_put(flow, type, reason, skb->ifindex, skb->len, (void *)(long)skb->data, (void *)(long)skb->data_end);
}

/* A dropped packet: counted, and always told. */
static __always_inline int drop(struct __sk_buff *skb, struct flow *flow, int reason)
{
	count(skb, reason, flow->direction);
	if (events_on()) {
		flow->verdict = VERDICT_DROPPED;
		flow->packets = 1;
		event_write(skb, flow, EVENT_DROP, reason);
	}
	return TC_ACT_SHOT;
}

/* Chatter that nobody forwards is counted but not told. */
static __always_inline int consume(struct __sk_buff *skb, const struct flow *flow, int reason)
{
	count(skb, reason, flow->direction);
	return TC_ACT_SHOT;
}

static __always_inline void trace(struct __sk_buff *skb, struct flow *flow, enum observation_point point)
{
	if (!flow->report)
		return;
	flow->point = point;
	if (!flow->verdict)
		flow->verdict = VERDICT_FORWARDED;
	event_write(skb, flow, EVENT_TRACE, flow->trace);
}

static __always_inline __u32 flow_hash(const struct flow *flow)
{
	__u64 hash = flow->source.halves[0] ^ (flow->source.halves[1] * 0x9e3779b97f4a7c15ULL);

	hash = (hash ^ (hash >> 29)) + flow->destination.halves[1];
	hash = (hash ^ flow->destination.halves[0]) * 0xbf58476d1ce4e5b9ULL;
	hash ^= hash >> 32;
	hash += ((__u64)flow->source_port << 24) | ((__u64)flow->destination_port << 40) | flow->protocol;
	hash *= 0x94d049bb133111ebULL;
	return hash >> 32;
}

/* Whether an untracked flow is due: TCP's changes of state always, everything else once per aggregation interval. */
STAGE bool sample(const struct flow *flow)
{
	const struct runtime *settings = runtime();
	__u32 hash, index, time, interval, way;
	struct sampler_set *set;

	if (!flow || !settings || settings->flags & RUNTIME_EVENTS_OFF)
		return false;
	hash = flow_hash(flow) + flow->icmp_type * 0x9e3779b1U; /* of two who ping each other by one identifier */
	index = hash % SAMPLER_SETS;
	set = bpf_map_lookup_elem(&cilium_sampler, &index);
	if (!set)
		return true;
	time = bpf_ktime_get_coarse_ns() >> 20;
	interval = settings->aggregation >> 20;
	if (set->tag[0] == hash)
		way = 0;
	else if (set->tag[1] == hash)
		way = 1;
	else
		way = set->time[0] - set->time[1] < 1u << 31; /* the older one */
	if (way == 0) {
		if (set->tag[0] == hash && time - set->time[0] < interval && !(flow->tcp_flags & TCP_STATE_FLAGS))
			return false;
		set->tag[0] = hash;
		set->time[0] = time;
	} else {
		if (set->tag[1] == hash && time - set->time[1] < interval && !(flow->tcp_flags & TCP_STATE_FLAGS))
			return false;
		set->tag[1] = hash;
		set->time[1] = time;
	}
	return true;
}

/* Without conntrack, only the packet itself can tell who opened the connection. */
static __always_inline void report_untracked(struct flow *flow)
{
	flow->report = sample(flow);
	if (!flow->report)
		return;
	if ((flow->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN || flow->shape & SHAPE_ECHO_REQUEST) {
		flow->trace = TRACE_NEW;
		flow->flags |= EVENT_REPLY_KNOWN;
	} else if (flow->tcp_flags & TCP_SYN || flow->shape & SHAPE_ECHO) {
		flow->trace = TRACE_REPLY;
		flow->flags |= EVENT_REPLY | EVENT_REPLY_KNOWN;
	} else if (flow->shape & SHAPE_ICMP_ERROR) {
		flow->trace = TRACE_RELATED;
	}
}
