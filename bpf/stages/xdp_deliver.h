/* The last step of a frame that turns back in XDP: by the node's routes, or through the tunnel to another node. What the
 * kernel should have a say in is left to it, and tc deals with it (XDP_PASS): no neighbour, too big, no hops left. */
#pragma once

#include "lib/xdp.h"
#include "maps/neighbours.h"
#include "maps/netdevs.h"
#include "stages/encap.h"
#include "stages/nat.h"
#include "stages/xdp_rewrite.h"

#define FIB_SOURCE (1U << 4) /* BPF_FIB_LOOKUP_SRC, since Linux 6.7 */
#define CONFIRM (10 * SECOND)

/* A packet in ten seconds for each neighbour takes the way through the kernel, which then looks after it: the first of a
 * connection in its direction, or one after a second in which the connection's use was not noted. */
static __always_inline bool neighbour_is_due(const struct bpf_fib_lookup *fib, bool v6)
{
	struct neighbour_key key = { .ifindex = fib->ifindex };
	__u64 now = bpf_ktime_get_coarse_ns(), *confirmed;

	if (v6)
		__builtin_memcpy(&key.address, fib->ipv6_dst, 16);
	else
		key.address = addr_from_v4(fib->ipv4_dst);
	confirmed = bpf_map_lookup_elem(&cilium_xdp_neighbours, &key);
	if (confirmed && now - *confirmed < CONFIRM)
		return false;
	bpf_map_update_elem(&cilium_xdp_neighbours, &key, &now, BPF_ANY);
	return true;
}

/* Frames in several pieces go back where they came from: not every driver sends those of others. */
static __always_inline bool takes_frames(const struct xdp_md *xdp, const struct flow *flow, __u32 ifindex)
{
	const struct netdev *device;

	if (ifindex == xdp->ingress_ifindex)
		return true;
	device = bpf_map_lookup_elem(&cilium_netdev, &ifindex);
	return device && device->flags & NETDEV_TAKES_FRAMES && flow->length == xdp->data_end - xdp->data;
}

/* The way, and both MAC addresses; false: it is the kernel's matter. In: addresses and length. `v6`: of the packet that is
 * sent; `fresh`: its connection is new or was silent. */
static __always_inline bool find_way(struct xdp_md *xdp, const struct flow *flow, struct bpf_fib_lookup *fib, bool v6,
				     bool fresh, __u32 flags)
{
	fib->family = v6 ? AF_INET6 : AF_INET;
	fib->ifindex = xdp->ingress_ifindex;
	if (bpf_fib_lookup(xdp, fib, sizeof(*fib), flags) != BPF_FIB_LKUP_RET_SUCCESS)
		return false;
	return takes_frames(xdp, flow, fib->ifindex) && !(fresh && neighbour_is_due(fib, v6));
}

static __always_inline bool is_fresh(const struct flow *flow, const struct nat_entry *mapping)
{
	return flow->opens || bpf_ktime_get_coarse_ns() - mapping->used >= SECOND;
}

/* `device`: enum netdev_flags of the one that the frame came by. */
static __always_inline int send_frame(const struct xdp_md *xdp, __u32 ifindex, __u32 device)
{
	if (ifindex == xdp->ingress_ifindex && !(device & NETDEV_TX_WAITS))
		return XDP_TX;
	return bpf_redirect(ifindex, 0);
}

static __always_inline bool write_way(struct xdp_md *xdp, const struct flow *flow, const struct bpf_fib_lookup *fib)
{
	struct ethhdr *eth = frame_at(xdp, 0, sizeof(*eth) + sizeof(struct iphdr));

	if (!eth)
		return false;
	__builtin_memcpy(eth->h_dest, fib->dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, fib->smac, ETH_ALEN);
	if (flow->shape & SHAPE_V6) {
		((struct ipv6hdr *)(eth + 1))->hop_limit--;
	} else {
		struct iphdr *ip = (struct iphdr *)(eth + 1);

		ip->check = one_hop_less(ip->check);
		ip->ttl--;
	}
	return true;
}

/* `length`: of the IP packet. `device`: see send_frame. In: the mapping of cilium_nat_work. Out: an XDP action. */
STAGE int frame_by_route(struct xdp_md *xdp, struct flow *flow, __u32 length, __u32 device)
{
	struct nat_work *work = nat_work();
	struct bpf_fib_lookup fib = {};
	bool v6;

	if (!flow || !work || flow->ttl <= 1 || frame_sum(xdp, flow, length) == SUM_PENDING)
		return XDP_PASS;
	v6 = flow->shape & SHAPE_V6;
	fib.tot_len = length;
	if (v6) {
		__builtin_memcpy(fib.ipv6_src, &work->mapping.source, 16);
		__builtin_memcpy(fib.ipv6_dst, &work->mapping.destination, 16);
	} else {
		fib.ipv4_src = work->mapping.source.words[3];
		fib.ipv4_dst = work->mapping.destination.words[3];
	}
	if (!find_way(xdp, flow, &fib, v6, is_fresh(flow, &work->mapping), 0))
		return XDP_PASS;
	if (frame_rewrite(xdp, flow, &work->mapping, ETH_HLEN) || !write_way(xdp, flow, &fib))
		return frame_drop(xdp, flow, DROP_ERROR_WRITING_TO_PACKET);
	count_frame(flow->length, DROP_NONE, DIRECTION_INGRESS);
	return send_frame(xdp, fib.ifindex, device);
}
