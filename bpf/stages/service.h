/* From a service's address to a backend's, and back: in the socket, before there is a packet. */
#pragma once

#include <bpf/bpf_core_read.h>
#include "lib/common.h"
#include "config/node.h"
#include "maps/ipcache.h"
#include "maps/services.h"

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

static __always_inline bool addr_is_loopback(const union addr *a)
{
	if (addr_is_v4(a))
		return a->bytes[12] == 127;
	return !a->halves[0] && a->halves[1] == bpf_cpu_to_be64(1);
}

/* Whether a socket that connects here means a node: itself (only the host's own loopback is the node), or another. */
static __always_inline bool addr_is_node(void *ctx, const union addr *address)
{
	struct ipcache_key key = { .address = *address };
	const struct ipcache_entry *entry;

	if (addr_is_loopback(address))
		return bpf_get_netns_cookie(ctx) == config_host_netns_cookie;
	entry = bpf_map_lookup_elem(&cilium_ipcache, &key);
	return entry && (entry->identity == IDENTITY_HOST || entry->identity == IDENTITY_REMOTE_NODE ||
			 entry->identity == IDENTITY_KUBE_APISERVER);
}

static __always_inline const struct service *service_at(void *ctx, struct service_key *key)
{
	const struct service *service = bpf_map_lookup_elem(&cilium_lb_services, key);
	__u16 port = bpf_ntohs(key->port);

	if (service || port < config_node_port_min || port > config_node_port_max || !addr_is_node(ctx, &key->address))
		return service;
	key->address = addr_is_v4(&key->address) ? addr_from_v4(0) : (union addr){};
	return bpf_map_lookup_elem(&cilium_lb_services, key);
}

static __always_inline const struct backend *service_backend(const struct service *service, __u32 choice)
{
	__u32 count = service->count, index;
	const __u32 *slot;

	if (!count)
		return NULL;
	index = service->slots + choice % count;
	slot = bpf_map_lookup_elem(&cilium_lb_slots, &index);
	if (!slot || !*slot)
		return NULL;
	return bpf_map_lookup_elem(&cilium_lb_backends, slot);
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
