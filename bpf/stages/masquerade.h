/* Masquerading: what pods send to the world leaves with an address of the node, and its replies find back. */
#pragma once

#include "config/node.h"
#include "maps/netdevs.h"
#include "stages/identity.h"
#include "stages/nat.h"

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

/* A new mapping is worth an event. */
static __always_inline void masquerade_tell(struct __sk_buff *skb, struct flow *flow, const struct nat_entry *mapping)
{
	if (!events_on())
		return;
	resolve_identities(flow);
	flow->report = true;
	flow->trace = TRACE_NEW;
	flow->translated = mapping->source;
	flow->translated_port = mapping->source_port;
	trace(skb, flow, TO_NETWORK);
}

STAGE int masquerade_flow(struct __sk_buff *skb, struct flow *flow, const union addr *address)
{
	struct nat_work *work = nat_work();
	struct nat_entry *entry;
	int reason;

	if (!flow || !address || !work)
		return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
	nat_key_of(&work->forward, flow, NAT_FORWARD);
	entry = bpf_map_lookup_elem(&cilium_snat, &work->forward);
	/* An address that the device lost is no mapping any more. */
	if (!entry || !addr_equal(&entry->source, address) || !nat_continue(work, flow, entry)) {
		__builtin_memset(&work->mapping, 0, sizeof(work->mapping));
		work->mapping.source = *address;
		work->mapping.destination = flow->destination;
		work->mapping.destination_port = flow->destination_port;
		reason = nat_claim(work, true);
		if (reason)
			return reason;
		masquerade_tell(skb, flow, &work->mapping);
	}
	return nat_rewrite(skb, flow, &work->mapping);
}

/* Out to the world. 0 or the reason to drop. */
static __always_inline int masquerade(struct __sk_buff *skb, struct flow *flow, const union addr *address)
{
	int reason;

	if (addr_is_zero(address))
		return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
	if (!can_rewrite(flow) || flow->protocol == IPPROTO_SCTP) /* its port may have to change */
		return DROP_UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE;
	if (!(flow->shape & SHAPE_ICMP_ERROR))
		return masquerade_flow(skb, flow, address);
	/* A pod's error about a packet that was translated on its way in. */
	reason = nat_error(skb, flow, NAT_FORWARD);
	return reason == NAT_NOT_OURS ? DROP_NO_MAPPING_FOR_NAT_MASQUERADE : reason;
}

/* Back from the world to an address of the node. 0 translated, NAT_NOT_OURS, or the reason to drop. */
static __always_inline int unmasquerade(struct __sk_buff *skb, struct flow *flow)
{
	return may_be_back(flow) ? nat_back(skb, flow) : NAT_NOT_OURS;
}
