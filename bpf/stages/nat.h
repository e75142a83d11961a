/* Translated connections: a mapping is a pair of entries in cilium_snat, one per direction. The reverse one is the claim
 * on what the server sees of the client: it is inserted only if absent, so that no two flows ever share it (RFC 4787
 * endpoint-dependent mapping; RFC 5508 for ICMP). What is translated, and into what, say masquerade.h and balance.h. */
#pragma once

#include "lib/common.h"
#include "lib/event.h"
#include "lib/parse.h"
#include "config/node.h"
#include "maps/nat.h"
#include "stages/identity.h"
#include "stages/rewrite.h"

#define NAT_ATTEMPTS 64
#define NAT_REST (SECOND / 8) /* after which a closed connection gives its port away, if others look for one in vain */

enum { NAT_NOT_OURS = -1 };

static __always_inline void nat_key_of(struct nat_key *key, const struct flow *flow, enum nat_direction direction)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->source = flow->source;
	key->destination = flow->destination;
	key->source_port = flow->source_port;
	key->destination_port = flow->destination_port;
	key->protocol = flow->protocol;
	key->direction = direction;
}

/* The reply to a packet that was translated into `entry`. */
static __always_inline void nat_key_of_reply(struct nat_key *key, const struct nat_entry *entry, __u8 protocol,
					     enum nat_direction direction)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->source = entry->destination;
	key->destination = entry->source;
	key->source_port = entry->destination_port;
	key->destination_port = entry->source_port;
	key->protocol = protocol;
	key->direction = direction;
}

/* What the reply gets: both ends as the packet with this key had them. */
static __always_inline void nat_entry_of_reply(struct nat_entry *entry, const struct nat_key *key,
					       const struct nat_entry *forward)
{
	__builtin_memset(entry, 0, sizeof(*entry));
	entry->source = key->destination;
	entry->destination = key->source;
	entry->source_port = key->destination_port;
	entry->destination_port = key->source_port;
	entry->backend = forward->backend;
	entry->service = forward->service;
	entry->created = forward->created;
	entry->used = forward->used;
	entry->flags = forward->flags;
}

/* What a packet says of its mapping's life; `fin` is the FIN of its direction. A SYN on its way out opens anew. */
static __always_inline __u8 nat_flags(__u8 flags, const struct flow *flow, __u8 fin)
{
	if (likely(flow->protocol != IPPROTO_TCP || !(flow->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))))
		return flags;
	if (fin == NAT_FIN_OUT && (flow->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return flags & NAT_DSR;
	if (flow->tcp_flags & TCP_FIN)
		flags |= fin;
	if (flow->tcp_flags & TCP_RST || (flags & (NAT_FIN_OUT | NAT_FIN_IN)) == (NAT_FIN_OUT | NAT_FIN_IN))
		flags |= NAT_CLOSED;
	return flags;
}

static __always_inline bool nat_dead(__u8 flags, __u8 protocol, __u64 used, __u64 now)
{
	__u64 lifetime = config_ct_any;

	if (protocol == IPPROTO_TCP) {
		lifetime = flags & NAT_REPLIED ? config_ct_tcp_established : config_ct_tcp_syn;
		if (flags & NAT_CLOSED)
			lifetime = config_ct_tcp_closing;
	}
	return (__s64)(now - used) > (__s64)lifetime;
}

/* Takes the place of a mapping that is dead, or of an earlier one of the same client: true for one taker only, whose
 * claim is the change of `used`. The key is turned into that of the other half. */
STAGE bool nat_reclaim(struct nat_key *key, const struct nat_entry *back, __u32 hurry)
{
	struct nat_entry *entry;
	__be16 taken;
	__u64 used;

	if (!key || !back)
		return false;
	entry = bpf_map_lookup_elem(&cilium_snat, key);
	if (!entry)
		return false;
	if (addr_equal(&entry->destination, &back->destination) && entry->destination_port == back->destination_port &&
	    addr_equal(&entry->source, &back->source) && entry->source_port == back->source_port)
		return true;
	used = entry->used;
	hurry = hurry && entry->flags & NAT_CLOSED && (__s64)(back->used - used) > (__s64)NAT_REST;
	if (!(hurry || nat_dead(entry->flags, key->protocol, used, back->used)) ||
	    __sync_val_compare_and_swap(&entry->used, used, back->used) != used)
		return false;
	taken = key->destination_port;
	nat_key_of_reply(key, entry, key->protocol, NAT_FORWARD);
	entry = bpf_map_lookup_elem(&cilium_snat, key);
	if (entry && entry->source_port == taken)
		bpf_map_delete_elem(&cilium_snat, key);
	return true;
}

/* Range of source ports: of the node's addresses those that no socket takes; of somebody else's, all; SCTP's stay. */
static __always_inline void nat_ports(const struct nat_key *forward, bool own, __u32 *min, __u32 *count)
{
	if (forward->protocol == IPPROTO_SCTP) {
		*min = bpf_ntohs(forward->source_port);
		*count = 1;
		return;
	}
	*min = own ? config_nat_port_min : 1;
	*count = (own ? config_nat_port_max : 65535) - *min + 1;
}

static __always_inline struct nat_work *nat_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cilium_nat_work, &zero);
}

/* Claims a free source port for the mapping of `work` and writes both entries; the port stays what it is if it can. In:
 * forward, mapping (its source port: which one the client had before, or 0). `own`: the source is an address of the node. 0 or
 * DROP_NO_MAPPING_FOR_NAT_MASQUERADE. */
STAGE int nat_claim(struct nat_work *work, __u32 own)
{
	__u32 min, count, at;
	bool echo;

	if (!work)
		return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
	echo = work->forward.protocol == IPPROTO_ICMP || work->forward.protocol == IPPROTO_ICMPV6;
	nat_ports(&work->forward, own, &min, &count);
	work->mapping.created = work->mapping.used = bpf_ktime_get_coarse_ns();
	work->mapping.flags = 0;
	nat_entry_of_reply(&work->back, &work->forward, &work->mapping);
	at = bpf_ntohs(work->mapping.source_port ?: work->forward.source_port) - min;
	if (at >= count)
		at = bpf_get_prandom_u32() % (count ?: 1);
	for (__u32 i = 0; i < NAT_ATTEMPTS; i++) {
		work->mapping.source_port = bpf_htons(min + at);
		if (echo)
			work->mapping.destination_port = work->mapping.source_port;
		/* The next one is anywhere: neighbours of a taken port tend to be taken too. Small ranges are tried in full. */
		at = count > NAT_ATTEMPTS ? bpf_get_prandom_u32() % count : (at + 1) % (count ?: 1);
		nat_key_of_reply(&work->reverse, &work->mapping, work->forward.protocol, NAT_REVERSE);
		if (bpf_map_update_elem(&cilium_snat, &work->reverse, &work->back, BPF_NOEXIST)) {
			if (!nat_reclaim(&work->reverse, &work->back, i >= NAT_ATTEMPTS / 2))
				continue;
			nat_key_of_reply(&work->reverse, &work->mapping, work->forward.protocol, NAT_REVERSE);
			if (bpf_map_update_elem(&cilium_snat, &work->reverse, &work->back, BPF_ANY))
				continue;
		}
		if (!bpf_map_update_elem(&cilium_snat, &work->forward, &work->mapping, BPF_ANY))
			return 0;
		bpf_map_delete_elem(&cilium_snat, &work->reverse);
		break;
	}
	return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
}

/* Once a second, and when its life changes: the mapping is in use in both its halves, and the reverse one must not have
 * been evicted meanwhile. false: somebody else has the port by now. */
STAGE bool nat_refresh(struct nat_work *work, __u64 now)
{
	const struct nat_key *forward = &work->forward;
	struct nat_entry *mapping = &work->mapping, *other;

	if (!work)
		return false;
	nat_key_of_reply(&work->reverse, mapping, forward->protocol, NAT_REVERSE);
	other = bpf_map_lookup_elem(&cilium_snat, &work->reverse);
	if (other) {
		if (!addr_equal(&other->destination, &forward->source) ||
		    other->destination_port != forward->source_port ||
		    !addr_equal(&other->source, &forward->destination))
			return false;
		other->used = now;
		other->flags = mapping->flags ? other->flags | mapping->flags : 0;
		return true;
	}
	nat_entry_of_reply(&work->back, forward, mapping);
	work->back.used = now;
	return !bpf_map_update_elem(&cilium_snat, &work->reverse, &work->back, BPF_NOEXIST);
}

/* Takes up the flow's mapping, whose entry is at hand; false: its port is somebody else's by now. */
static __always_inline bool nat_continue(struct nat_work *work, const struct flow *flow, struct nat_entry *entry)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u8 flags = nat_flags(entry->flags, flow, NAT_FIN_OUT);

	if (flags & NAT_DSR && flow->tcp_flags & TCP_ACK) /* that there was a reply, only the client tells */
		flags |= NAT_REPLIED;
	work->mapping = *entry;
	if (likely(flags == entry->flags && now - entry->used < SECOND))
		return true;
	entry->used = now;
	entry->flags = work->mapping.flags = flags;
	return flags & NAT_DSR || nat_refresh(work, now);
}

/* The other half of `mapping`, found as reverse entry, is in use too, even if the client only listens. */
static __always_inline void nat_touch_forward(struct nat_work *work, __u64 now, __u8 flags)
{
	struct nat_entry *entry;

	nat_key_of_reply(&work->forward, &work->mapping, work->reverse.protocol, NAT_FORWARD);
	entry = bpf_map_lookup_elem(&cilium_snat, &work->forward);
	if (entry) {
		entry->used = now;
		entry->flags |= flags;
	}
}

/* Both ends of the packet itself, as far as they change. */
STAGE int nat_rewrite(struct __sk_buff *skb, struct flow *flow, const struct nat_entry *to)
{
	int reason = 0;

	if (!flow || !to)
		return DROP_ERROR_WRITING_TO_PACKET;
	if (!addr_equal(&flow->source, &to->source) || flow->source_port != to->source_port)
		reason = rewrite(skb, flow, REWRITE_SOURCE, &to->source, to->source_port);
	if (!reason && (!addr_equal(&flow->destination, &to->destination) ||
			flow->destination_port != to->destination_port))
		reason = rewrite(skb, flow, REWRITE_DESTINATION, &to->destination, to->destination_port);
	return reason;
}

static __always_inline void nat_turn(struct nat_entry *to, const struct nat_entry *from)
{
	to->source = from->destination;
	to->destination = from->source;
	to->source_port = from->destination_port;
	to->destination_port = from->source_port;
}

/* Routers and nodes report on what others sent; a pod only on what was sent to itself: translated, its word would be that
 * of the end it speaks for. `by_end`: it is the end. */
static __always_inline bool may_report(const struct flow *flow, bool by_end)
{
	return by_end || !(flow->from.id || is_workload(flow->source_identity));
}

/* An ICMP error about a packet that was translated in the other direction than `direction`, in which the error itself
 * goes. Whoever reports it, a router or the end itself, the receiver learns of the packet that it sent.
 * 0, NAT_NOT_OURS (also of what quotes too little to tell), or the reason to drop. */
STAGE int nat_error(struct __sk_buff *skb, struct flow *flow, __u32 direction)
{
	struct nat_work *work = nat_work();
	struct quoted inner = {};
	struct nat_entry *entry;
	bool by_end;
	int reason;

	if (!flow || !work || !parse_quoted(skb, flow, &inner))
		return NAT_NOT_OURS;
	__builtin_memset(&work->reverse, 0, sizeof(work->reverse));
	work->reverse.source = inner.destination;
	work->reverse.destination = inner.source;
	work->reverse.source_port = inner.destination_port;
	work->reverse.destination_port = inner.source_port;
	work->reverse.protocol = inner.protocol;
	work->reverse.direction = direction;
	entry = bpf_map_lookup_elem(&cilium_snat, &work->reverse);
	by_end = addr_equal(&flow->source, &inner.destination);
	if (!entry || !addr_equal(&inner.source, &flow->destination) || !may_report(flow, by_end))
		return NAT_NOT_OURS;
	/* As the receiver sent it: what it gets in reply, the other way round. */
	nat_turn(&work->back, entry);
	reason = rewrite_quoted(skb, flow, &inner, REWRITE_SOURCE, &work->back);
	if (!reason)
		reason = rewrite_quoted(skb, flow, &inner, REWRITE_DESTINATION, &work->back);
	if (!reason)
		reason = rewrite(skb, flow, REWRITE_DESTINATION, &work->back.source, 0);
	/* A router on the server's side keeps its address, unless it must not be seen where the packet goes. */
	if (!reason && (by_end || direction == NAT_FORWARD) && !addr_equal(&flow->source, &work->back.destination))
		reason = rewrite(skb, flow, REWRITE_SOURCE, &work->back.destination, 0);
	return reason;
}

/* Whether the mapping of a service has ended and its ports are in use anew: what answers a SYN is for who asked the backend
 * itself, from the same port. A SYN on its way to the service makes the mapping live again before it is answered.
 * Masquerading has ports of its own. */
static __always_inline bool nat_succeeded(const struct nat_entry *entry, const struct flow *flow)
{
	return entry->service && flow->protocol == IPPROTO_TCP && flow->tcp_flags & TCP_SYN &&
	       entry->flags & NAT_CLOSED;
}

/* The mapping of a reply, which is in use by that: work->mapping is what it gets. The packet is not touched. 0, or
 * NAT_NOT_OURS. */
static __always_inline int nat_find_back(struct nat_work *work, const struct flow *flow)
{
	struct nat_entry *entry;
	__u64 now;
	__u8 flags;

	nat_key_of(&work->reverse, flow, NAT_REVERSE);
	entry = bpf_map_lookup_elem(&cilium_snat, &work->reverse);
	if (!entry)
		return NAT_NOT_OURS;
	now = bpf_ktime_get_coarse_ns();
	if (unlikely(nat_succeeded(entry, flow))) {
		/* Nor is what follows: it would have no SYN. */
		bpf_map_delete_elem(&cilium_snat, &work->reverse);
		return NAT_NOT_OURS;
	}
	if (unlikely(entry->service && nat_dead(entry->flags, flow->protocol, entry->used, now)))
		return NAT_NOT_OURS;
	work->mapping = *entry;
	flags = nat_flags(entry->flags | NAT_REPLIED, flow, NAT_FIN_IN);
	if (unlikely(flags != entry->flags || now - entry->used > SECOND)) {
		entry->used = now;
		entry->flags = flags;
		nat_touch_forward(work, now, flags);
	}
	return 0;
}

/* A reply, or an error about a request, back to who opened the connection. 0 translated, NAT_NOT_OURS, or the reason to
 * drop. */
STAGE int nat_back(struct __sk_buff *skb, struct flow *flow)
{
	struct nat_work *work = nat_work();

	if (!flow || !work || !can_rewrite(flow))
		return NAT_NOT_OURS;
	if (flow->shape & SHAPE_ICMP_ERROR)
		return nat_error(skb, flow, NAT_REVERSE);
	return nat_find_back(work, flow) ?: nat_rewrite(skb, flow, &work->mapping);
}

/* Whether a packet to an address of the node may belong to a connection that left with it. */
static __always_inline bool may_be_back(const struct flow *flow)
{
	__u16 port = bpf_ntohs(flow->destination_port);

	return flow->shape & SHAPE_ICMP_ERROR || flow->protocol == IPPROTO_SCTP ||
	       (port >= config_nat_port_min && port <= config_nat_port_max);
}
