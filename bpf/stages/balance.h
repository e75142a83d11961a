/* Services in packets: what is addressed to a service goes to a backend, and its replies come from the service again.
 * For what no socket translated: pods whose sockets are left alone, protocols without hooks, clients outside.
 * A connection is a mapping in cilium_snat (stages/nat.h); policy, conntrack and events see the backend. */
#pragma once

#include "lib/event.h"
#include "maps/netdevs.h"
#include "stages/dsr.h"
#include "stages/encap.h"
#include "stages/identity.h"
#include "stages/nat.h"
#include "stages/service.h"

static __always_inline bool is_balanced(const struct flow *flow)
{
	return flow->protocol == IPPROTO_TCP || flow->protocol == IPPROTO_UDP || flow->protocol == IPPROTO_SCTP;
}

static __always_inline union addr loopback_for(const struct flow *flow)
{
	return flow->shape & SHAPE_V6 ? addr_constant(&config_loopback6) : addr_constant(&config_loopback4);
}

/* Whether a connection may live that was translated for them. */
static __always_inline bool nat_serves(__u32 client)
{
	const __u64 *used = bpf_map_lookup_elem(&cilium_nat_clients, &client);

	return used && *used && bpf_ktime_get_coarse_ns() - *used < config_ct_tcp_established;
}

static __always_inline void nat_note(__u32 client)
{
	__u64 *used = bpf_map_lookup_elem(&cilium_nat_clients, &client), now = bpf_ktime_get_coarse_ns();

	if (used && now - *used > SECOND)
		*used = now;
}

static __always_inline bool serves_peers(void)
{
	return config_routing_mode == ROUTING_NATIVE && nat_serves(NAT_FOR_PEER);
}

/* An address behind which no pod of the cluster is, as far as the ipcache knows: a service, a node, the world. */
static __always_inline bool may_be_service(const struct ipcache_entry *peer)
{
	if (!peer || peer->identity & SCOPE_MASK)
		return true;
	switch (peer->identity) {
	case IDENTITY_UNKNOWN:
	case IDENTITY_HOST:
	case IDENTITY_WORLD:
	case IDENTITY_WORLD_IPV4:
	case IDENTITY_WORLD_IPV6:
	case IDENTITY_REMOTE_NODE:
	case IDENTITY_KUBE_APISERVER:
		return true;
	}
	return false;
}

/* Whether the client may ask from outside (loadBalancerSourceRanges). */
static __always_inline bool source_allowed(const struct service *service, const union addr *client)
{
	struct source_range_key key = { .prefixlen = 160, .service = service->id, .address = *client };
	bool listed;

	if (likely(!(service->flags & SERVICE_SOURCE_CHECK)))
		return true;
	listed = bpf_map_lookup_elem(&cilium_lb_source_ranges, &key);
	return listed != !!(service->flags & SERVICE_SOURCE_DENY);
}

/* 0: nobody is there. */
static __always_inline __u32 choose_backend(const struct service *service, const struct flow *flow)
{
	struct affinity_key client = { .client = flow->source, .service = service->id, .kind = AFFINITY_ADDRESS };
	__u64 now = bpf_ktime_get_coarse_ns();
	__u32 id = 0;

	if (service->affinity_timeout)
		id = affinity_known(service, &client, now);
	if (id)
		return id;
	if (service->flags & SERVICE_MAGLEV)
		id = maglev_slot(service, flow_hash(flow));
	if (!id)
		id = service_slot(service, bpf_get_prandom_u32());
	if (id && service->affinity_timeout)
		affinity_remember(&client, id, now);
	return id;
}

/* Whose address a packet is sent to: node ports are every node's, host ports only of the node they are on. */
enum node_address { NOT_OF_NODE, OF_THIS_NODE, OF_OTHER_NODE };

/* Behind a local redirect: this pod asks for what the address stood for before, be it to answer for it. */
static __always_inline bool is_skipped_by(const struct flow *flow, const struct service_key *key)
{
	struct skip_key skip = { .address = key->address, .port = key->port, .protocol = key->protocol };
	const struct endpoint *pod = endpoint_at(&flow->source);

	if (!pod)
		return false;
	skip.netns_cookie = 1ULL << SKIP_ENDPOINT | pod->id;
	return bpf_map_lookup_elem(&cilium_lb_skip, &skip);
}

/* The service that the packet is addressed to. `node`: enum node_address of its destination. */
STAGE int find_service(const struct flow *flow, __u32 scope, __u32 node, struct service *found)
{
	struct service_key key = {};
	const struct service *service;

	if (!flow || !found)
		return NAT_NOT_OURS;
	key.address = flow->destination;
	key.port = flow->destination_port;
	key.protocol = flow->protocol;
	key.scope = scope;
	service = service_at(&key);
	if (!service && node != NOT_OF_NODE) {
		service = service_at_node_port(&key);
		if (service && service->flags & SERVICE_HOST_PORT && node != OF_THIS_NODE)
			return NAT_NOT_OURS;
	}
	if (service && unlikely(service->flags & SERVICE_REDIRECT) && is_skipped_by(flow, &key)) {
		key.scope = SERVICE_ORIGINAL;
		service = service_at(&key);
	}
	if (service) {
		*found = *service;
		return 0;
	}
	if (scope == SERVICE_EXTERNAL && node == NOT_OF_NODE) {
		key.scope = SERVICE_CLUSTER;
		return service_at(&key) ? DROP_IS_A_CLUSTERIP : NAT_NOT_OURS;
	}
	return NAT_NOT_OURS;
}

/* Where from the backend sees the packet come: from the client itself where its replies pass this node anyway, else from
 * an address of this node; true for the latter. */
static __always_inline bool choose_source(const struct flow *flow, __u32 scope, __u32 ifindex,
					  struct nat_entry *mapping)
{
	const struct netdev *device;
	bool v6 = flow->shape & SHAPE_V6;

	mapping->source = flow->source;
	if (addr_equal(&flow->source, &mapping->destination)) {
		mapping->source = loopback_for(flow);
		return false;
	}
	if (scope != SERVICE_EXTERNAL || endpoint_at(&mapping->destination))
		return false;
	if (behind_tunnel(ipcache_at(&mapping->destination))) {
		mapping->source = v6 ? addr_constant(&config_router6) : addr_constant(&config_router4);
		return true;
	}
	device = bpf_map_lookup_elem(&cilium_netdev, &ifindex);
	if (device)
		mapping->source = v6 ? device->masquerade6 : device->masquerade4;
	return true;
}

/* A new connection is worth an event: what was asked for, and where it goes. Whoever writes it calls balance_told. */
static __always_inline bool balance_tells(struct flow *flow, const struct nat_entry *mapping)
{
	if (!events_on())
		return false;
	resolve_identities(flow);
	flow->trace = TRACE_NEW;
	flow->verdict = VERDICT_FORWARDED;
	flow->translated = mapping->destination;
	flow->translated_port = mapping->destination_port;
	return true;
}

static __always_inline void balance_told(struct flow *flow)
{
	flow->verdict = 0;
	flow->translated = (union addr){};
	flow->translated_port = 0;
}

static __always_inline void balance_tell(struct __sk_buff *skb, struct flow *flow, const struct nat_entry *mapping)
{
	if (!balance_tells(flow, mapping))
		return;
	event_write(skb, flow, EVENT_TRACE, TRACE_NEW);
	balance_told(flow);
}

/* A Geneve option needs the tunnel, which servers on nodes themselves are not reached by. */
static __always_inline bool may_go_directly(const union addr *backend)
{
	return config_dsr == DSR_OPTION || (config_dsr == DSR_GENEVE && behind_tunnel(ipcache_at(backend)));
}

/* The client's address stays, and nobody replies through this node: there is no port to claim. */
static __always_inline int balance_direct(struct nat_work *work, const struct flow *flow)
{
	work->mapping.source = flow->source;
	work->mapping.source_port = flow->source_port;
	work->mapping.flags = NAT_DSR;
	work->mapping.created = work->mapping.used = bpf_ktime_get_coarse_ns();
	return bpf_map_update_elem(&cilium_snat, &work->forward, &work->mapping, BPF_ANY) ?
		       DROP_NO_MAPPING_FOR_NAT_MASQUERADE : 0;
}

/* A mapping for a connection that is new, or whose backend is no more. In: work->forward; `ifindex`: of the device that
 * the packet came by; `before`: the source port of the connection before it. */
STAGE int balance_new(struct flow *flow, __u32 scope, __u32 node, __u32 ifindex, __be16 before)
{
	struct nat_work *work = nat_work();
	const struct backend *backend;
	struct service service = {};
	int reason;
	bool own;

	if (!flow || !work)
		return NAT_NOT_OURS;
	reason = find_service(flow, scope, node, &service);
	if (reason)
		return reason;
	if (scope == SERVICE_EXTERNAL && !source_allowed(&service, &flow->source))
		return DROP_DENIED_BY_LB_SRC_RANGE_CHECK;
	__builtin_memset(&work->mapping, 0, sizeof(work->mapping));
	work->mapping.backend = choose_backend(&service, flow);
	backend = backend_at(work->mapping.backend);
	if (!backend) {
		flow->silent = !config_reject || service.flags & SERVICE_LOCAL;
		return DROP_SERVICE_BACKEND_NOT_FOUND;
	}
	/* The checksum of SCTP covers the ports, and all of the packet: they stay what they are. */
	if (flow->protocol == IPPROTO_SCTP && backend->port != flow->destination_port)
		return DROP_UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE;
	work->mapping.service = service.id;
	work->mapping.destination = backend->address;
	work->mapping.destination_port = backend->port;
	own = choose_source(flow, scope, ifindex, &work->mapping);
	if (addr_is_zero(&work->mapping.source))
		return DROP_NO_MAPPING_FOR_NAT_MASQUERADE;
	flow->opens = true;
	if (own && service.flags & SERVICE_DSR && may_go_directly(&work->mapping.destination))
		return balance_direct(work, flow);
	work->mapping.source_port = before;
	return nat_claim(work, own);
}

/* Whether the backend of a connection is one no more. */
static __always_inline bool backend_left(const struct nat_entry *entry)
{
	const struct backend *backend = backend_at(entry->backend);

	return !backend || !addr_equal(&backend->address, &entry->destination) ||
	       backend->port != entry->destination_port;
}

static __always_inline bool is_inhabited(const union addr *address)
{
	struct ipcache_key key = { .address = *address };

	return endpoint_at(address) || bpf_map_lookup_elem(&cilium_ipcache, &key);
}

/* Whether the connection stays with its backend, and the packet does not open a new one. A stream that has begun goes on
 * with a pod that merely left the service; if the pod is gone, another backend will refuse what it knows nothing of, and
 * the client connects anew. */
static __always_inline bool balance_stays(const struct nat_entry *entry, const struct flow *flow)
{
	if (backend_left(entry) && (flow->protocol == IPPROTO_UDP || !(entry->flags & NAT_REPLIED) ||
				    !is_inhabited(&entry->destination)))
		return false;
	if (flow->protocol == IPPROTO_TCP && (flow->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
	    entry->flags & (NAT_CLOSED | NAT_FIN_OUT | NAT_FIN_IN))
		return false;
	return !nat_dead(entry->flags, flow->protocol, entry->used, bpf_ktime_get_coarse_ns());
}

/* What becomes of a packet that may be addressed to a service: work->mapping, and flow->opens if it is new; the packet is
 * not touched. 0, NAT_NOT_OURS, or the reason to drop; DROP_SERVICE_BACKEND_NOT_FOUND may be answered (stages/reject.h)
 * unless flow->silent. `node`: see find_service; `ifindex`: see balance_new. */
STAGE int balance_find(struct flow *flow, __u32 scope, __u32 node, __u32 ifindex)
{
	struct nat_work *work = nat_work();
	struct nat_entry *entry;
	int reason;

	if (!flow || !work || !is_balanced(flow))
		return NAT_NOT_OURS;
	nat_key_of(&work->forward, flow, NAT_FORWARD);
	entry = bpf_map_lookup_elem(&cilium_snat, &work->forward);
	if (!entry || !entry->service || !balance_stays(entry, flow) || !nat_continue(work, flow, entry)) {
		reason = balance_new(flow, scope, node, ifindex, entry ? entry->source_port : 0);
		if (reason)
			return reason;
	}
	if (scope == SERVICE_CLUSTER)
		nat_note(NAT_FOR_POD);
	return 0;
}

/* A client outside, `client` before the translation, whose packet goes on to another node. Nobody outside has the address
 * of a pod of this node or of the node itself, and pods behind the tunnel come through it. Whatever address the backend's
 * node sees, the tunnel says who asks. 0 or the reason to drop. */
STAGE int balance_client(struct flow *flow, const union addr *client)
{
	const struct ipcache_entry *entry;

	if (!flow || !client || endpoint_at(client))
		return DROP_INVALID_SOURCE_IP;
	if (config_routing_mode != ROUTING_TUNNEL)
		return 0;
	entry = ipcache_at(client);
	if (behind_tunnel(entry))
		return DROP_INVALID_SOURCE_IP;
	flow->source_identity = identity_in(entry, client);
	return 0;
}

/* To a backend, if the packet is addressed to a service; as balance_find. */
STAGE int balance(struct __sk_buff *skb, struct flow *flow, __u32 scope, __u32 node)
{
	struct nat_work *work = nat_work();
	int reason;

	if (!flow || !work)
		return NAT_NOT_OURS;
	if (flow->shape & SHAPE_ICMP_ERROR)
		return nat_error(skb, flow, NAT_FORWARD);
	reason = balance_find(flow, scope, node, skb->ifindex);
	if (reason)
		return reason;
	if (flow->opens)
		balance_tell(skb, flow, &work->mapping);
	reason = nat_rewrite(skb, flow, &work->mapping);
	if (!reason && config_dsr == DSR_OPTION && work->mapping.flags & NAT_DSR)
		reason = dsr_add(skb, flow, &work->forward.destination, work->forward.destination_port);
	return reason;
}

/* What leaves may be a reply that must come from the service. The packet was admitted as what it is. 0 or the reason to
 * drop. */
static __always_inline int unbalance(struct __sk_buff *skb, struct flow *flow)
{
	int reason = nat_back(skb, flow);

	return reason == NAT_NOT_OURS ? 0 : reason;
}

/* The same for what arrives for a pod, which may have asked in packets. */
static __always_inline int reply_to_pod(struct __sk_buff *skb, struct flow *flow)
{
	return config_services && unlikely(nat_serves(NAT_FOR_POD)) ? unbalance(skb, flow) : 0;
}
