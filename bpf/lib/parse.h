/* From frame to struct flow: IPv4 and IPv6, extension headers, fragments, transport ports.
 * In: a frame with an Ethernet header. Out: 0, or the reason to drop. */
#pragma once

#include "lib/common.h"
#include "lib/drop.h"
#include "lib/flow.h"
#include "config/node.h"
#include "maps/fragments.h"

/* Extension headers beyond this are nobody's honest traffic. */
#define MAX_EXTENSIONS 6
#define MAX_HEADERS 0x3ff /* bytes in front of the transport header */

struct transport {
	__u32 offset;
	__u8 protocol;
	__u8 fragment; /* enum flow_shape bits */
	__u16 pad;
	__be32 fragment_id;
	__u32 end; /* of the IP packet in the frame; what follows is padding, which no receiver sees */
};

/* Direct access to len bytes at off; pulls them into the linear part if they are not there. NULL: packet too short. */
static __always_inline void *header_at(struct __sk_buff *skb, __u32 off, __u32 len)
{
	void *header = (void *)(long)skb->data + off;

	if (likely(header + len <= (void *)(long)skb->data_end))
		return header;
	if (bpf_skb_pull_data(skb, off + len))
		return NULL;
	header = (void *)(long)skb->data + off;
	return header + len <= (void *)(long)skb->data_end ? header : NULL;
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_DSTOPTS ||
	       protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_AH;
}

/* No next header, mobility, host identity, shim6, experiments: not passed, for policy cannot see what is behind. */
static __always_inline bool is_unknown_extension(__u8 protocol)
{
	return protocol == IPPROTO_NONE || protocol == IPPROTO_MH || protocol == 139 || protocol == 140 ||
	       protocol >= 253;
}

/* Walks the extension headers (RFC 8200 4) from at->offset and at->protocol to the transport header. */
STAGE int skip_extensions(struct __sk_buff *skb, struct transport *at)
{
	struct { __u8 next, length; __be16 fragment; __be32 id; } ext;

	if (!at)
		return DROP_INVALID_PACKET_DROPPED;
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (at->offset > MAX_HEADERS || is_unknown_extension(at->protocol))
			return DROP_INVALID_IPV6_EXTENSION_HEADER;
		if (!is_extension(at->protocol))
			return 0;
		if (bpf_skb_load_bytes(skb, at->offset & MAX_HEADERS, &ext, sizeof(ext)))
			return DROP_INVALID_PACKET_DROPPED;
		if (at->protocol == IPPROTO_FRAGMENT) {
			at->fragment_id = ext.id;
			if (ext.fragment & bpf_htons(0xfff9))
				at->fragment = SHAPE_FRAGMENT;
			if (ext.fragment & bpf_htons(0xfff8))
				at->fragment |= SHAPE_LATER_FRAGMENT;
			at->offset += 8;
		} else if (at->protocol == IPPROTO_AH) {
			at->offset += (ext.length + 2) * 4;
		} else {
			at->offset += (ext.length + 1) * 8;
		}
		at->protocol = ext.next;
		if (at->fragment & SHAPE_LATER_FRAGMENT)
			return 0;
	}
	return DROP_INVALID_IPV6_EXTENSION_HEADER;
}

/* A family that is switched off is nobody's; the host firewall judges it all the same, or it would be a way in. */
static __always_inline bool family_off(const struct flow *flow, bool enabled)
{
	return !enabled && !(config_host_firewall && (flow->point == FROM_NETWORK || flow->point == TO_NETWORK));
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct flow *flow, struct transport *at)
{
	struct iphdr *ip = header_at(skb, ETH_HLEN, sizeof(*ip));
	__u32 length;

	if (family_off(flow, config_enable_ipv4))
		return DROP_UNSUPPORTED_L3_PROTOCOL;
	if (!ip || ip->version != 4 || ip->ihl < 5)
		return DROP_INVALID_PACKET_DROPPED;
	length = bpf_ntohs(ip->tot_len);
	/* Total length 0 is an aggregate beyond 64 KiB (BIG TCP). */
	if (unlikely(length + ETH_HLEN > skb->len || (length < ip->ihl * 4u && !(length == 0 && skb->gso_size))))
		return DROP_INVALID_PACKET_DROPPED;
	flow->source = addr_from_v4(ip->saddr);
	flow->destination = addr_from_v4(ip->daddr);
	flow->ttl = ip->ttl;
	at->protocol = ip->protocol;
	at->offset = ETH_HLEN + ip->ihl * 4;
	at->end = length ? ETH_HLEN + length : skb->len;
	if (unlikely(ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))) {
		at->fragment = SHAPE_FRAGMENT;
		if (ip->frag_off & bpf_htons(IP_OFFSET))
			at->fragment |= SHAPE_LATER_FRAGMENT;
		at->fragment_id = ip->id;
	}
	return 0;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct flow *flow, struct transport *at)
{
	struct ipv6hdr *ip = header_at(skb, ETH_HLEN, sizeof(*ip));

	if (family_off(flow, config_enable_ipv6))
		return DROP_UNSUPPORTED_L3_PROTOCOL;
	if (!ip || ip->version != 6)
		return DROP_INVALID_PACKET_DROPPED;
	if (unlikely(bpf_ntohs(ip->payload_len) + ETH_HLEN + sizeof(*ip) > skb->len))
		return DROP_INVALID_PACKET_DROPPED;
	__builtin_memcpy(&flow->source, &ip->saddr, 16);
	__builtin_memcpy(&flow->destination, &ip->daddr, 16);
	/* Would name the rows of an IPv4 address; such addresses do not appear on a wire (RFC 4038 4.2). */
	if (unlikely(addr_is_v4(&flow->source) || addr_is_v4(&flow->destination)))
		return DROP_INVALID_PACKET_DROPPED;
	flow->ttl = ip->hop_limit;
	flow->shape = SHAPE_V6;
	at->protocol = ip->nexthdr;
	at->offset = ETH_HLEN + sizeof(*ip);
	/* Payload length 0 is an aggregate beyond 64 KiB (RFC 2675, BIG TCP). */
	at->end = ip->payload_len || !skb->gso_size ? at->offset + bpf_ntohs(ip->payload_len) : skb->len;
	if (unlikely(is_extension(at->protocol) || is_unknown_extension(at->protocol)))
		return skip_extensions(skb, at);
	return 0;
}

/* A transport header that is not all in the packet, or a first fragment that leaves flags to the second (RFC 3128). */
static __always_inline bool too_short(const struct transport *at)
{
	__u32 needed = 0;

	if (at->fragment & SHAPE_LATER_FRAGMENT)
		return false;
	if (at->protocol == IPPROTO_TCP)
		needed = sizeof(struct tcphdr);
	else if (at->protocol == IPPROTO_UDP || at->protocol == IPPROTO_UDPLITE || at->protocol == IPPROTO_SCTP ||
		 at->protocol == IPPROTO_ICMP || at->protocol == IPPROTO_ICMPV6)
		needed = sizeof(struct udphdr);
	return at->offset + needed > at->end;
}

/* The network header only: enough to tell whose packet it is. */
static __always_inline int parse_network(struct __sk_buff *skb, struct flow *flow)
{
	struct transport at = {};
	int reason;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		reason = parse_ipv4(skb, flow, &at);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		reason = parse_ipv6(skb, flow, &at);
	else
		return DROP_UNSUPPORTED_L3_PROTOCOL;
	flow->length = skb->len;
	flow->protocol = at.protocol;
	flow->l4_offset = at.offset;
	flow->shape |= at.fragment;
	flow->fragment_id = at.fragment_id;
	if (!reason && unlikely(too_short(&at)))
		return DROP_CT_TRUNCATED_OR_INVALID_HEADER;
	return reason;
}

static __always_inline void parse_icmp(struct flow *flow, const struct icmphdr *icmp)
{
	bool v6 = flow->protocol == IPPROTO_ICMPV6;

	flow->icmp_type = icmp->type;
	flow->icmp_code = icmp->code;
	if (icmp->type == (v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO))
		flow->shape |= SHAPE_ECHO | SHAPE_ECHO_REQUEST;
	else if (icmp->type == (v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY))
		flow->shape |= SHAPE_ECHO;
	else if (v6 ? icmp->type < 128
		    : icmp->type == ICMP_DEST_UNREACH || icmp->type == ICMP_TIME_EXCEEDED ||
		      icmp->type == ICMP_PARAMETERPROB || icmp->type == ICMP_SOURCE_QUENCH)
		flow->shape |= SHAPE_ICMP_ERROR;
	else
		flow->shape |= SHAPE_ICMP_OTHER;
	if (flow->shape & SHAPE_ECHO)
		flow->source_port = flow->destination_port = icmp->un.echo.id;
}

#define SHAPE_OF_ICMP (SHAPE_ECHO | SHAPE_ECHO_REQUEST | SHAPE_ICMP_OTHER)

/* Ports of a fragmented datagram: remembered with its first fragment, recalled with the others. */
STAGE int parse_fragment(struct flow *flow)
{
	if (!flow)
		return DROP_INVALID_PACKET_DROPPED;

	struct fragment_key key = {
		.source = flow->source, .destination = flow->destination,
		.id = flow->fragment_id, .protocol = flow->protocol,
	};
	struct fragment_ports *known, ports = {};

	if (!config_fragments)
		return DROP_IP_FRAGMENTATION_NOT_SUPPORTED;
	if (!(flow->shape & SHAPE_LATER_FRAGMENT)) {
		ports.source = flow->source_port;
		ports.destination = flow->destination_port;
		ports.icmp_type = flow->icmp_type;
		ports.shape = flow->shape & SHAPE_OF_ICMP;
		bpf_map_update_elem(&cilium_frags, &key, &ports, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&cilium_frags, &key);
	if (!known)
		return DROP_FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND;
	flow->source_port = known->source;
	flow->destination_port = known->destination;
	flow->icmp_type = known->icmp_type;
	flow->shape |= known->shape & SHAPE_OF_ICMP;
	return 0;
}

/* The transport header. Protocols without ports are told apart by their number alone. */
static __always_inline int parse_transport(struct __sk_buff *skb, struct flow *flow)
{
	__u32 offset = flow->l4_offset & MAX_HEADERS;
	void *header;

	if (unlikely(flow->shape & SHAPE_LATER_FRAGMENT))
		return parse_fragment(flow);
	if (likely(flow->protocol == IPPROTO_TCP)) {
		struct tcphdr *tcp = header = header_at(skb, offset, sizeof(*tcp));

		if (!header || tcp->doff < 5)
			return DROP_CT_TRUNCATED_OR_INVALID_HEADER;
		flow->source_port = tcp->source;
		flow->destination_port = tcp->dest;
		flow->tcp_flags = ((__u8 *)tcp)[13];
	} else if (flow->protocol == IPPROTO_UDP || flow->protocol == IPPROTO_UDPLITE ||
		   flow->protocol == IPPROTO_SCTP) {
		struct udphdr *udp = header = header_at(skb, offset, sizeof(*udp));

		if (!header)
			return DROP_CT_TRUNCATED_OR_INVALID_HEADER;
		flow->source_port = udp->source;
		flow->destination_port = udp->dest;
	} else if (flow->protocol == (flow->shape & SHAPE_V6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		header = header_at(skb, offset, sizeof(struct icmphdr));
		if (!header)
			return DROP_CT_TRUNCATED_OR_INVALID_HEADER;
		parse_icmp(flow, header);
	}
	if (unlikely(flow->shape & SHAPE_FRAGMENT))
		return parse_fragment(flow);
	return 0;
}

STAGE int parse(struct __sk_buff *skb, struct flow *flow)
{
	int reason;

	if (!flow)
		return DROP_INVALID_PACKET_DROPPED;
	reason = parse_network(skb, flow);
	return reason ?: parse_transport(skb, flow);
}

/* The packet inside an ICMP error, as its sender sent it (RFC 792, RFC 4443 2.4). l4_offset is where its transport
 * header begins. false: too little of it was quoted. */
STAGE bool parse_quoted(struct __sk_buff *skb, const struct flow *outer, struct quoted *inner)
{
	struct { __be16 source, destination, id; } ports;
	struct transport at = {};

	if (!outer || !inner)
		return false;
	at.offset = outer->l4_offset + 8;
	if (outer->shape & SHAPE_V6) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, at.offset & MAX_HEADERS, &ip, sizeof(ip)))
			return false;
		__builtin_memcpy(&inner->source, &ip.saddr, 16);
		__builtin_memcpy(&inner->destination, &ip.daddr, 16);
		inner->shape = SHAPE_V6;
		at.protocol = ip.nexthdr;
		at.offset += sizeof(ip);
		if (is_extension(at.protocol) && skip_extensions(skb, &at))
			return false;
	} else {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, at.offset & MAX_HEADERS, &ip, sizeof(ip)) || ip.ihl < 5)
			return false;
		inner->source = addr_from_v4(ip.saddr);
		inner->destination = addr_from_v4(ip.daddr);
		at.protocol = ip.protocol;
		at.offset += ip.ihl * 4;
		if (ip.frag_off & bpf_htons(IP_OFFSET))
			return false;
	}
	inner->protocol = at.protocol;
	inner->l4_offset = at.offset;
	if (at.fragment & SHAPE_LATER_FRAGMENT ||
	    bpf_skb_load_bytes(skb, at.offset & MAX_HEADERS, &ports, sizeof(ports)))
		return false;
	if (at.protocol == IPPROTO_TCP || at.protocol == IPPROTO_UDP || at.protocol == IPPROTO_UDPLITE ||
	    at.protocol == IPPROTO_SCTP) {
		inner->source_port = ports.source;
		inner->destination_port = ports.destination;
	} else if (at.protocol == IPPROTO_ICMP || at.protocol == IPPROTO_ICMPV6) {
		inner->source_port = inner->destination_port = ports.id;
	}
	return true;
}
