/* Writing one end of a packet anew: address, port and every checksum that covers them. */
#pragma once

#include "lib/common.h"
#include "lib/drop.h"
#include "lib/flow.h"
#include "maps/nat.h"

#define CSUM_IPV6 (1ULL << 7) /* BPF_F_IPV6 since Linux 6.16: an address has no checksum of its own to cancel it */

enum rewrite_end { REWRITE_SOURCE = 0, REWRITE_DESTINATION = 1 };

static __always_inline __u32 checksum_at(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return offsetof(struct udphdr, check);
	default: /* ICMP, ICMPv6 */
		return offsetof(struct icmphdr, checksum);
	}
}

static __always_inline __u32 port_at(__u8 protocol, enum rewrite_end end)
{
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
		return offsetof(struct icmphdr, un.echo.id);
	return end == REWRITE_SOURCE ? 0 : 2;
}

static __always_inline bool can_rewrite(const struct flow *flow)
{
	switch (flow->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return true;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return flow->shape & (SHAPE_ECHO | SHAPE_ICMP_ERROR);
	case IPPROTO_SCTP: /* addresses only: the CRC, which would need the payload, does not cover them */
		return true;
	default:
		return false;
	}
}

static __always_inline bool has_checksum(const struct flow *flow)
{
	return !(flow->shape & SHAPE_LATER_FRAGMENT) && flow->protocol != IPPROTO_SCTP;
}

static __always_inline __u64 checksum_flags(__u8 protocol)
{
	return protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

static __always_inline int rewrite_address4(struct __sk_buff *skb, const struct flow *flow, enum rewrite_end end,
					    __be32 old, __be32 new)
{
	__u32 at = end == REWRITE_SOURCE ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr);
	__u32 sum = flow->l4_offset + checksum_at(flow->protocol);

	if (bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), old, new, 4))
		return DROP_ERROR_WHILE_CORRECTING_L3_CHECKSUM;
	if (has_checksum(flow) && flow->protocol != IPPROTO_ICMP &&
	    bpf_l4_csum_replace(skb, sum, old, new, BPF_F_PSEUDO_HDR | checksum_flags(flow->protocol) | 4))
		return DROP_ERROR_WHILE_CORRECTING_L4_CHECKSUM;
	return bpf_skb_store_bytes(skb, ETH_HLEN + at, &new, 4, 0) ? DROP_ERROR_WRITING_TO_PACKET : 0;
}

static __always_inline int rewrite_address6(struct __sk_buff *skb, const struct flow *flow, enum rewrite_end end,
					    const union addr *old, const union addr *new)
{
	__u32 at = end == REWRITE_SOURCE ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr);
	__u64 flags = BPF_F_PSEUDO_HDR | checksum_flags(flow->protocol);
	__u32 sum = flow->l4_offset + checksum_at(flow->protocol);
	__s64 diff = bpf_csum_diff((__be32 *)old, 16, (__be32 *)new, 16, 0);

	if (has_checksum(flow) && bpf_l4_csum_replace(skb, sum, 0, diff, flags | CSUM_IPV6) &&
	    bpf_l4_csum_replace(skb, sum, 0, diff, flags))
		return DROP_ERROR_WHILE_CORRECTING_L4_CHECKSUM;
	return bpf_skb_store_bytes(skb, ETH_HLEN + at, new, 16, 0) ? DROP_ERROR_WRITING_TO_PACKET : 0;
}

static __always_inline int rewrite_port(struct __sk_buff *skb, const struct flow *flow, enum rewrite_end end,
					__be16 old, __be16 new)
{
	__u32 sum = flow->l4_offset + checksum_at(flow->protocol);
	__u32 at = flow->l4_offset + port_at(flow->protocol, end);

	if (old == new || flow->shape & SHAPE_LATER_FRAGMENT)
		return 0;
	if (flow->protocol == IPPROTO_SCTP)
		return DROP_UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE;
	if (bpf_l4_csum_replace(skb, sum, old, new, checksum_flags(flow->protocol) | 2))
		return DROP_ERROR_WHILE_CORRECTING_L4_CHECKSUM;
	return bpf_skb_store_bytes(skb, at, &new, 2, 0) ? DROP_ERROR_WRITING_TO_PACKET : 0;
}

/* One end of the packet itself; 0 or the reason to drop. The flow is brought up to date. */
STAGE int rewrite(struct __sk_buff *skb, struct flow *flow, __u32 end, const union addr *address, __be16 port)
{
	union addr old, new;
	__be16 old_port;
	int reason;

	if (!flow || !address)
		return DROP_ERROR_WRITING_TO_PACKET;
	old = end == REWRITE_SOURCE ? flow->source : flow->destination;
	old_port = end == REWRITE_SOURCE ? flow->source_port : flow->destination_port;
	new = *address;
	if (flow->shape & SHAPE_V6)
		reason = rewrite_address6(skb, flow, end, &old, &new);
	else
		reason = rewrite_address4(skb, flow, end, old.words[3], new.words[3]);
	if (!reason && !(flow->shape & SHAPE_ICMP_ERROR))
		reason = rewrite_port(skb, flow, end, old_port, port);
	if (reason)
		return reason;
	if (end == REWRITE_SOURCE) {
		flow->source = new;
		flow->source_port = port;
	} else {
		flow->destination = new;
		flow->destination_port = port;
	}
	if (flow->shape & SHAPE_ECHO)
		flow->source_port = flow->destination_port = port;
	return 0;
}

/* One end of the packet that an ICMP error quotes. Its IP checksum and the error's own are corrected; its transport
 * checksum is left alone: it need not be quoted (RFC 792), and nobody checks it. */
STAGE int rewrite_quoted(struct __sk_buff *skb, const struct flow *outer, const struct quoted *inner, __u32 end,
			 const struct nat_entry *to)
{
	const union addr *address;
	__be16 port;
	__u32 sum, network, at;
	__be16 old_port;
	union addr old;

	if (!outer || !inner || !to)
		return DROP_ERROR_WRITING_TO_PACKET;
	address = end == REWRITE_SOURCE ? &to->source : &to->destination;
	port = end == REWRITE_SOURCE ? to->source_port : to->destination_port;
	old = end == REWRITE_SOURCE ? inner->source : inner->destination;
	old_port = end == REWRITE_SOURCE ? inner->source_port : inner->destination_port;
	sum = outer->l4_offset + offsetof(struct icmphdr, checksum);
	network = outer->l4_offset + sizeof(struct icmphdr);
	if (outer->shape & SHAPE_V6) {
		union addr new = *address;
		__s64 diff = bpf_csum_diff((__be32 *)&old, 16, (__be32 *)&new, 16, 0);

		at = network + (end == REWRITE_SOURCE ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr));
		if (bpf_l4_csum_replace(skb, sum, 0, diff, 0))
			return DROP_ERROR_WHILE_CORRECTING_L4_CHECKSUM;
		if (bpf_skb_store_bytes(skb, at, &new, 16, 0))
			return DROP_ERROR_WRITING_TO_PACKET;
	} else {
		__be32 new = address->words[3];

		/* Address and header checksum cancel out in the error's checksum. */
		at = network + (end == REWRITE_SOURCE ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));
		if (bpf_l3_csum_replace(skb, network + offsetof(struct iphdr, check), old.words[3], new, 4))
			return DROP_ERROR_WHILE_CORRECTING_L3_CHECKSUM;
		if (bpf_skb_store_bytes(skb, at, &new, 4, 0))
			return DROP_ERROR_WRITING_TO_PACKET;
	}
	if (old_port == port)
		return 0;
	/* An echo has one identifier, which went with the source. */
	if (end == REWRITE_DESTINATION && (inner->protocol == IPPROTO_ICMP || inner->protocol == IPPROTO_ICMPV6))
		return 0;
	if (bpf_l4_csum_replace(skb, sum, old_port, port, 2))
		return DROP_ERROR_WHILE_CORRECTING_L4_CHECKSUM;
	at = inner->l4_offset + port_at(inner->protocol, end);
	return bpf_skb_store_bytes(skb, at, &port, 2, 0) ? DROP_ERROR_WRITING_TO_PACKET : 0;
}
