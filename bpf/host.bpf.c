/* from_host: tcx egress of cilium_host. The route of every pod CIDR points here, so this is how the node's own stack
 * reaches pods: those of this node, and in tunnel mode those of others. */
#include "lib/common.h"
#include "stages/admit.h"
#include "stages/deliver.h"
#include "stages/deny.h"
#include "stages/encap.h"

/* bpf_redirect_peer works from ingress only: the pod's interface is entered as the stack would, and to_lxc judges. */
static __always_inline int to_local_pod(struct __sk_buff *skb, struct flow *flow, const struct endpoint *pod)
{
	if (!write_macs(skb, pod->mac, pod->node_mac))
		return drop(skb, flow, DROP_ERROR_WRITING_TO_PACKET);
	return bpf_redirect(pod->ifindex, 0);
}

static __always_inline int to_remote_pod(struct __sk_buff *skb, struct flow *flow)
{
	const struct ipcache_entry *peer = ipcache_at(&flow->destination);
	const struct endpoint *sender = endpoint_at(&flow->source);
	int reason;

	if (addr_is_multicast(&flow->destination))
		return TC_ACT_OK;
	if (sender) {
		if (unlikely(imitated(skb, sender)))
			return drop(skb, flow, DROP_INVALID_SOURCE_IP);
		flow_from(flow, sender);
	}
	flow->destination_identity = identity_in(peer, &flow->destination);
	if (!behind_tunnel(peer))
		return drop(skb, flow, DROP_UNKNOWN_L3_TARGET_ADDRESS);
	reason = admit(skb, flow);
	if (reason)
		return deny_stack(skb, flow, reason);
	count(skb, DROP_NONE, DIRECTION_EGRESS);
	return deliver_by_tunnel(skb, flow, peer);
}

SEC("tc")
int from_host(struct __sk_buff *skb)
{
	struct flow flow = { .direction = DIRECTION_EGRESS, .point = FROM_HOST, .policy_epoch = policy_epoch() };
	const struct endpoint *pod;
	int reason;

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return TC_ACT_OK;
	reason = parse(skb, &flow);
	if (unlikely(reason))
		return drop(skb, &flow, reason);
	pod = endpoint_at(&flow.destination);
	if (!pod)
		return to_remote_pod(skb, &flow);
	if (pod->flags & ENDPOINT_HOST)
		return TC_ACT_OK;
	return to_local_pod(skb, &flow, pod);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
