/* from_overlay: tcx ingress of the tunnel device. The sender's identity comes in the tunnel key, put there by the node
 * that judged its egress. */
#include "lib/common.h"
#include "stages/admit.h"
#include "stages/balance.h"
#include "stages/deliver.h"
#include "stages/deny.h"

/* The other node calls itself host, and every other node by a number that all know; here it is a remote node, or what
 * the ipcache knows more precisely. */
static __always_inline __u32 sender_identity(__u32 carried, const union addr *address)
{
	const struct ipcache_entry *entry;

	if (carried != IDENTITY_HOST && carried != IDENTITY_REMOTE_NODE && carried != IDENTITY_KUBE_APISERVER)
		return carried;
	entry = ipcache_at(address);
	if (entry && (entry->identity == IDENTITY_KUBE_APISERVER ||
		      (entry->identity & SCOPE_MASK) == SCOPE_REMOTE_NODE))
		return entry->identity;
	return carried == IDENTITY_HOST ? IDENTITY_REMOTE_NODE : carried;
}

/* Inner frames bear the MACs of another node's pods: the stack must not take them for somebody else's. */
static __always_inline void take_in(struct __sk_buff *skb)
{
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
}

/* A backend of this node's services, on another node, answers through it: on to the client. */
static __always_inline bool answers_through(struct __sk_buff *skb, struct flow *flow, const struct endpoint *row)
{
	return config_services && row->flags & ENDPOINT_HOST && may_be_back(flow) && !nat_back(skb, flow);
}

/* As any other packet to an address that is not of this node. A function of its own for the sake of the stack. */
STAGE int deliver_back(struct __sk_buff *skb, struct flow *flow)
{
	const struct ipcache_entry *peer;

	if (!flow)
		return TC_ACT_SHOT;
	peer = ipcache_at(&flow->destination);
	return behind_tunnel(peer) ? deliver_by_tunnel(skb, flow, peer) : deliver_by_route(skb, flow);
}

/* Its node carries the answer to who asked, or a service's node does. */
static __always_inline int deny_remote(struct __sk_buff *skb, struct flow *flow, int reason)
{
	drop(skb, flow, reason);
	if (!config_deny_response || !deny_answered(skb, flow, reason) || (config_services && unbalance(skb, flow)))
		return TC_ACT_SHOT;
	return deliver_back(skb, flow);
}

SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	struct flow flow = { .direction = DIRECTION_INGRESS, .point = FROM_OVERLAY, .policy_epoch = policy_epoch() };
	struct bpf_tunnel_key key = {};
	const struct endpoint *pod;
	int reason;

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return consume(skb, &flow, DROP_UNSUPPORTED_L2_PROTOCOL);
	reason = parse(skb, &flow);
	if (unlikely(reason))
		return drop(skb, &flow, reason);
	/* The first field is enough: the key's family does not matter, but the kernel wants to be told. */
	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0) &&
	    bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6))
		return drop(skb, &flow, DROP_ERROR_RETRIEVING_TUNNEL_KEY);
	flow.tunnel_vni = key.tunnel_id;
	if (key.tunnel_id == IDENTITY_UNKNOWN)
		return drop(skb, &flow, DROP_INVALID_IDENTITY);
	flow.source_identity = sender_identity(key.tunnel_id, &flow.source);
	pod = endpoint_at(&flow.destination);
	if (unlikely(!pod || addr_is_reserved(&flow.destination)))
		return drop(skb, &flow, DROP_STALE_OR_UNROUTABLE_IP);
	if (unlikely(answers_through(skb, &flow, pod))) {
		count(skb, DROP_NONE, DIRECTION_INGRESS);
		return deliver_by_route(skb, &flow);
	}
	flow_to(&flow, pod);
	reason = admit(skb, &flow);
	if (reason)
		return deny_remote(skb, &flow, reason);
	take_in(skb);
	if (pod->flags & ENDPOINT_HOST) {
		count(skb, DROP_NONE, DIRECTION_INGRESS);
		return deliver_to_stack(skb, &flow);
	}
	reason = reply_to_pod(skb, &flow);
	if (!reason && config_dsr == DSR_GENEVE)
		reason = dsr_keep(skb, &flow);
	if (reason && reason != NAT_NOT_OURS)
		return drop(skb, &flow, reason);
	return deliver_to_pod(skb, &flow, pod);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
