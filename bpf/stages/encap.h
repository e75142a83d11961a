/* To the node behind which an address lives: the source's identity travels in the tunnel key (VNI). */
#pragma once

#include "lib/common.h"
#include "lib/drop.h"
#include "lib/event.h"
#include "stages/identity.h"

#define TUNNEL_TTL 64

static __always_inline bool behind_tunnel(const struct ipcache_entry *entry)
{
	return config_routing_mode == ROUTING_TUNNEL && entry && !(entry->flags & IPCACHE_SKIP_TUNNEL) &&
	       !addr_is_zero(&entry->tunnel_endpoint);
}

/* Nodes believe the identity in what reaches their tunnel port: what a pod sends there must not get there. */
static __always_inline bool encapsulated(const struct flow *flow)
{
	return config_routing_mode == ROUTING_TUNNEL && flow->protocol == IPPROTO_UDP &&
	       flow->destination_port == bpf_htons(config_tunnel_port);
}

/* The key has 24 bits; identities of CIDRs and remote nodes are known on one node only. */
static __always_inline __u32 tunnel_identity(const struct flow *flow)
{
	if (likely(!(flow->source_identity & SCOPE_MASK)))
		return flow->source_identity;
	return is_node(flow->source_identity) ? IDENTITY_REMOTE_NODE : world(&flow->source);
}

/* 0 or the reason to drop. */
static __always_inline int enter_tunnel(struct __sk_buff *skb, struct flow *flow, const struct ipcache_entry *peer)
{
	struct bpf_tunnel_key key = { .tunnel_ttl = TUNNEL_TTL };
	__u64 flags = BPF_F_ZERO_CSUM_TX;

	resolve_identities(flow);
	key.tunnel_id = tunnel_identity(flow);
	if (addr_is_v4(&peer->tunnel_endpoint)) {
		key.remote_ipv4 = bpf_ntohl(peer->tunnel_endpoint.words[3]);
	} else {
		__builtin_memcpy(key.remote_ipv6, &peer->tunnel_endpoint, 16);
		flags = BPF_F_TUNINFO_IPV6; /* RFC 8200 8.1: UDP over IPv6 has a checksum */
	}
	if (!config_tunnel_ifindex || bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags))
		return DROP_NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT;
	flow->tunnel_vni = key.tunnel_id;
	return 0;
}

static __always_inline int deliver_by_tunnel(struct __sk_buff *skb, struct flow *flow, const struct ipcache_entry *peer)
{
	int reason = enter_tunnel(skb, flow, peer);

	if (reason)
		return drop(skb, flow, reason);
	trace(skb, flow, TO_OVERLAY);
	return bpf_redirect(config_tunnel_ifindex, 0);
}
