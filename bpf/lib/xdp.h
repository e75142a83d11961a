/* A frame as the driver hands it over, before the kernel makes anything of it: from frame to struct flow, drops and events.
 * Only what XDP can deal with alone is taken up: TCP and UDP, whole datagrams, headers without options. */
#pragma once

#include "lib/event.h"

/* What all of it begins with. */
struct headers4 {
	struct iphdr ip;
	struct udphdr ports; /* of TCP, too */
} __attribute__((packed));

struct headers6 {
	struct ipv6hdr ip;
	struct udphdr ports;
} __attribute__((packed));

static __always_inline void *frame_start(const struct xdp_md *xdp)
{
	return (void *)(long)xdp->data;
}

static __always_inline void *frame_end(const struct xdp_md *xdp)
{
	return (void *)(long)xdp->data_end;
}

/* Direct access to len bytes at off; NULL: they are not there. */
static __always_inline void *frame_at(const struct xdp_md *xdp, __u32 off, __u32 len)
{
	void *header = frame_start(xdp) + off;

	return header + len <= frame_end(xdp) ? header : NULL;
}

static __always_inline __u32 network_length(const struct flow *flow)
{
	return flow->shape & SHAPE_V6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
}

/* Length of the IP packet; 0: not for us. */
static __always_inline __u32 frame_parse4(const struct xdp_md *xdp, struct flow *flow)
{
	const struct iphdr *ip = frame_at(xdp, ETH_HLEN, sizeof(*ip));

	if (!config_enable_ipv4 || !ip || ip->version != 4 || ip->ihl != 5 || ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return 0;
	flow->source = addr_from_v4(ip->saddr);
	flow->destination = addr_from_v4(ip->daddr);
	flow->protocol = ip->protocol;
	flow->ttl = ip->ttl;
	return bpf_ntohs(ip->tot_len);
}

static __always_inline __u32 frame_parse6(const struct xdp_md *xdp, struct flow *flow)
{
	const struct ipv6hdr *ip = frame_at(xdp, ETH_HLEN, sizeof(*ip));

	if (!config_enable_ipv6 || !ip || ip->version != 6)
		return 0;
	__builtin_memcpy(&flow->source, &ip->saddr, 16);
	__builtin_memcpy(&flow->destination, &ip->daddr, 16);
	if (addr_is_v4(&flow->source) || addr_is_v4(&flow->destination))
		return 0;
	flow->shape = SHAPE_V6;
	flow->protocol = ip->nexthdr;
	flow->ttl = ip->hop_limit;
	return sizeof(*ip) + bpf_ntohs(ip->payload_len);
}

static __always_inline bool frame_parse_transport(const struct xdp_md *xdp, struct flow *flow, __u32 length)
{
	__u32 offset = ETH_HLEN + network_length(flow), needed = sizeof(struct udphdr);
	const struct udphdr *ports = frame_at(xdp, offset, needed);

	flow->l4_offset = offset;
	if (flow->protocol == IPPROTO_TCP) {
		const struct tcphdr *tcp = frame_at(xdp, offset, needed = sizeof(*tcp));

		if (!tcp || tcp->doff < 5)
			return false;
		flow->tcp_flags = ((const __u8 *)tcp)[13];
	} else if (flow->protocol != IPPROTO_UDP) {
		return false;
	}
	if (!ports || offset + needed > ETH_HLEN + length)
		return false;
	flow->source_port = ports->source;
	flow->destination_port = ports->dest;
	return true;
}

/* Length of the IP packet, which the frame may pad; 0: the packet is somebody else's matter. */
static __always_inline __u32 frame_parse(struct xdp_md *xdp, struct flow *flow)
{
	const struct ethhdr *eth = frame_at(xdp, 0, sizeof(*eth));
	__u32 length;

	if (!eth)
		return 0;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		length = frame_parse4(xdp, flow);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		length = frame_parse6(xdp, flow);
	else
		return 0;
	flow->length = bpf_xdp_get_buff_len(xdp);
	return length && ETH_HLEN + length <= flow->length && frame_parse_transport(xdp, flow, length) ? length : 0;
}

STAGE int frame_event(struct xdp_md *xdp, const struct flow *flow, __u32 type, __u32 reason)
{
	if (!flow)
		return 0;
	return event_put(flow, type, reason, xdp->ingress_ifindex, flow->length, frame_start(xdp), frame_end(xdp));
}

/* As drop(): counted, and always told. */
static __always_inline int frame_drop(struct xdp_md *xdp, struct flow *flow, int reason)
{
	count_frame(flow->length, reason, flow->direction);
	if (events_on()) {
		flow->verdict = VERDICT_DROPPED;
		flow->packets = 1;
		frame_event(xdp, flow, EVENT_DROP, reason);
	}
	return XDP_DROP;
}
