/* Telling a client that it asked in vain: a reset for TCP (RFC 9293 3.10.7.1), "destination unreachable" for everything
 * else (RFC 792, RFC 1812 5.2.7.1, RFC 4443 3.1), in the name of whom it asked. The packet at hand becomes the answer. */
#pragma once

#include "config/node.h"
#include "lib/common.h"
#include "lib/drop.h"
#include "lib/event.h"
#include "lib/flow.h"
#include "lib/parse.h"

#define REJECT_TTL 64

/* Codes of "destination unreachable". */
enum unreachable {
	UNREACHABLE_PORT4 = 3,
	UNREACHABLE_PORT6 = 4,
	UNREACHABLE_PROHIBITED4 = 13,
	UNREACHABLE_PROHIBITED6 = 1,
};

#define QUOTE4 28 /* header without options, and 8 bytes */
#define QUOTE6 48

struct answer4 {
	struct iphdr ip;
	union {
		struct tcphdr tcp;
		struct { struct icmphdr icmp; __u8 quote[QUOTE4]; } error;
	};
};

struct answer6 {
	struct ipv6hdr ip;
	union {
		struct tcphdr tcp;
		struct { struct icmphdr icmp; __u8 quote[QUOTE6]; } error;
	};
};

/* The other end's numbers decide ours. `end`: of the packet, which a frame may pad. false: a reset is never answered. */
static __always_inline bool reset_for(struct __sk_buff *skb, const struct flow *flow, __u32 end, struct tcphdr *reset)
{
	struct tcphdr asked;

	if (bpf_skb_load_bytes(skb, flow->l4_offset, &asked, sizeof(asked)) || asked.rst)
		return false;
	__builtin_memset(reset, 0, sizeof(*reset));
	reset->source = asked.dest;
	reset->dest = asked.source;
	reset->doff = sizeof(*reset) / 4;
	reset->rst = 1;
	if (asked.ack) {
		reset->seq = asked.ack_seq;
	} else {
		reset->ack = 1;
		reset->ack_seq = bpf_htonl(bpf_ntohl(asked.seq) + asked.syn + asked.fin +
					   (end - flow->l4_offset - asked.doff * 4));
	}
	return true;
}

static __always_inline bool turn_macs(struct __sk_buff *skb)
{
	struct ethhdr eth, turned;

	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return false;
	__builtin_memcpy(turned.h_dest, eth.h_source, ETH_ALEN);
	__builtin_memcpy(turned.h_source, eth.h_dest, ETH_ALEN);
	turned.h_proto = eth.h_proto;
	return !bpf_skb_store_bytes(skb, 0, &turned, sizeof(turned), 0);
}

/* For cilium_host to take. */
static __always_inline bool write_host_mac(struct __sk_buff *skb)
{
	struct mac mac;

	for (int i = 0; i < ETH_ALEN; i++)
		mac.bytes[i] = config_host_mac.bytes[i];
	return !bpf_skb_store_bytes(skb, 0, &mac, sizeof(mac), 0);
}

/* Makes room for an answer of `length` bytes, without what was left to do for the question: a device that was to compute its
 * checksum would write into the answer. The kernel forgets that together with the header in which it was to begin. */
static __always_inline bool make_room(struct __sk_buff *skb, const struct flow *flow, __u32 length)
{
	__u32 header = (flow->l4_offset & MAX_HEADERS) + 2;

	return !bpf_skb_change_tail(skb, ETH_HLEN + sizeof(struct ipv6hdr) + header, 0) &&
	       !bpf_skb_adjust_room(skb, -(__s32)header, BPF_ADJ_ROOM_MAC, 0) && !bpf_skb_change_tail(skb, length, 0);
}

STAGE bool reject4(struct __sk_buff *skb, const struct flow *flow, __u32 code)
{
	struct answer4 answer = {};
	__u32 length = sizeof(answer.ip);
	struct iphdr asked;

	if (!flow || bpf_skb_load_bytes(skb, ETH_HLEN, &asked, sizeof(asked)))
		return false;
	answer.ip.version = 4;
	answer.ip.ihl = sizeof(answer.ip) / 4;
	answer.ip.ttl = REJECT_TTL;
	answer.ip.saddr = flow->destination.words[3];
	answer.ip.daddr = flow->source.words[3];
	if (flow->protocol == IPPROTO_TCP) {
		struct { __be32 from, to; __u8 zero, protocol; __be16 length; } pseudo = {
			answer.ip.saddr, answer.ip.daddr, 0, IPPROTO_TCP, bpf_htons(sizeof(answer.tcp)),
		};

		if (!reset_for(skb, flow, ETH_HLEN + bpf_ntohs(asked.tot_len), &answer.tcp))
			return false;
		answer.ip.protocol = IPPROTO_TCP;
		answer.tcp.check = fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.tcp, sizeof(answer.tcp),
						      bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0)));
		length += sizeof(answer.tcp);
	} else {
		if (bpf_skb_load_bytes(skb, ETH_HLEN, answer.error.quote, QUOTE4))
			return false;
		answer.ip.protocol = IPPROTO_ICMP;
		answer.error.icmp.type = ICMP_DEST_UNREACH;
		answer.error.icmp.code = code;
		answer.error.icmp.checksum =
			fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.error, sizeof(answer.error), 0));
		length += sizeof(answer.error);
	}
	answer.ip.tot_len = bpf_htons(length);
	answer.ip.check = fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.ip, sizeof(answer.ip), 0));
	if (!make_room(skb, flow, ETH_HLEN + length))
		return false;
	if (flow->protocol == IPPROTO_TCP)
		return !bpf_skb_store_bytes(skb, ETH_HLEN, &answer, sizeof(answer.ip) + sizeof(answer.tcp), 0);
	return !bpf_skb_store_bytes(skb, ETH_HLEN, &answer, sizeof(answer), 0);
}

STAGE bool reject6(struct __sk_buff *skb, const struct flow *flow, __u32 code)
{
	struct { union addr from, to; __be32 length; __u8 zero[3], next; } pseudo = {};
	struct answer6 answer = {};
	struct ipv6hdr asked;
	__u32 length;
	__s64 sum;

	if (!flow || bpf_skb_load_bytes(skb, ETH_HLEN, &asked, sizeof(asked)))
		return false;
	pseudo.from = flow->destination;
	pseudo.to = flow->source;
	if (flow->protocol == IPPROTO_TCP) {
		if (!reset_for(skb, flow, ETH_HLEN + sizeof(asked) + bpf_ntohs(asked.payload_len), &answer.tcp))
			return false;
		length = sizeof(answer.tcp);
		pseudo.next = IPPROTO_TCP;
	} else {
		if (bpf_skb_load_bytes(skb, ETH_HLEN, answer.error.quote, QUOTE6))
			return false;
		answer.error.icmp.type = ICMPV6_DEST_UNREACH;
		answer.error.icmp.code = code;
		length = sizeof(answer.error);
		pseudo.next = IPPROTO_ICMPV6;
	}
	pseudo.length = bpf_htonl(length);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);
	if (flow->protocol == IPPROTO_TCP)
		answer.tcp.check = fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.tcp, sizeof(answer.tcp), sum));
	else
		answer.error.icmp.checksum =
			fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.error, sizeof(answer.error), sum));
	answer.ip.version = 6;
	answer.ip.nexthdr = pseudo.next;
	answer.ip.hop_limit = REJECT_TTL;
	answer.ip.payload_len = bpf_htons(length);
	__builtin_memcpy(&answer.ip.saddr, &flow->destination, 16);
	__builtin_memcpy(&answer.ip.daddr, &flow->source, 16);
	if (!make_room(skb, flow, ETH_HLEN + sizeof(answer.ip) + length))
		return false;
	if (flow->protocol == IPPROTO_TCP)
		return !bpf_skb_store_bytes(skb, ETH_HLEN, &answer, sizeof(answer.ip) + sizeof(answer.tcp), 0);
	return !bpf_skb_store_bytes(skb, ETH_HLEN, &answer, sizeof(answer), 0);
}

static __always_inline bool reject(struct __sk_buff *skb, const struct flow *flow, __u32 code4, __u32 code6)
{
	return flow->shape & SHAPE_V6 ? reject6(skb, flow, code6) : reject4(skb, flow, code4);
}

static __always_inline bool answerable(const struct flow *flow)
{
	return !(flow->shape & (SHAPE_FRAGMENT | SHAPE_ICMP_ERROR)) && !addr_is_multicast(&flow->destination);
}

/* Drops the packet of a client that asked a service without backends, and tells it at once. `pod`: it is a pod, which is
 * entered directly: its own policies have no say in whether it may know. */
STAGE int refuse(struct __sk_buff *skb, struct flow *flow, __u32 pod)
{
	if (!flow)
		return TC_ACT_SHOT;
	drop(skb, flow, DROP_SERVICE_BACKEND_NOT_FOUND);
	if (!answerable(flow) || !reject(skb, flow, UNREACHABLE_PORT4, UNREACHABLE_PORT6) || !turn_macs(skb))
		return TC_ACT_SHOT;
	return pod ? bpf_redirect_peer(skb->ifindex, 0) : bpf_redirect(skb->ifindex, 0);
}
