/* Through the tunnel as the tunnel's device does it (stages/encap.h), in XDP: outer headers are put in front of the frame. */
#pragma once

#include "stages/xdp_deliver.h"

#define FLOW_PORTS 49152 /* and above: source ports that tell flows apart for routers between (RFC 7348 5) */
#define VXLAN_HAS_VNI (1U << 27)
#define VNI_SHIFT 8
#define ECN_MASK 3
#define ECN_CE 3
#define ECN_ECT0 2

/* VXLAN (RFC 7348) and Geneve without options (RFC 8926): both have 8 bytes, and the VNI in the same place. */
struct tunnel_header {
	__be32 kind, vni;
};

struct outer4 {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	struct tunnel_header tunnel;
} __attribute__((packed));

struct outer6 {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct udphdr udp;
	struct tunnel_header tunnel;
} __attribute__((packed));

/* Congestion shows through the tunnel (RFC 6040). */
static __always_inline __u8 outer_ecn(const struct xdp_md *xdp, const struct flow *flow)
{
	const __u8 *ip = frame_at(xdp, ETH_HLEN, 2);
	__u8 ecn;

	if (!ip)
		return 0;
	ecn = (flow->shape & SHAPE_V6 ? ip[1] >> 4 : ip[1]) & ECN_MASK;
	return ecn == ECN_CE ? ECN_ECT0 : ecn;
}

static __always_inline __be16 flow_port(const struct flow *flow)
{
	return bpf_htons(FLOW_PORTS + (flow_hash(flow) & (65535 - FLOW_PORTS)));
}

static __always_inline void write_macs_of(struct ethhdr *eth, const struct bpf_fib_lookup *fib, __be16 protocol)
{
	__builtin_memcpy(eth->h_dest, fib->dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, fib->smac, ETH_ALEN);
	eth->h_proto = protocol;
}

/* `length`: of the frame inside. */
static __always_inline void write_tunnel(struct udphdr *udp, struct tunnel_header *tunnel, const struct flow *flow,
					 __u32 length)
{
	udp->source = flow_port(flow);
	udp->dest = bpf_htons(config_tunnel_port);
	udp->len = bpf_htons(sizeof(*udp) + sizeof(*tunnel) + length);
	udp->check = 0;
	tunnel->kind = config_tunnel_protocol == TUNNEL_GENEVE ? bpf_htonl(ETH_P_TEB) : bpf_htonl(VXLAN_HAS_VNI);
	tunnel->vni = bpf_htonl(tunnel_identity(flow) << VNI_SHIFT);
}

static __always_inline bool encapsulate4(struct xdp_md *xdp, const struct flow *flow, const struct bpf_fib_lookup *fib,
					 const union addr *endpoint, __u32 length, __u8 ecn)
{
	struct outer4 *outer = frame_at(xdp, 0, sizeof(*outer));

	if (!outer)
		return false;
	write_macs_of(&outer->eth, fib, bpf_htons(ETH_P_IP));
	__builtin_memset(&outer->ip, 0, sizeof(outer->ip));
	outer->ip.version = 4;
	outer->ip.ihl = sizeof(outer->ip) / 4;
	outer->ip.tos = ecn;
	outer->ip.tot_len = bpf_htons(sizeof(*outer) - ETH_HLEN + length);
	outer->ip.id = bpf_get_prandom_u32();
	outer->ip.ttl = TUNNEL_TTL;
	outer->ip.protocol = IPPROTO_UDP;
	outer->ip.saddr = fib->ipv4_src;
	outer->ip.daddr = endpoint->words[3];
	outer->ip.check = fold(bpf_csum_diff(NULL, 0, (__be32 *)&outer->ip, sizeof(outer->ip), 0));
	write_tunnel(&outer->udp, &outer->tunnel, flow, length);
	return true;
}

/* UDP over IPv6 has a checksum (RFC 8200 8.1), over all that is inside. What that sums up to is known without reading it:
 * a transport with a correct checksum to the opposite of its pseudo-header, an IPv4 header to nothing. */
static __always_inline bool write_outer_sum(struct xdp_md *xdp, const struct flow *flow, const struct nat_entry *inside,
					    __u32 length)
{
	struct { struct outer6 outer; struct ethhdr eth; } __attribute__((packed)) *frame;
	__be32 *ip;
	__s64 sum;

	frame = frame_at(xdp, 0, sizeof(*frame));
	if (!frame)
		return false;
	sum = pseudo_sum((union addr *)&frame->outer.ip.saddr, IPPROTO_UDP, bpf_ntohs(frame->outer.udp.len));
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&frame->outer.udp, sizeof(struct udphdr) + sizeof(struct tunnel_header), sum);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&frame->eth, 2 * ETH_ALEN, sum_add(sum, frame->eth.h_proto));
	if (flow->shape & SHAPE_V6) {
		ip = frame_at(xdp, sizeof(*frame), sizeof(struct ipv6hdr));
		if (!ip)
			return false;
		sum = bpf_csum_diff(NULL, 0, ip, sizeof(struct ipv6hdr), sum);
	}
	sum = without_pseudo(sum, &inside->source, flow->protocol, length - ETH_HLEN - network_length(flow));
	frame->outer.udp.check = never_zero(fold(sum));
	return true;
}

static __always_inline bool encapsulate6(struct xdp_md *xdp, const struct flow *flow, const struct bpf_fib_lookup *fib,
					 const union addr *endpoint, __u32 length, __u8 ecn)
{
	struct outer6 *outer = frame_at(xdp, 0, sizeof(*outer));

	if (!outer)
		return false;
	write_macs_of(&outer->eth, fib, bpf_htons(ETH_P_IPV6));
	__builtin_memset(&outer->ip, 0, sizeof(outer->ip));
	outer->ip.version = 6;
	outer->ip.flow_lbl[0] = ecn << 4;
	outer->ip.payload_len = bpf_htons(sizeof(outer->udp) + sizeof(outer->tunnel) + length);
	outer->ip.nexthdr = IPPROTO_UDP;
	outer->ip.hop_limit = TUNNEL_TTL;
	__builtin_memcpy(&outer->ip.saddr, fib->ipv6_src, 16);
	__builtin_memcpy(&outer->ip.daddr, endpoint, 16);
	write_tunnel(&outer->udp, &outer->tunnel, flow, length);
	return true;
}

/* As frame_by_route, to the node that lives at `endpoint`. */
STAGE int frame_by_tunnel(struct xdp_md *xdp, struct flow *flow, const union addr *endpoint, __u32 length, __u32 device)
{
	struct nat_work *work = nat_work();
	struct bpf_fib_lookup fib = {};
	enum frame_sum sum;
	__u32 outer;
	__u8 ecn;
	bool v6;

	if (!flow || !endpoint || !work)
		return XDP_PASS;
	v6 = !addr_is_v4(endpoint);
	sum = frame_sum(xdp, flow, length);
	if (sum == SUM_PENDING || (sum == SUM_NONE && v6))
		return XDP_PASS;
	outer = v6 ? sizeof(struct outer6) : sizeof(struct outer4);
	fib.tot_len = outer + length;
	if (v6)
		__builtin_memcpy(fib.ipv6_dst, endpoint, 16);
	else
		fib.ipv4_dst = endpoint->words[3];
	if (!find_way(xdp, flow, &fib, v6, is_fresh(flow, &work->mapping), FIB_SOURCE))
		return XDP_PASS;
	resolve_identities(flow);
	ecn = outer_ecn(xdp, flow);
	if (bpf_xdp_adjust_head(xdp, v6 ? -(int)sizeof(struct outer6) : -(int)sizeof(struct outer4)))
		return XDP_PASS;
	length += ETH_HLEN;
	if (frame_rewrite(xdp, flow, &work->mapping, outer + ETH_HLEN) ||
	    !(v6 ? encapsulate6(xdp, flow, &fib, endpoint, length, ecn) && write_outer_sum(xdp, flow, &work->mapping, length)
		 : encapsulate4(xdp, flow, &fib, endpoint, length, ecn)))
		return frame_drop(xdp, flow, DROP_ERROR_WRITING_TO_PACKET);
	count_frame(flow->length, DROP_NONE, DIRECTION_INGRESS);
	return send_frame(xdp, fib.ifindex, device);
}
