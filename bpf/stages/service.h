/* From a service's address to a backend: the choice, the same for sockets and packets. */
#pragma once

#include "lib/common.h"
#include "config/node.h"
#include "maps/services.h"
#include "stages/identity.h"

static __always_inline bool addr_is_loopback(const union addr *a)
{
	if (addr_is_v4(a))
		return a->bytes[12] == 127;
	return !a->halves[0] && a->halves[1] == bpf_cpu_to_be64(1);
}

static __always_inline bool in_node_port_range(__be16 port)
{
	return bpf_ntohs(port) >= config_node_port_min && bpf_ntohs(port) <= config_node_port_max;
}

static __always_inline bool may_be_node_port(__be16 port)
{
	return config_host_ports || in_node_port_range(port);
}

static __always_inline const struct service *service_at(const struct service_key *key)
{
	return bpf_map_lookup_elem(&cilium_lb_services, key);
}

/* The service behind a port of a node; the key is changed into that of its row. */
static __always_inline const struct service *service_at_node_port(struct service_key *key)
{
	key->address = addr_is_v4(&key->address) ? addr_from_v4(0) : (union addr){};
	return service_at(key);
}

static __always_inline const struct backend *backend_at(__u32 id)
{
	const struct backend *backend = bpf_map_lookup_elem(&cilium_lb_backends, &id);

	return backend && !addr_is_zero(&backend->address) ? backend : NULL;
}

/* The id in the slot that `choice` falls on; 0: nobody is there. */
static __always_inline __u32 service_slot(const struct service *service, __u32 choice)
{
	__u32 count = service->count, index;
	const __u32 *slot;

	if (!count)
		return 0;
	index = service->slots + choice % count;
	slot = bpf_map_lookup_elem(&cilium_lb_slots, &index);
	return slot ? *slot : 0;
}

/* The choice that every node makes alike for the same hash; 0: there is no table. */
static __always_inline __u32 maglev_slot(const struct service *service, __u32 hash)
{
	__u32 id = service->id, index = hash % (config_maglev_size ?: 1);
	void *table = bpf_map_lookup_elem(&cilium_lb_maglev, &id);
	const __u32 *slot = table ? bpf_map_lookup_elem(table, &index) : NULL;

	return slot ? *slot : 0;
}

/* The backend that this client had within the timeout, if it still is one of the service. */
static __always_inline __u32 affinity_known(const struct service *service, const struct affinity_key *key, __u64 now)
{
	struct affinity_match_key match = { .service = service->id };
	struct affinity_entry *entry = bpf_map_lookup_elem(&cilium_lb_affinity, key);

	if (!entry || (__s64)(now - entry->used) > (__s64)(service->affinity_timeout * SECOND))
		return 0;
	match.backend = entry->backend;
	if (!bpf_map_lookup_elem(&cilium_lb_affinity_match, &match))
		return 0;
	if (now - entry->used > SECOND / 2)
		entry->used = now;
	return match.backend;
}

static __always_inline void affinity_remember(const struct affinity_key *key, __u32 backend, __u64 now)
{
	struct affinity_entry entry = { .used = now, .backend = backend };

	bpf_map_update_elem(&cilium_lb_affinity, key, &entry, BPF_ANY);
}
