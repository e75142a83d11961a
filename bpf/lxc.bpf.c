/* The hooks on the host side of every pod's veth pair. Loaded once per node: which pod it is says the row of the
 * packet's address. from_lxc: what a pod sends. to_lxc: what the node's own stack sends to a pod. */
#include "lib/common.h"
#include "stages/neighbour.h"
#include "stages/admit.h"
#include "stages/deliver.h"
#include "stages/encap.h"

/* Anti-spoofing: the source's row must name the interface the packet came from. */
static __always_inline const struct endpoint *sender(struct __sk_buff *skb, const struct flow *flow)
{
	const struct endpoint *pod = endpoint_at(&flow->source);

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
		return drop(skb, flow, reason);
	count(skb, DROP_NONE, DIRECTION_EGRESS);
	if (peer->flags & ENDPOINT_HOST)
		return deliver_to_stack(skb, flow);
	return deliver_to_pod(skb, flow, peer);
}

static __always_inline int to_elsewhere(struct __sk_buff *skb, struct flow *flow)
{
	const struct ipcache_entry *peer = ipcache_at(&flow->destination);
	int reason;

	flow->destination_identity = identity_in(peer, &flow->destination);
	/* Pods may tunnel among themselves. Any other address may be one more of some node. */
	if (unlikely(encapsulated(flow) && (!behind_tunnel(peer) || is_node(flow->destination_identity))))
		return drop(skb, flow, DROP_ENCAPSULATION_TRAFFIC_IS_PROHIBITED);
	reason = admit(skb, flow);
	if (reason)
		return drop(skb, flow, reason);
	count(skb, DROP_NONE, DIRECTION_EGRESS);
	if (behind_tunnel(peer))
		return deliver_by_tunnel(skb, flow, peer);
	return deliver_by_route(skb, flow);
}

SEC("tc")
int from_lxc(struct __sk_buff *skb)
{
	struct flow flow = { .direction = DIRECTION_EGRESS, .point = FROM_ENDPOINT, .policy_epoch = policy_epoch() };
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
	peer = endpoint_at(&flow.destination);
	if (peer && !addr_is_reserved(&flow.destination))
		return to_this_node(skb, &flow, peer);
	if (unlikely(flow.protocol == IPPROTO_IGMP))
		return consume(skb, &flow, DROP_IGMP_HANDLED);
	return to_elsewhere(skb, &flow);
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
		return drop(skb, &flow, reason);
	count(skb, DROP_NONE, DIRECTION_INGRESS);
	trace(skb, &flow, TO_ENDPOINT);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
