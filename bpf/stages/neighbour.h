/* Neighbour discovery on pod interfaces: the node is the only neighbour a pod has. ARP (RFC 826) and IPv6 neighbour
 * solicitations (RFC 4861) for anything are answered with the host side's MAC. */
#pragma once

#include "lib/common.h"
#include "lib/drop.h"
#include "lib/event.h"
#include "lib/parse.h"
#include "stages/identity.h"

#define ND_ROUTER_SOLICITATION 133
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_REDIRECT 137
#define MLD_QUERY 130
#define MLD_DONE 132
#define MLD2_REPORT 143
#define ND_OPTION_TARGET 2

#define ARP_REQUEST 1
#define ARP_REPLY 2

struct arp {
	__be16 hardware, protocol;
	__u8 hardware_length, protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));

struct advertisement {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct {
		struct icmp6hdr icmp;
		union addr target;
		__u8 option, option_length;
		__u8 mac[ETH_ALEN];
	} __attribute__((packed)) nd;
} __attribute__((packed));

STAGE int answer_arp(struct __sk_buff *skb, struct flow *flow)
{
	struct { struct ethhdr eth; struct arp arp; } __attribute__((packed)) *frame, answer = {};
	const struct endpoint *pod;
	union addr sender;

	if (!flow)
		return TC_ACT_SHOT;
	frame = header_at(skb, 0, sizeof(*frame));
	if (!frame)
		return drop(skb, flow, DROP_INVALID_PACKET_DROPPED);
	if (frame->arp.operation == bpf_htons(ARP_REPLY))
		return TC_ACT_OK;
	/* Probes and announcements of the pod's own address (RFC 5227) want no answer. */
	if (frame->arp.operation != bpf_htons(ARP_REQUEST) || !frame->arp.sender ||
	    frame->arp.sender == frame->arp.target)
		return consume(skb, flow, DROP_MULTICAST_HANDLED);
	answer.arp = frame->arp;
	sender = addr_from_v4(answer.arp.sender);
	pod = endpoint_at(&sender);
	if (!pod || pod->ifindex != skb->ifindex)
		pod = endpoint_behind(skb->ifindex);
	if (!pod)
		return drop(skb, flow, DROP_INVALID_SOURCE_IP);
	answer.eth.h_proto = bpf_htons(ETH_P_ARP);
	__builtin_memcpy(answer.eth.h_dest, answer.arp.sender_mac, ETH_ALEN);
	__builtin_memcpy(answer.eth.h_source, pod->node_mac, ETH_ALEN);
	answer.arp.operation = bpf_htons(ARP_REPLY);
	__builtin_memcpy(answer.arp.target_mac, answer.arp.sender_mac, ETH_ALEN);
	__builtin_memcpy(answer.arp.sender_mac, pod->node_mac, ETH_ALEN);
	sender.words[3] = answer.arp.target;
	answer.arp.target = answer.arp.sender;
	answer.arp.sender = sender.words[3];
	if (bpf_skb_store_bytes(skb, 0, &answer, sizeof(answer), 0))
		return drop(skb, flow, DROP_ERROR_WRITING_TO_PACKET);
	return bpf_redirect(skb->ifindex, 0);
}

/* The MAC to answer with: from the pod's row; a unicast solicitation (reachability probe) names it itself. */
static __always_inline bool gateway_mac(struct __sk_buff *skb, const struct flow *flow, __u8 *mac)
{
	const struct endpoint *pod = endpoint_at(&flow->source);

	if (!pod || pod->ifindex != skb->ifindex)
		pod = endpoint_behind(skb->ifindex);
	if (pod) {
		__builtin_memcpy(mac, pod->node_mac, ETH_ALEN);
		return true;
	}
	return !bpf_skb_load_bytes(skb, 0, mac, ETH_ALEN) && !(mac[0] & 1);
}

STAGE int answer_solicitation(struct __sk_buff *skb, struct flow *flow)
{
	struct advertisement answer = {};
	const struct endpoint *owner;
	__s64 sum;

	if (!flow)
		return TC_ACT_SHOT;
	if (flow->l4_offset != ETH_HLEN + sizeof(answer.ip) ||
	    bpf_skb_load_bytes(skb, flow->l4_offset, &answer.nd, 24))
		return drop(skb, flow, DROP_INVALID_PACKET_DROPPED);
	owner = endpoint_at(&answer.nd.target);
	/* Duplicate address detection, or asking for itself. */
	if (addr_is_zero(&flow->source) || (owner && owner->ifindex == skb->ifindex))
		return consume(skb, flow, DROP_MULTICAST_HANDLED);
	if (!gateway_mac(skb, flow, answer.eth.h_source))
		return TC_ACT_OK; /* the stack owns the interface's link-local address */
	bpf_skb_load_bytes(skb, 6, answer.eth.h_dest, ETH_ALEN);
	answer.eth.h_proto = bpf_htons(ETH_P_IPV6);
	answer.ip.version = 6;
	answer.ip.payload_len = bpf_htons(sizeof(answer.nd));
	answer.ip.nexthdr = IPPROTO_ICMPV6;
	answer.ip.hop_limit = 255;
	__builtin_memcpy(&answer.ip.saddr, &answer.nd.target, 16);
	__builtin_memcpy(&answer.ip.daddr, &flow->source, 16);
	__builtin_memset(&answer.nd.icmp, 0, sizeof(answer.nd.icmp));
	answer.nd.icmp.icmp6_type = ND_ADVERTISEMENT;
	answer.nd.icmp.icmp6_router = 1;
	answer.nd.icmp.icmp6_solicited = 1;
	answer.nd.icmp.icmp6_override = 1;
	answer.nd.option = ND_OPTION_TARGET;
	answer.nd.option_length = 1;
	__builtin_memcpy(answer.nd.mac, answer.eth.h_source, ETH_ALEN);
	/* RFC 8200 8.1: addresses, length and next header are part of the sum. */
	sum = bpf_csum_diff(NULL, 0, (void *)&answer.ip.saddr, 32, bpf_htonl(sizeof(answer.nd)));
	sum = bpf_csum_diff(NULL, 0, (void *)&answer.nd, sizeof(answer.nd), sum);
	sum += bpf_htonl(IPPROTO_ICMPV6);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	answer.nd.icmp.icmp6_cksum = ~(sum + (sum >> 16));
	if (bpf_skb_change_tail(skb, sizeof(answer), 0) || bpf_skb_store_bytes(skb, 0, &answer, sizeof(answer), 0))
		return drop(skb, flow, DROP_ERROR_WRITING_TO_PACKET);
	return bpf_redirect(skb->ifindex, 0);
}

/* Neighbour discovery never crosses a router (RFC 4861 3.1: hop limit 255), nor does listener discovery (RFC 3810 5:
 * hop limit 1). What claims to be either and came from afar is ordinary ICMPv6, and policy judges it. */
static __always_inline bool is_discovery(const struct flow *flow)
{
	if (flow->protocol != IPPROTO_ICMPV6 || flow->shape & SHAPE_LATER_FRAGMENT)
		return false;
	if (flow->icmp_type >= ND_ROUTER_SOLICITATION && flow->icmp_type <= ND_REDIRECT)
		return flow->ttl == 255;
	return ((flow->icmp_type >= MLD_QUERY && flow->icmp_type <= MLD_DONE) || flow->icmp_type == MLD2_REPORT) &&
	       flow->ttl == 1;
}

/* A pod may tell its neighbour, the node, where it is; nobody else. */
static __always_inline int take_advertisement(struct __sk_buff *skb, struct flow *flow)
{
	const struct endpoint *node = endpoint_at(&flow->destination);

	if (addr_is_link_local(&flow->destination) || (node && node->flags & ENDPOINT_HOST))
		return TC_ACT_OK;
	return consume(skb, flow, DROP_MULTICAST_HANDLED);
}

static __always_inline int handle_discovery(struct __sk_buff *skb, struct flow *flow)
{
	switch (flow->icmp_type) {
	case ND_SOLICITATION:
		return answer_solicitation(skb, flow);
	case ND_ADVERTISEMENT:
		return take_advertisement(skb, flow);
	case ND_ROUTER_ADVERTISEMENT:
	case ND_REDIRECT:
		return drop(skb, flow, DROP_FORBIDDEN_ICMPV6_MESSAGE);
	default:
		return consume(skb, flow, DROP_MULTICAST_HANDLED);
	}
}
