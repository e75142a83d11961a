/* The hooks on the host side of every pod's veth pair. Loaded once per node: which pod it is says the row of the
 * packet's address. from_lxc: what a pod sends. to_lxc: what the node's own stack sends to a pod. */
#include "lib/common.h"
#include "stages/neighbour.h"
#include "stages/admit.h"
#include "stages/balance.h"
#include "stages/deliver.h"
#include "stages/deny.h"
#include "stages/encap.h"
#include "stages/host_firewall.h"
#include "stages/near.h"
#include "stages/reject.h"

/* Anti-spoofing: the source's row must name the interface the packet came from. */
static __always_inline const struct endpoint *sender(struct __sk_buff *skb, const struct flow *flow)
{
	const struct endpoint *pod = endpoint_near(NEAR_SENDER, &flow->source, flow->policy_epoch);

	if (likely(pod && pod->ifindex == skb->ifindex && !addr_is_reserved(&flow->source)))
		return pod;
	pod = endpoint_behind(skb->ifindex);
	return pod && pod->flags & ENDPOINT_NO_SOURCE_CHECK ? pod : NULL;
}

/* Local chatter on a link with two ends: nobody else is there to hear it. */
static __always_inline int chatter(const struct flow *flow)
{
	if (flow->protocol == IPPROTO_IGMP)
		return DROP_IGMP_HANDLED;
	if (addr_is_link_local(&flow->source) && addr_is_multicast(&flow->destination))
		return DROP_MULTICAST_HANDLED;
	return 0;
}

/* A pod hears at once that it may not, from whom it asked. */
static __always_inline int deny_sender(struct __sk_buff *skb, struct flow *flow, int reason)
{
	drop(skb, flow, reason);
	if (!config_deny_response || !deny_answered(skb, flow, reason) || reply_to_pod(skb, flow) || !turn_macs(skb))
		return TC_ACT_SHOT;
	return bpf_redirect_peer(skb->ifindex, 0);
}

/* Both ends here, or the node itself: one run, one event. */
static __always_inline int to_this_node(struct __sk_buff *skb, struct flow *flow, const struct endpoint *peer)
{
	int reason;

	flow_to(flow, peer);
	flow->flags |= EVENT_LOCAL;
	if (unlikely(peer->flags & ENDPOINT_HOST && encapsulated(flow)))
		return drop(skb, flow, DROP_ENCAPSULATION_TRAFFIC_IS_PROHIBITED);
	reason = admit(skb, flow);
	if (reason)
		return deny_sender(skb, flow, reason);
	count(skb, DROP_NONE, DIRECTION_EGRESS);
	if (peer->flags & ENDPOINT_HOST)
		return deliver_to_stack(skb, flow);
	reason = reply_to_pod(skb, flow);
	if (reason)
		return drop(skb, flow, reason);
	return deliver_to_pod(skb, flow, peer);
}

/* A pod that is a backend answers a client outside in the name of its service. */
static __always_inline int answer_for_service(struct __sk_buff *skb, struct flow *flow)
{
	int reason = unbalance(skb, flow);

	return reason ? drop(skb, flow, reason) : deliver_by_route(skb, flow);
}

static __always_inline int to_elsewhere(struct __sk_buff *skb, struct flow *flow, const struct ipcache_entry *peer)
{
	int reason;

	flow->destination_identity = identity_in(peer, &flow->destination);
	/* Pods may tunnel among themselves. Any other address may be one more of some node. */
	if (unlikely(encapsulated(flow) && (!behind_tunnel(peer) || is_node(flow->destination_identity))))
		return drop(skb, flow, DROP_ENCAPSULATION_TRAFFIC_IS_PROHIBITED);
	if (config_host_firewall && !behind_tunnel(peer))
		heard_by_node(skb, flow);
	reason = admit(skb, flow);
	if (reason)
		return deny_sender(skb, flow, reason);
	count(skb, DROP_NONE, DIRECTION_EGRESS);
	if (behind_tunnel(peer))
		return deliver_by_tunnel(skb, flow, peer);
	if (config_services && (may_be_service(peer) || unlikely(serves_peers())))
		return answer_for_service(skb, flow);
	return deliver_by_route(skb, flow);
}

static __always_inline __u32 whose_address(const struct endpoint *peer, const struct ipcache_entry *remote)
{
	if (peer)
		return OF_THIS_NODE;
	return remote && is_node(remote->identity) ? OF_OTHER_NODE : NOT_OF_NODE;
}

enum { GO_ON = -1 };

/* A pod asks a service in packets, because no socket translated it: what the packet is addressed to becomes a backend.
 * The pod itself may be that: then nobody else has to be asked. An action, or GO_ON. */
static __always_inline int ask_service(struct __sk_buff *skb, struct flow *flow, const struct endpoint *pod, __u32 node)
{
	union addr itself = loopback_for(flow), asker = flow->source;
	int reason;

	if (unlikely(addr_equal(&flow->destination, &itself)))
		reason = nat_back(skb, flow);
	else
		reason = balance(skb, flow, SERVICE_CLUSTER, node);
	if (reason == NAT_NOT_OURS)
		return GO_ON;
	if (reason == DROP_SERVICE_BACKEND_NOT_FOUND && !flow->silent)
		return refuse(skb, flow, true);
	if (reason)
		return drop(skb, flow, reason);
	if (unlikely(addr_equal(&flow->destination, &asker)))
		return deliver_to_pod(skb, flow, pod);
	return GO_ON;
}

SEC("tc")
int from_lxc(struct __sk_buff *skb)
{
	struct flow flow = { .direction = DIRECTION_EGRESS, .point = FROM_ENDPOINT, .policy_epoch = policy_epoch() };
	const struct ipcache_entry *remote = NULL;
	const struct endpoint *pod, *peer;
	int reason;

	/* The tag would leave the node with the packet. */
	if (unlikely(skb->vlan_present)) {
		parse(skb, &flow); /* for the event; whether it can be read does not matter */
		return drop(skb, &flow, DROP_VLAN_FILTERED);
	}
	if (unlikely(skb->protocol == bpf_htons(ETH_P_ARP)))
		return answer_arp(skb, &flow);
	reason = parse(skb, &flow);
	if (unlikely(reason))
		return drop(skb, &flow, reason);
	if (unlikely(is_discovery(&flow)))
		return handle_discovery(skb, &flow);
	pod = sender(skb, &flow);
	if (unlikely(!pod)) {
		reason = chatter(&flow);
		return reason ? consume(skb, &flow, reason) : drop(skb, &flow, DROP_INVALID_SOURCE_IP);
	}
	flow_from(&flow, pod);
	peer = endpoint_near(NEAR_RECEIVER, &flow.destination, flow.policy_epoch);
	if (!peer)
		remote = ipcache_at(&flow.destination);
	if (config_services && unlikely(peer ? peer->flags & ENDPOINT_HOST : may_be_service(remote))) {
		reason = ask_service(skb, &flow, pod, whose_address(peer, remote));
		if (reason != GO_ON)
			return reason;
		peer = endpoint_near(NEAR_RECEIVER, &flow.destination, flow.policy_epoch);
		remote = peer ? NULL : ipcache_at(&flow.destination);
	}
	if (peer && !addr_is_reserved(&flow.destination))
		return to_this_node(skb, &flow, peer);
	if (unlikely(flow.protocol == IPPROTO_IGMP))
		return consume(skb, &flow, DROP_IGMP_HANDLED);
	return to_elsewhere(skb, &flow, remote);
}

SEC("tc")
int to_lxc(struct __sk_buff *skb)
{
	struct flow flow = { .direction = DIRECTION_INGRESS, .point = FROM_STACK, .policy_epoch = policy_epoch() };
	const struct endpoint *pod, *peer;
	int reason;

	if (unlikely(skb->protocol == bpf_htons(ETH_P_ARP)))
		return TC_ACT_OK;
	reason = parse(skb, &flow);
	if (unlikely(reason))
		return drop(skb, &flow, reason);
	if (unlikely(is_discovery(&flow)))
		return TC_ACT_OK;
	pod = endpoint_at(&flow.destination);
	if (unlikely(!pod || pod->ifindex != skb->ifindex)) {
		if (addr_is_multicast(&flow.destination))
			return consume(skb, &flow, DROP_MULTICAST_HANDLED);
		return drop(skb, &flow, DROP_UNKNOWN_L3_TARGET_ADDRESS);
	}
	flow_to(&flow, pod);
	peer = endpoint_at(&flow.source);
	if (peer) {
		if (unlikely(imitated(skb, peer)))
			return drop(skb, &flow, DROP_INVALID_SOURCE_IP);
		flow_from(&flow, peer);
		flow.flags |= EVENT_LOCAL;
	}
	reason = admit(skb, &flow);
	if (reason)
		return deny_stack(skb, &flow, reason);
	reason = reply_to_pod(skb, &flow);
	if (reason)
		return drop(skb, &flow, reason);
	count(skb, DROP_NONE, DIRECTION_INGRESS);
	trace(skb, &flow, TO_ENDPOINT);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
