/* Who is at an address: the endpoints of this node first, then the ipcache, then the world. */
#pragma once

#include "lib/common.h"
#include "lib/flow.h"
#include "config/node.h"
#include "maps/endpoints.h"
#include "maps/ipcache.h"

static __always_inline const struct endpoint *endpoint_at(const union addr *address)
{
	return bpf_map_lookup_elem(&cilium_lxc, address);
}

static __always_inline const struct endpoint *endpoint_behind(__u32 ifindex)
{
	union addr key = { .words = { 0, 0, 0, bpf_htonl(ifindex) } };

	return bpf_map_lookup_elem(&cilium_lxc, &key);
}

static __noinline const struct ipcache_entry *ipcache_prefix(const union addr *address)
{
	struct ipcache_cidr_key key = { .prefixlen = 160, .address = *address };

	return bpf_map_lookup_elem(&cilium_ipcache_cidr, &key);
}

static __always_inline const struct ipcache_entry *ipcache_at(const union addr *address)
{
	struct ipcache_key key = { .address = *address };
	const struct ipcache_entry *entry = bpf_map_lookup_elem(&cilium_ipcache, &key);

	return entry ?: ipcache_prefix(address);
}

/* The world is one identity, or one per family if both are in use. */
static __always_inline __u32 world(const union addr *address)
{
	if (!config_enable_ipv4 || !config_enable_ipv6)
		return IDENTITY_WORLD;
	return addr_is_v4(address) ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6;
}

static __always_inline __u32 identity_in(const struct ipcache_entry *entry, const union addr *address)
{
	return entry && entry->identity ? entry->identity : world(address);
}

static __always_inline __u32 identity_of(const union addr *address)
{
	return identity_in(ipcache_at(address), address);
}

static __always_inline bool is_node(__u32 identity)
{
	return identity == IDENTITY_HOST || identity == IDENTITY_REMOTE_NODE || identity == IDENTITY_KUBE_APISERVER ||
	       (identity & SCOPE_MASK) == SCOPE_REMOTE_NODE;
}

/* A pod, of whatever node, as far as its identity tells. */
static __always_inline bool is_workload(__u32 identity)
{
	return identity > IDENTITY_RESERVED_MAX && !(identity & SCOPE_MASK);
}

/* Forwarded with the address of a pod of this node, but not from its interface. The node's own addresses are another
 * matter: whoever translates sources on this node (kube-proxy) forwards with them. */
static __always_inline bool imitated(const struct __sk_buff *skb, const struct endpoint *sender)
{
	return !(sender->flags & ENDPOINT_HOST) && skb->ingress_ifindex && skb->ingress_ifindex != sender->ifindex;
}

/* Fills the identities that nobody needed so far. */
STAGE int resolve_identities(struct flow *flow)
{
	if (!flow)
		return 0;
	if (!flow->source_identity)
		flow->source_identity = identity_of(&flow->source);
	if (!flow->destination_identity)
		flow->destination_identity = identity_of(&flow->destination);
	return 0;
}
