/* The hooks on devices that connect this node to others. from_netdev: replies to masqueraded traffic, and traffic
 * routed natively to pods of this node; everything else is the stack's. to_netdev: what pods send to the world gets
 * an address of the node. With the host firewall, both judge what the node itself receives and sends. */
#include "lib/common.h"
#include "stages/admit.h"
#include "stages/balance.h"
#include "stages/deliver.h"
#include "stages/deny.h"
#include "stages/encap.h"
#include "stages/host_firewall.h"
#include "stages/masquerade.h"
#include "stages/reject.h"

#define VLAN_ID 0xfff /* in the tag (IEEE 802.1Q 9.6) */

static __always_inline bool is_ip(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) || skb->protocol == bpf_htons(ETH_P_IPV6);
}

/* An empty tag (IEEE 802.1p) in front of another: the stack takes off both, unseen, and what is behind them is for it. */
static __always_inline bool is_hidden(const struct __sk_buff *skb)
{
	return (skb->protocol == bpf_htons(ETH_P_8021Q) || skb->protocol == bpf_htons(ETH_P_8021AD)) &&
	       skb->vlan_present && !(skb->vlan_tci & VLAN_ID);
}

static __always_inline bool masquerading(const struct flow *flow)
{
	return flow->shape & SHAPE_V6 ? config_masquerade6 : config_masquerade4;
}

/* A node that was asked may have sent it on, for the backend here to answer. */
static __always_inline int asked_elsewhere(struct __sk_buff *skb, struct flow *flow)
{
	return config_dsr == DSR_OPTION && flow->l4_offset > ETH_HLEN + sizeof(struct iphdr) ? dsr_keep(skb, flow) :
											       NAT_NOT_OURS;
}

/* Back to who asked; in the name of the service, if it asked that. */
static __always_inline int deny_client(struct __sk_buff *skb, struct flow *flow, int reason)
{
	drop(skb, flow, reason);
	if (!config_deny_response || !deny_answered(skb, flow, reason) || (config_services && unbalance(skb, flow)))
		return TC_ACT_SHOT;
	return deliver_by_route(skb, flow);
}

/* Only what the kernel's routes send here with the address of a local pod. */
static __always_inline int to_local_pod(struct __sk_buff *skb, struct flow *flow, const struct endpoint *pod)
{
	int reason;

	/* Nobody outside has the address of a pod or of the node itself. */
	if (unlikely(endpoint_at(&flow->source)))
		return drop(skb, flow, DROP_INVALID_SOURCE_IP);
	/* In tunnel mode, pods of other nodes come with their identity or not at all. */
	if (config_routing_mode == ROUTING_TUNNEL && unlikely(behind_tunnel(ipcache_at(&flow->source))))
		return drop(skb, flow, DROP_INVALID_SOURCE_IP);
	flow_to(flow, pod);
	reason = admit(skb, flow);
	if (reason)
		return deny_client(skb, flow, reason);
	reason = reply_to_pod(skb, flow) ?: asked_elsewhere(skb, flow);
	if (reason && reason != NAT_NOT_OURS)
		return drop(skb, flow, reason);
	return deliver_to_pod(skb, flow, pod);
}

/* With the service's address beside the packet, if the backend is to answer in its name. */
static __always_inline int through_geneve(struct __sk_buff *skb, struct flow *flow, const struct ipcache_entry *peer)
{
	struct nat_work *work = nat_work();
	int reason = enter_tunnel(skb, flow, peer);

	if (!reason && work && work->mapping.flags & NAT_DSR)
		reason = dsr_add_geneve(skb, flow, &work->forward.destination, work->forward.destination_port);
	if (reason)
		return drop(skb, flow, reason);
	trace(skb, flow, TO_OVERLAY);
	return bpf_redirect(config_tunnel_ifindex, 0);
}

/* A client outside asked a service: its packet goes to a backend, wherever that is. The backend's node judges it, with
 * the identity of the client as far as it is valid there. */
static __always_inline int to_backend(struct __sk_buff *skb, struct flow *flow, const union addr *client)
{
	const struct endpoint *row = endpoint_at(&flow->destination);
	const struct ipcache_entry *peer;
	int reason;

	if (row && !(row->flags & ENDPOINT_HOST)) {
		/* In native mode pods ask other nodes with their own addresses: for host ports, that no other node knows. */
		if (config_routing_mode == ROUTING_NATIVE && unlikely(!may_be_service(ipcache_at(&flow->source))))
			nat_note(NAT_FOR_PEER);
		return to_local_pod(skb, flow, row);
	}
	if (row) {
		reason = config_host_firewall ? admit_to_node(skb, flow) : 0;
		if (reason)
			return deny_client(skb, flow, reason);
		nat_note(NAT_FOR_HOST);
		return deliver_to_stack(skb, flow);
	}
	reason = balance_client(flow, client);
	if (reason)
		return drop(skb, flow, reason);
	count(skb, DROP_NONE, DIRECTION_INGRESS);
	peer = ipcache_at(&flow->destination);
	if (!behind_tunnel(peer))
		return deliver_by_route(skb, flow);
	return config_dsr == DSR_GENEVE ? through_geneve(skb, flow, peer) : deliver_by_tunnel(skb, flow, peer);
}

/* For the node itself, and nothing that it passes on. Its own sockets may be the backend. */
static __always_inline int to_node(struct __sk_buff *skb, struct flow *flow)
{
	int reason = config_host_firewall ? admit_to_node(skb, flow) : 0;

	if (reason)
		return deny_client(skb, flow, reason);
	reason = asked_elsewhere(skb, flow);
	if (reason != NAT_NOT_OURS) {
		if (reason)
			return drop(skb, flow, reason);
		nat_note(NAT_FOR_HOST);
	}
	return config_host_firewall ? deliver_to_stack(skb, flow) : TC_ACT_OK;
}

/* With the host firewall: for the node, by an address that has no row. */
static __always_inline int to_node_unnamed(struct __sk_buff *skb, struct flow *flow)
{
	int reason = parse_transport(skb, flow);

	if (reason ? may_be_unreadable(flow) : !(reason = admit_to_node(skb, flow)))
		return deliver_to_stack(skb, flow);
	return drop(skb, flow, reason);
}

/* For nobody of this node, as far as rows tell: the stack passes it on, or takes it all the same. */
static __always_inline int to_elsewhere(struct __sk_buff *skb, struct flow *flow)
{
	return config_host_firewall && taken_by_node(skb, flow) ? to_node_unnamed(skb, flow) : TC_ACT_OK;
}

/* What reaches this node from outside and may be for a service; `own`: it is addressed to the node itself. */
static __always_inline int from_client(struct __sk_buff *skb, struct flow *flow, bool own)
{
	union addr client = flow->source;
	int reason;

	if (own && encapsulated(flow))
		return config_host_firewall ? to_node(skb, flow) : TC_ACT_OK;
	/* The stack says so to the client, which must know again what it asked. */
	if (!own && unlikely(flow->ttl <= 1))
		return to_elsewhere(skb, flow);
	reason = balance(skb, flow, SERVICE_EXTERNAL, own ? OF_THIS_NODE : NOT_OF_NODE);
	if (reason == NAT_NOT_OURS)
		return own ? to_node(skb, flow) : to_elsewhere(skb, flow);
	if (reason == DROP_SERVICE_BACKEND_NOT_FOUND && !flow->silent)
		return refuse(skb, flow, false);
	return reason ? drop(skb, flow, reason) : to_backend(skb, flow, &client);
}

/* A reply to what left with an address of this node: back to the pod, or to the client outside whose service it is. */
static __always_inline int to_who_asked(struct __sk_buff *skb, struct flow *flow)
{
	const struct endpoint *row = endpoint_at(&flow->destination);

	if (row && !(row->flags & ENDPOINT_HOST))
		return to_local_pod(skb, flow, row);
	if (row || !config_services)
		return drop(skb, flow, DROP_STALE_OR_UNROUTABLE_IP);
	count(skb, DROP_NONE, DIRECTION_INGRESS);
	return deliver_by_route(skb, flow);
}

static __always_inline bool for_node(struct __sk_buff *skb, const struct flow *flow, const struct endpoint *row)
{
	return config_host_firewall && (row ? row->flags & ENDPOINT_HOST :
					     reaches_node(skb, flow) || taken_by_node(skb, flow));
}

SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	struct flow flow = { .direction = DIRECTION_INGRESS, .point = FROM_NETWORK, .policy_epoch = policy_epoch() };
	const struct endpoint *row;
	int reason;

	if (config_host_firewall && unlikely(is_hidden(skb)) && guarded_node())
		return drop(skb, &flow, DROP_VLAN_FILTERED);
	if (!is_ip(skb))
		return TC_ACT_OK;
	reason = parse_network(skb, &flow);
	row = endpoint_at(&flow.destination);
	if (reason)
		return for_node(skb, &flow, row) && !may_be_unreadable(&flow) ? drop(skb, &flow, reason) : TC_ACT_OK;
	if (config_host_firewall && !row && reaches_node(skb, &flow))
		return to_node_unnamed(skb, &flow);
	if (addr_is_reserved(&flow.destination))
		return TC_ACT_OK;
	if (!row && !config_services)
		return to_elsewhere(skb, &flow);
	if (row && !(row->flags & ENDPOINT_HOST)) {
		reason = parse_transport(skb, &flow);
		return reason ? drop(skb, &flow, reason) : to_local_pod(skb, &flow, row);
	}
	if (!(config_services || masquerading(&flow) || config_host_firewall))
		return TC_ACT_OK;
	reason = parse_transport(skb, &flow);
	if (reason && !row)
		return to_elsewhere(skb, &flow);
	if (reason)
		return may_be_unreadable(&flow) ? TC_ACT_OK : drop(skb, &flow, reason);
	reason = row ? unmasquerade(skb, &flow) : NAT_NOT_OURS;
	if (reason == NAT_NOT_OURS && config_services)
		return from_client(skb, &flow, row);
	if (reason == NAT_NOT_OURS)
		return row ? to_node(skb, &flow) : TC_ACT_OK;
	return reason ? drop(skb, &flow, reason) : to_who_asked(skb, &flow);
}

/* The node's own sockets may be a backend of a service that a client outside asked. With DSR only the answers tell that
 * somebody still asks. */
static __always_inline int answer_from_node(struct __sk_buff *skb, struct flow *flow)
{
	int reason = nat_back(skb, flow);

	if (reason == NAT_NOT_OURS)
		return TC_ACT_OK;
	if (reason)
		return drop(skb, flow, reason);
	nat_note(NAT_FOR_HOST);
	return TC_ACT_OK;
}

/* What the node itself sends, tunnels included. */
static __always_inline int from_node(struct __sk_buff *skb, struct flow *flow)
{
	bool serves = config_services && unlikely(nat_serves(NAT_FOR_HOST));
	const struct endpoint *node = guarded_node();
	int reason;

	if (likely(!serves && !node) || !is_ip(skb))
		return TC_ACT_OK;
	reason = parse(skb, flow);
	if (reason)
		return !node || !node->egress_policy ? TC_ACT_OK : drop(skb, flow, reason);
	if (node) {
		reason = admit_from_node(skb, flow, node);
		if (reason)
			return deny_stack(skb, flow, reason);
		trace(skb, flow, TO_NETWORK);
	}
	return serves ? answer_from_node(skb, flow) : TC_ACT_OK;
}

/* Forwarded with an address of the node. Where this datapath translates for services, it is its own work; elsewhere
 * somebody else's (kube-proxy), and as long as nothing tells it from the node's own traffic, it is judged as that. */
static __always_inline int with_address_of_node(struct __sk_buff *skb, struct flow *flow)
{
	return config_host_firewall && !config_services ? from_node(skb, flow) : TC_ACT_OK;
}

SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	struct flow flow = { .direction = DIRECTION_EGRESS, .point = TO_NETWORK, .policy_epoch = policy_epoch() };
	const struct endpoint *pod;
	const struct netdev *device;
	__u32 ifindex = skb->ifindex;
	union addr address;
	int reason;

	/* What the node itself sends came from no interface. */
	if (!skb->ingress_ifindex)
		return from_node(skb, &flow);
	if (!is_ip(skb) || parse_network(skb, &flow))
		return TC_ACT_OK;
	if (!masquerading(&flow) && !config_host_firewall)
		return TC_ACT_OK;
	pod = endpoint_at(&flow.source);
	if (!pod)
		return TC_ACT_OK;
	if (pod->flags & ENDPOINT_HOST)
		return with_address_of_node(skb, &flow);
	if (!masquerading(&flow))
		return TC_ACT_OK;
	device = bpf_map_lookup_elem(&cilium_netdev, &ifindex);
	if (!device || !masquerades(&flow))
		return TC_ACT_OK;
	flow_from(&flow, pod);
	address = flow.shape & SHAPE_V6 ? device->masquerade6 : device->masquerade4;
	reason = parse_transport(skb, &flow) ?: masquerade(skb, &flow, &address);
	return reason ? drop(skb, &flow, reason) : TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
