/* Through the tunnel as the tunnel's device does it (stages/encap.h), in XDP: outer headers are put in front of the frame. */
#pragma once

#include "stages/xdp_deliver.h"

#define FLOW_PORTS 49152 /* and above: source ports that tell flows apart for routers between (RFC 7348 5) */
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

static __always_inline struct tunnel_header tunnel_header(const struct flow *flow)
{
	return (struct tunnel_header){
		.kind = config_tunnel_protocol == TUNNEL_GENEVE ? bpf_htonl(ETH_P_TEB) : bpf_htonl(1U << 27),
		.vni = bpf_htonl(tunnel_identity(flow) << VNI_SHIFT),
	};
}

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

/* `length`: of the frame inside. */
static __always_inline struct udphdr outer_udp(const struct flow *flow, __u32 length)
{
	return (struct udphdr){
		.source = flow_port(flow), .dest = bpf_htons(config_tunnel_port),
		.len = bpf_htons(sizeof(struct udphdr) + sizeof(struct tunnel_header) + length),
	};
}

static __always_inline int encapsulate4(struct xdp_md *xdp, const struct flow *flow, const struct bpf_fib_lookup *fib,
					const union addr *endpoint, __u32 length, __u8 ecn)
{
	struct outer4 *outer = frame_at(xdp, 0, sizeof(*outer)), header = { .eth.h_proto = bpf_htons(ETH_P_IP) };

	if (!outer)
		return DROP_ERROR_WRITING_TO_PACKET;
	__builtin_memcpy(header.eth.h_dest, fib->dmac, ETH_ALEN);
	__builtin_memcpy(header.eth.h_source, fib->smac, ETH_ALEN);
	header.ip.version = 4;
	header.ip.ihl = sizeof(header.ip) / 4;
	header.ip.tos = ecn;
	header.ip.tot_len = bpf_htons(sizeof(header) - ETH_HLEN + length);
	header.ip.id = bpf_get_prandom_u32();
	header.ip.ttl = TUNNEL_TTL;
	header.ip.protocol = IPPROTO_UDP;
	header.ip.saddr = fib->ipv4_src;
	header.ip.daddr = endpoint->words[3];
	header.udp = outer_udp(flow, length);
	header.tunnel = tunnel_header(flow);
	*outer = header;
	outer->ip.check = fold(bpf_csum_diff(NULL, 0, (__be32 *)&outer->ip, sizeof(outer->ip), 0));
	return 0;
}

/* UDP over IPv6 has a checksum (RFC 8200 8.1), over all that is inside. What that sums up to is known without reading it:
 * a transport with a correct checksum to the opposite of its pseudo-header, an IPv4 header to nothing. */
static __always_inline __sum16 outer_sum(struct xdp_md *xdp, const struct flow *flow, const struct nat_entry *inside,
					 __u32 length)
{
	const struct { struct outer6 outer; struct ethhdr eth; } __attribute__((packed)) *frame;
	struct { struct udphdr udp; struct tunnel_header tunnel; struct ethhdr eth; __u16 pad; } front = {};
	bool v6 = flow->shape & SHAPE_V6;
	union addr source, destination;
	const struct ipv6hdr *ip;
	__s64 sum;

	frame = frame_at(xdp, 0, sizeof(*frame));
	if (!frame)
		return 0;
	__builtin_memcpy(&source, &frame->outer.ip.saddr, 16);
	__builtin_memcpy(&destination, &frame->outer.ip.daddr, 16);
	front.udp = frame->outer.udp;
	front.tunnel = frame->outer.tunnel;
	front.eth = frame->eth;
	sum = pseudo_sum(&source, &destination, IPPROTO_UDP, true, sizeof(front) - ETH_HLEN - 2 + length, 0, false);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&front, sizeof(front), sum);
	if (v6) {
		ip = frame_at(xdp, sizeof(*frame), sizeof(*ip));
		if (!ip)
			return 0;
		sum = bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), sum);
	}
	sum = pseudo_sum(&inside->source, &inside->destination, flow->protocol, v6,
			 length - ETH_HLEN - network_length(flow), sum, true);
	return never_zero(fold(sum));
}

static __always_inline int encapsulate6(struct xdp_md *xdp, const struct flow *flow, const struct bpf_fib_lookup *fib,
					const union addr *endpoint, const struct nat_entry *inside, __u32 length, __u8 ecn)
{
	struct outer6 *outer = frame_at(xdp, 0, sizeof(*outer)), header = { .eth.h_proto = bpf_htons(ETH_P_IPV6) };

	if (!outer)
		return DROP_ERROR_WRITING_TO_PACKET;
	__builtin_memcpy(header.eth.h_dest, fib->dmac, ETH_ALEN);
	__builtin_memcpy(header.eth.h_source, fib->smac, ETH_ALEN);
	header.ip.version = 6;
	header.ip.flow_lbl[0] = ecn << 4;
	header.ip.payload_len = bpf_htons(sizeof(header.udp) + sizeof(header.tunnel) + length);
	header.ip.nexthdr = IPPROTO_UDP;
	header.ip.hop_limit = TUNNEL_TTL;
	__builtin_memcpy(&header.ip.saddr, fib->ipv6_src, 16);
	__builtin_memcpy(&header.ip.daddr, endpoint, 16);
	header.udp = outer_udp(flow, length);
	header.tunnel = tunnel_header(flow);
	*outer = header;
	outer->udp.check = outer_sum(xdp, flow, inside, length);
	return 0;
}

/* `length`: of the IP packet. In: the mapping of cilium_nat_work. Out: an XDP action. */
STAGE int frame_by_tunnel(struct xdp_md *xdp, struct flow *flow, const union addr *endpoint, __u32 length)
{
	struct nat_work *work = nat_work();
	struct bpf_fib_lookup fib = {};
	enum frame_sum sum;
	__u32 outer;
	int reason;
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
	reason = frame_rewrite(xdp, flow, &work->mapping, outer + ETH_HLEN);
	length += ETH_HLEN;
	if (!reason && v6)
		reason = encapsulate6(xdp, flow, &fib, endpoint, &work->mapping, length, ecn);
	else if (!reason)
		reason = encapsulate4(xdp, flow, &fib, endpoint, length, ecn);
	if (reason)
		return frame_drop(xdp, flow, reason);
	count_frame(flow->length, DROP_NONE, DIRECTION_INGRESS);
	return send_frame(xdp, fib.ifindex);
}
