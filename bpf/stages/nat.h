/* Masquerading: what pods send to the world leaves with an address of the node, and its replies find back (RFC 4787
 * endpoint-dependent mapping; RFC 5508 for ICMP). A mapping is a pair of entries, one per direction; the reverse one is
 * the claim on the port: it is inserted only if absent, so that no two flows ever share it. */
#pragma once

#include "lib/common.h"
#include "lib/event.h"
#include "lib/parse.h"
#include "config/node.h"
#include "maps/nat.h"
#include "maps/netdevs.h"
#include "stages/identity.h"
#include "stages/rewrite.h"

#define NAT_ATTEMPTS 64

/* Pods and what has a cluster identity are reached with the pod's own address; remote nodes only where routes lead back
 * to pods. */
static __always_inline bool masquerades(const struct flow *flow)
{
	bool v6 = flow->shape & SHAPE_V6;
	const struct ipcache_entry *peer;
	union addr native;
	__u32 bits;

	if (addr_is_multicast(&flow->destination))
		return false;
	native = v6 ? addr_constant(&config_native6) : addr_constant(&config_native4);
	bits = v6 ? config_native6_bits : config_native4_bits;
	if (bits && addr_in_prefix(&flow->destination, &native, bits))
		return false;
	peer = ipcache_at(&flow->destination);
	if (!peer)
		return true;
	switch (peer->identity) {
	case IDENTITY_UNKNOWN:
	case IDENTITY_WORLD:
	case IDENTITY_WORLD_IPV4:
	case IDENTITY_WORLD_IPV6:
	case IDENTITY_KUBE_APISERVER: /* a node or outside of the cluster: both answer a node */
		return true;
	case IDENTITY_REMOTE_NODE:
		return config_routing_mode == ROUTING_TUNNEL;
	}
	if ((peer->identity & SCOPE_MASK) == SCOPE_REMOTE_NODE)
		return config_routing_mode == ROUTING_TUNNEL;
	return (peer->identity & SCOPE_MASK) == SCOPE_CIDR;
}

static __always_inline void nat_egress_key(struct nat_key *key, const struct flow *flow)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->source = flow->source;
	key->destination = flow->destination;
	key->source_port = flow->source_port;
	key->destination_port = flow->destination_port;
	key->protocol = flow->protocol;
	key->direction = NAT_EGRESS;
}

/* The reply to `egress` as the world sends it, if the source was translated to address and port. */
static __always_inline void nat_reverse_key(struct nat_key *key, const struct nat_key *egress,
					    const union addr *address, __be16 port)
{
	bool echo = egress->protocol == IPPROTO_ICMP || egress->protocol == IPPROTO_ICMPV6;

	__builtin_memset(key, 0, sizeof(*key));
	key->source = egress->destination;
	key->destination = *address;
	key->source_port = echo ? port : egress->destination_port;
	key->destination_port = port;
	key->protocol = egress->protocol;
	key->direction = NAT_INGRESS;
}

/* What a packet says of its mapping's life; `fin` is the FIN of its direction. A SYN on its way out opens anew. */
static __always_inline __u8 nat_flags(__u8 flags, const struct flow *flow, __u8 fin)
{
	if (likely(flow->protocol != IPPROTO_TCP || !(flow->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))))
		return flags;
	if (fin == NAT_FIN_OUT && (flow->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return 0;
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

/* Takes the port of a mapping that is dead; true for one taker only, whose claim is the change of `used`. The key is
 * turned into that of the other half: there is no room for two on the stack. */
STAGE bool nat_reclaim(struct nat_key *key, __u64 now)
{
	struct nat_entry *entry;
	union addr address;
	__be16 port, taken;
	__u64 used;

	if (!key)
		return false;
	entry = bpf_map_lookup_elem(&cilium_snat, key);
	if (!entry)
		return false;
	used = entry->used;
	if (!nat_dead(entry->flags, key->protocol, used, now) ||
	    __sync_val_compare_and_swap(&entry->used, used, now) != used)
		return false;
	address = key->source;
	port = key->source_port;
	taken = key->destination_port;
	if (key->protocol == IPPROTO_ICMP || key->protocol == IPPROTO_ICMPV6)
		port = entry->port;
	key->source = entry->address;
	key->source_port = entry->port;
	key->destination = address;
	key->destination_port = port;
	key->direction = NAT_EGRESS;
	entry = bpf_map_lookup_elem(&cilium_snat, key);
	if (entry && entry->port == taken)
		bpf_map_delete_elem(&cilium_snat, key);
	return true;
}

/* Claims a free port for the flow and writes both entries. 0 or DROP_NO_MAPPING_FOR_NAT_MASQUERADE. */
STAGE int nat_allocate(const struct nat_key *egress, const union addr *address, struct nat_entry *mapping)
{
	__u32 range = (__u32)config_nat_port_max - config_nat_port_min + 1, start;
	struct nat_entry back = {};
	struct nat_key reverse;

	if (!egress || !address || !mapping)
		return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
	back.address = egress->source;
	back.port = egress->source_port;
	back.created = back.used = bpf_ktime_get_coarse_ns();
	start = bpf_ntohs(egress->source_port) - (__u32)config_nat_port_min; /* keep the port if it is in range and free */
	if (start >= range)
		start = bpf_get_prandom_u32() % (range ?: 1);
	for (__u32 i = 0; i < NAT_ATTEMPTS; i++) {
		__be16 port = bpf_htons(config_nat_port_min + start);

		/* The next one is anywhere: neighbours of a taken port tend to be taken too. Small ranges are tried in full. */
		start = range > NAT_ATTEMPTS ? bpf_get_prandom_u32() % range : (start + 1) % (range ?: 1);
		nat_reverse_key(&reverse, egress, address, port);
		if (bpf_map_update_elem(&cilium_snat, &reverse, &back, BPF_NOEXIST)) {
			if (!nat_reclaim(&reverse, back.used))
				continue;
			nat_reverse_key(&reverse, egress, address, port);
			if (bpf_map_update_elem(&cilium_snat, &reverse, &back, BPF_ANY))
				continue;
		}
		mapping->address = *address;
		mapping->port = port;
		mapping->created = mapping->used = back.used;
		mapping->flags = 0;
		if (!bpf_map_update_elem(&cilium_snat, egress, mapping, BPF_ANY))
			return 0;
		bpf_map_delete_elem(&cilium_snat, &reverse);
		break;
	}
	return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
}

/* Once a second, and when its life changes: the mapping is in use in both its halves, and the reverse one must not have been evicted meanwhile.
 * false: somebody else has the port by now. */
STAGE bool nat_refresh(const struct nat_key *egress, const struct nat_entry *mapping, __u64 now)
{
	struct nat_entry back = {}, *other;
	struct nat_key reverse;

	if (!egress || !mapping)
		return false;
	nat_reverse_key(&reverse, egress, &mapping->address, mapping->port);
	other = bpf_map_lookup_elem(&cilium_snat, &reverse);
	if (other) {
		if (!addr_equal(&other->address, &egress->source) || other->port != egress->source_port)
			return false;
		other->used = now;
		other->flags = mapping->flags ? other->flags | mapping->flags : 0;
		return true;
	}
	back.address = egress->source;
	back.port = egress->source_port;
	back.created = mapping->created;
	back.used = now;
	back.flags = mapping->flags;
	return !bpf_map_update_elem(&cilium_snat, &reverse, &back, BPF_NOEXIST);
}

/* The mapping of a flow that leaves; new tells that it was made just now. */
static __always_inline int nat_mapping(const struct flow *flow, const struct nat_key *key, const union addr *address,
				       struct nat_entry *mapping, bool *new)
{
	struct nat_entry *entry = bpf_map_lookup_elem(&cilium_snat, key);
	__u64 now = bpf_ktime_get_coarse_ns();
	__u8 flags;

	/* An address that the device lost is no mapping any more. */
	if (entry && addr_equal(&entry->address, address)) {
		*mapping = *entry;
		flags = nat_flags(entry->flags, flow, NAT_FIN_OUT);
		if (likely(flags == entry->flags && now - entry->used < SECOND))
			return 0;
		entry->used = now;
		entry->flags = mapping->flags = flags;
		if (nat_refresh(key, mapping, now))
			return 0;
	}
	*new = true;
	return nat_allocate(key, address, mapping);
}

/* An ICMP error of a pod about a packet that was translated on its way in. */
STAGE int masquerade_error(struct __sk_buff *skb, struct flow *flow, const union addr *address)
{
	struct quoted inner = {};
	struct nat_entry *entry, mapping;
	struct nat_key key = { .direction = NAT_EGRESS };
	int reason;

	if (!flow || !address)
		return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
	if (!parse_quoted(skb, flow, &inner))
		return DROP_INVALID_PACKET_DROPPED;
	key.source = inner.destination;
	key.destination = inner.source;
	key.source_port = inner.destination_port;
	key.destination_port = inner.source_port;
	key.protocol = inner.protocol;
	entry = bpf_map_lookup_elem(&cilium_snat, &key);
	if (!entry)
		return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
	mapping = *entry;
	reason = rewrite_quoted(skb, flow, &inner, REWRITE_DESTINATION, &mapping);
	return reason ?: rewrite(skb, flow, REWRITE_SOURCE, address, 0);
}

STAGE int masquerade_flow(struct __sk_buff *skb, struct flow *flow, const union addr *address)
{
	struct nat_entry mapping = {};
	struct nat_key key;
	bool new = false;
	int reason;

	if (!flow || !address)
		return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
	nat_egress_key(&key, flow);
	reason = nat_mapping(flow, &key, address, &mapping, &new);
	if (reason)
		return reason;
	if (new && events_on()) {
		resolve_identities(flow);
		flow->report = true;
		flow->trace = TRACE_NEW;
		flow->translated = mapping.address;
		flow->translated_port = mapping.port;
		trace(skb, flow, TO_NETWORK);
	}
	return rewrite(skb, flow, REWRITE_SOURCE, &mapping.address, mapping.port);
}

/* Out to the world. 0 or the reason to drop; flow->report: a new mapping is worth an event. */
static __always_inline int masquerade(struct __sk_buff *skb, struct flow *flow, const union addr *address)
{
	if (addr_is_zero(address))
		return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
	if (!can_rewrite(flow))
		return DROP_UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE;
	if (flow->shape & SHAPE_ICMP_ERROR)
		return masquerade_error(skb, flow, address);
	return masquerade_flow(skb, flow, address);
}

static __always_inline bool in_nat_range(__be16 port)
{
	return bpf_ntohs(port) >= config_nat_port_min && bpf_ntohs(port) <= config_nat_port_max;
}

/* The other half is in use too, even if the pod only listens. */
static __always_inline void nat_egress_touch(const struct nat_key *ingress, const struct nat_entry *original, __u64 now,
					     __u8 flags)
{
	bool echo = ingress->protocol == IPPROTO_ICMP || ingress->protocol == IPPROTO_ICMPV6;
	struct nat_key key = { .protocol = ingress->protocol, .direction = NAT_EGRESS };
	struct nat_entry *entry;

	key.source = original->address;
	key.destination = ingress->source;
	key.source_port = original->port;
	key.destination_port = echo ? original->port : ingress->source_port;
	entry = bpf_map_lookup_elem(&cilium_snat, &key);
	if (entry) {
		entry->used = now;
		entry->flags |= flags;
	}
}

/* An ICMP error from the world about a packet that we translated on its way out. */
static __always_inline int unmasquerade_error(struct __sk_buff *skb, struct flow *flow)
{
	struct quoted inner = {};
	struct nat_entry *entry, mapping;
	struct nat_key key = { .direction = NAT_INGRESS };
	int reason;

	if (!parse_quoted(skb, flow, &inner) || !addr_equal(&inner.source, &flow->destination))
		return -1;
	key.source = inner.destination;
	key.destination = inner.source;
	key.source_port = inner.destination_port;
	key.destination_port = inner.source_port;
	key.protocol = inner.protocol;
	entry = bpf_map_lookup_elem(&cilium_snat, &key);
	if (!entry)
		return -1;
	mapping = *entry;
	reason = rewrite_quoted(skb, flow, &inner, REWRITE_SOURCE, &mapping);
	return reason ?: rewrite(skb, flow, REWRITE_DESTINATION, &mapping.address, 0);
}

/* Back from the world to an address of the node: 0 translated, -1 not ours, else the reason to drop. */
STAGE int unmasquerade(struct __sk_buff *skb, struct flow *flow)
{
	struct nat_key key = { .direction = NAT_INGRESS };
	struct nat_entry *entry, mapping;
	__u64 now;
	__u8 flags;

	if (!flow || !can_rewrite(flow))
		return -1;
	if (flow->shape & SHAPE_ICMP_ERROR)
		return unmasquerade_error(skb, flow);
	if (!in_nat_range(flow->destination_port))
		return -1;
	key.source = flow->source;
	key.destination = flow->destination;
	key.source_port = flow->source_port;
	key.destination_port = flow->destination_port;
	key.protocol = flow->protocol;
	entry = bpf_map_lookup_elem(&cilium_snat, &key);
	if (!entry)
		return -1;
	mapping = *entry;
	now = bpf_ktime_get_coarse_ns();
	flags = nat_flags(entry->flags | NAT_REPLIED, flow, NAT_FIN_IN);
	if (unlikely(flags != entry->flags || now - entry->used > SECOND)) {
		entry->used = now;
		entry->flags = flags;
		nat_egress_touch(&key, &mapping, now, flags);
	}
	return rewrite(skb, flow, REWRITE_DESTINATION, &mapping.address, mapping.port);
}
