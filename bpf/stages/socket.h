/* Translation in the socket, before there is a packet: what a process connects or sends to. */
#pragma once

#include <bpf/bpf_core_read.h>
#include "stages/service.h"

#define EPERM 1
#define ENOMEM 12
#define EHOSTUNREACH 113

/* bpf_set_retval came to these hooks with Linux 5.18; before, a refused call is EPERM. */
enum bpf_func_id___cilium { BPF_FUNC_set_retval___cilium = 187 };

static __always_inline int refuse(int error)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id___cilium, BPF_FUNC_set_retval___cilium))
		bpf_set_retval(-error);
	return 0;
}

/* Whether a socket that connects here means a node: itself (only the host's own loopback is the node), or another. */
static __always_inline bool means_node(void *ctx, const union addr *address)
{
	struct ipcache_key key = { .address = *address };
	const struct ipcache_entry *entry;

	if (addr_is_loopback(address))
		return bpf_get_netns_cookie(ctx) == config_host_netns_cookie;
	entry = bpf_map_lookup_elem(&cilium_ipcache, &key);
	return entry && is_node(entry->identity);
}

static __always_inline const struct service *service_of_socket(void *ctx, struct service_key *key)
{
	const struct service *service = service_at(key);

	if (service || !may_be_node_port(key->port) || !means_node(ctx, &key->address))
		return service;
	return service_at_node_port(key);
}

/* A socket that is not connected sends all its datagrams for one service to one backend, as long as they are the same. */
static __always_inline __u32 choice_of_socket(__u64 cookie, __u32 id)
{
	__u64 hash = (cookie + id) * 0x9e3779b97f4a7c15ULL;

	return (hash ^ (hash >> 29)) * 0xbf58476d1ce4e5b9ULL >> 32;
}

/* Remembers what the socket meant. The same again costs a lookup, not a write. */
static __always_inline int remember(__u64 cookie, const struct backend *backend, const union addr *address, __be16 port,
				    __u32 id)
{
	struct reverse_key key = { .cookie = cookie, .address = backend->address, .port = backend->port };
	struct reverse_entry entry = { .address = *address, .port = port, .id = id };
	const struct reverse_entry *known = bpf_map_lookup_elem(&cilium_lb_reverse, &key);

	if (known && known->port == port && known->id == id && addr_equal(&known->address, address))
		return 0;
	return bpf_map_update_elem(&cilium_lb_reverse, &key, &entry, BPF_ANY);
}

static __always_inline const struct reverse_entry *remembered(void *ctx, const union addr *address, __be16 port)
{
	struct reverse_key key = { .cookie = bpf_get_socket_cookie(ctx), .address = *address, .port = port };

	return bpf_map_lookup_elem(&cilium_lb_reverse, &key);
}
