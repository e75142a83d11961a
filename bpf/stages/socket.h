/* Translation in the socket, before there is a packet: what a process connects or sends to. */
#pragma once

#include <bpf/bpf_core_read.h>
#include "lib/sock_event.h"
#include "maps/sockets.h"
#include "stages/service.h"

#define ENOMEM 12
#define EADDRINUSE 98
#define EHOSTUNREACH 113

/* bpf_set_retval came to these hooks with Linux 5.18; before, a refused call is EPERM. */
enum bpf_func_id___cilium { BPF_FUNC_set_retval___cilium = 187 };

static __always_inline int refuse(int error)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id___cilium, BPF_FUNC_set_retval___cilium))
		bpf_set_retval(-error);
	return 0;
}

static __always_inline bool in_host(void *ctx)
{
	return bpf_get_netns_cookie(ctx) == config_host_netns_cookie;
}

static __always_inline bool addr_is_unspecified(const union addr *a)
{
	return addr_is_zero(a) || (addr_is_v4(a) && !a->words[3]);
}

/* Nobody but the network namespace itself; to connect to the unspecified address means the same. */
static __always_inline bool means_itself(const union addr *address)
{
	return addr_is_loopback(address) || addr_is_unspecified(address);
}

/* Whether a socket that connects here means a node; `remote`: this one or another. */
static __always_inline bool means_node(void *ctx, const union addr *address, bool remote)
{
	struct ipcache_key key = { .address = *address };
	const struct ipcache_entry *entry;

	if (means_itself(address))
		return in_host(ctx);
	entry = bpf_map_lookup_elem(&cilium_ipcache, &key);
	return entry && (entry->identity == IDENTITY_HOST || (remote && is_node(entry->identity)));
}

/* The service that a socket means, and in `key` the key of its row. Loopback addresses are the node only to the node; a
 * host port is one of this node only. */
static __always_inline const struct service *service_of_socket(void *ctx, struct service_key *key)
{
	const struct service *service = service_at(key);
	union addr asked = key->address;

	if (service)
		return !means_itself(&asked) || in_host(ctx) ? service : NULL;
	if (!may_be_node_port(key->port))
		return NULL;
	service = service_at_node_port(key);
	if (!service || !means_node(ctx, &asked, !(service->flags & SERVICE_HOST_PORT)))
		return NULL;
	return service;
}

/* Behind a local redirect: this pod asks for what the address stood for before, be it to answer for it. */
static __always_inline bool skips(void *ctx, const struct service *service, const struct service_key *key)
{
	struct skip_key skip = { .address = key->address, .port = key->port, .protocol = key->protocol };

	if (!(service->flags & SERVICE_REDIRECT))
		return false;
	skip.netns_cookie = bpf_get_netns_cookie(ctx);
	return bpf_map_lookup_elem(&cilium_lb_skip, &skip);
}

/* A socket that is not connected sends all its datagrams for one service to one backend, as long as they are the same. */
static __always_inline __u32 choice_of_socket(__u64 cookie, __u32 id)
{
	__u64 hash = (cookie + id) * 0x9e3779b97f4a7c15ULL;

	return (hash ^ (hash >> 29)) * 0xbf58476d1ce4e5b9ULL >> 32;
}

/* With session affinity, the backend that this network namespace had last: before there is a packet, a client has no
 * address yet. */
static __always_inline const struct backend *backend_of_socket(void *ctx, const struct service *service, __u32 choice)
{
	struct affinity_key client = { .service = service->id, .kind = AFFINITY_SOCKET };
	const struct backend *backend;
	__u64 now;
	__u32 id;

	if (!service->affinity_timeout)
		return backend_at(service_slot(service, choice));
	now = bpf_ktime_get_coarse_ns();
	client.client.halves[1] = bpf_get_netns_cookie(ctx);
	backend = backend_at(affinity_known(service, &client, now));
	if (backend)
		return backend;
	id = service_slot(service, choice);
	backend = backend_at(id);
	if (backend)
		affinity_remember(&client, id, now);
	return backend;
}

static __always_inline __u8 *socket_mark(__u64 cookie)
{
	__u32 index = (cookie / SOCKET_MARKS) % SOCKET_ELEMENTS;
	struct socket_marks *marks = bpf_map_lookup_elem(&cilium_lb_sockets, &index);

	return marks ? &marks->marked[cookie % SOCKET_MARKS] : NULL;
}

enum memory { KNOWN_BEFORE, REMEMBERED, NOT_REMEMBERED };

/* Remembers what the socket meant. The same again costs a lookup, not a write; a socket that connects (`fresh`) is hardly
 * known before, and not looked for. */
static __always_inline enum memory remember(void *ctx, __u64 cookie, const struct backend *backend,
					    const struct peer *meant, __u32 id, bool fresh)
{
	struct reverse_key key = { .cookie = cookie, .address = backend->address, .port = backend->port };
	struct reverse_entry entry = { .address = meant->address, .port = meant->port, .id = id };
	const struct reverse_entry *known = fresh ? NULL : bpf_map_lookup_elem(&cilium_lb_reverse, &key);
	__u8 *mark;

	if (known && known->port == meant->port && known->id == id && addr_equal(&known->address, &meant->address))
		return KNOWN_BEFORE;
	entry.netns_cookie = bpf_get_netns_cookie(ctx);
	if (bpf_map_update_elem(&cilium_lb_reverse, &key, &entry, BPF_ANY))
		return NOT_REMEMBERED;
	mark = socket_mark(cookie);
	if (mark)
		*mark = 1;
	return REMEMBERED;
}

static __always_inline const struct reverse_entry *remembered(void *ctx, const struct peer *peer)
{
	struct reverse_key key = { .cookie = bpf_get_socket_cookie(ctx), .address = peer->address, .port = peer->port };

	return bpf_map_lookup_elem(&cilium_lb_reverse, &key);
}

/* Whether a service is asked under this address from outside, or under this port of the node. */
static __always_inline bool serves_outside(struct service_key *key)
{
	const struct service *service = service_at(key);

	if (service && service->flags & (SERVICE_NODE_PORT | SERVICE_HOST_PORT))
		return true;
	key->scope = SERVICE_EXTERNAL;
	service = service_at(key);
	key->scope = SERVICE_CLUSTER;
	return service;
}

/* Whether a process of the node that takes this port would take it from a service: nobody would reach the process, or it
 * would get what is meant for the service. */
static __always_inline bool belongs_to_service(struct bpf_sock *ctx, const union addr *address)
{
	struct service_key key = { .address = *address, .port = bpf_htons(ctx->src_port), .protocol = ctx->protocol };

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return false;
	if (serves_outside(&key))
		return true;
	if (!means_node(ctx, address, false))
		return false;
	key.address = addr_is_v4(address) ? addr_from_v4(0) : (union addr){};
	return serves_outside(&key);
}

/* A socket that is closed means nobody any more. Without this, its entry would make room only when the map is full, and
 * then every new connection pays for the search for the oldest: more than this does. What a socket that is not connected
 * meant stays until then. */
static __always_inline void forget(void *ctx, const struct peer *peer)
{
	struct reverse_key key = { .cookie = bpf_get_socket_cookie(ctx), .address = peer->address, .port = peer->port };
	__u8 *mark = socket_mark(key.cookie);

	if (!mark || !*mark)
		return;
	*mark = 0;
	bpf_map_delete_elem(&cilium_lb_reverse, &key);
}
