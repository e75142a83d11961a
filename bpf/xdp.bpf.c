/* The first hook on devices that connect this node to others: before there is an skb. What a client outside sends to a
 * service whose backend is on another node turns back here, and so do the replies; the connections are those of tc
 * (bpf/netdev.bpf.c), packet by packet. Everything else goes on to tc: pods and sockets of this node, fragments, options,
 * ICMP, refusals, packets that are to carry an option. */
#include "lib/common.h"
#include "stages/balance.h"
#include "stages/xdp_deliver.h"
#include "stages/xdp_encap.h"

/* The device, if the frame is for it. What others may read too (a switch that floods, a capture) is not for us. */
static __always_inline const struct netdev *addressed(const struct xdp_md *xdp)
{
	const struct ethhdr *eth = frame_at(xdp, 0, sizeof(*eth));
	__u32 ifindex = xdp->ingress_ifindex;
	const struct netdev *device = bpf_map_lookup_elem(&cilium_netdev, &ifindex);

	return eth && device && !__builtin_memcmp(eth->h_dest, device->mac, ETH_ALEN) ? device : NULL;
}

static __always_inline void tell(struct xdp_md *xdp, struct flow *flow, const struct nat_entry *mapping)
{
	if (!balance_tells(flow, mapping))
		return;
	frame_event(xdp, flow, EVENT_TRACE, TRACE_NEW);
	balance_told(flow);
}

/* What reaches this node from outside and may be for a service; `own`: it is addressed to the node itself. */
static __always_inline int from_client(struct xdp_md *xdp, struct flow *flow, bool own, __u32 length,
				       __u32 device)
{
	struct nat_work *work = nat_work();
	const struct ipcache_entry *peer;
	int reason;

	if (!work || (own ? encapsulated(flow) : flow->ttl <= 1))
		return XDP_PASS;
	reason = balance_find(flow, SERVICE_EXTERNAL, own ? OF_THIS_NODE : NOT_OF_NODE, xdp->ingress_ifindex);
	if (reason == NAT_NOT_OURS || (reason == DROP_SERVICE_BACKEND_NOT_FOUND && !flow->silent))
		return XDP_PASS;
	if (reason)
		return frame_drop(xdp, flow, reason);
	if (flow->opens)
		tell(xdp, flow, &work->mapping);
	if (endpoint_at(&work->mapping.destination))
		return XDP_PASS;
	reason = balance_client(flow, &flow->source);
	if (reason)
		return frame_drop(xdp, flow, reason);
	if (config_dsr && work->mapping.flags & NAT_DSR && dsr_speaks(flow))
		return XDP_PASS;
	peer = ipcache_at(&work->mapping.destination);
	if (behind_tunnel(peer))
		return frame_by_tunnel(xdp, flow, &peer->tunnel_endpoint, length, device);
	return frame_by_route(xdp, flow, length, device);
}

/* A reply to what left with an address of this node. Those for pods and sockets of this node are left alone. */
static __always_inline int to_who_asked(struct xdp_md *xdp, struct flow *flow, __u32 length, __u32 device)
{
	struct nat_work *work = nat_work();

	if (!work || !work->mapping.service || endpoint_at(&work->mapping.destination))
		return XDP_PASS;
	flow->opens = !(work->mapping.flags & NAT_REPLIED); /* the other direction, to other neighbours */
	return frame_by_route(xdp, flow, length, device);
}

static __always_inline bool is_reply(const struct flow *flow)
{
	struct nat_work *work = nat_work();

	return work && may_be_back(flow) && !nat_find_back(work, flow);
}

static __always_inline int from_cable(struct xdp_md *xdp)
{
	struct flow flow = { .direction = DIRECTION_INGRESS, .point = FROM_NETWORK };
	__u32 length = frame_parse(xdp, &flow);
	const struct netdev *device;
	const struct endpoint *row;

	if (!length)
		return XDP_PASS;
	device = addressed(xdp);
	if (!device || addr_is_reserved(&flow.destination))
		return XDP_PASS;
	row = endpoint_at(&flow.destination);
	if (row && !(row->flags & ENDPOINT_HOST))
		return XDP_PASS;
	if (row && is_reply(&flow))
		return to_who_asked(xdp, &flow, length, device->flags);
	return from_client(xdp, &flow, row, length, device->flags);
}

/* In the driver, which may hand over a large frame in several pieces. */
SEC("xdp.frags")
int from_wire(struct xdp_md *xdp)
{
	return from_cable(xdp);
}

/* In the stack. There, a program that takes pieces gets a copy of the packet, and tc behind it loses the Ethernet header:
 * the length of the link layer's header is not copied. */
SEC("xdp")
int from_wire_generic(struct xdp_md *xdp)
{
	return from_cable(xdp);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
