/* Both ends of a frame's packet written anew, with every checksum that covers them (RFC 1624). */
#pragma once

#include "lib/xdp.h"
#include "maps/nat.h"
#include "stages/rewrite.h"

/* As they lie in the packet, one after the other. */
struct ends4 {
	__be32 source, destination;
	__be16 source_port, destination_port;
};

struct ends6 {
	struct in6_addr source, destination; /* of 4 bytes' alignment: nothing is padded */
	__be16 source_port, destination_port;
};

/* `difference`: what bpf_csum_diff says of old and new. Zero is "no checksum" in UDP, so that is never the result. */
static __always_inline __sum16 checksum_after(__sum16 check, __s64 difference)
{
	__u64 sum = (__u64)(__u32)difference + (__u16)~check;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

static __always_inline __sum16 never_zero(__sum16 check)
{
	return check ?: 0xffff;
}

/* One's complement addition of 16-bit words to a sum of 32 bits. */
static __always_inline __u32 sum_add(__u64 sum, __u32 words)
{
	sum = (__u32)sum + (__u64)words;
	return (sum & 0xffffffff) + (sum >> 32);
}

/* The pseudo-header (RFC 9293 3.1, RFC 8200 8.1) of a transport whose header and payload have `length` bytes. `ends`: its two
 * addresses, one behind the other; what maps an IPv4 address (::ffff:0:0) sums up to nothing. */
static __always_inline __s64 pseudo_sum(const union addr *ends, __u8 protocol, __u32 length)
{
	return bpf_csum_diff(NULL, 0, (__be32 *)ends, 2 * sizeof(*ends), bpf_htons(length) + bpf_htons(protocol));
}

static __always_inline __s64 without_pseudo(__s64 sum, const union addr *ends, __u8 protocol, __u32 length)
{
	sum = sum_add(sum, (__u16)~bpf_htons(length) + (__u16)~bpf_htons(protocol));
	return bpf_csum_diff((__be32 *)ends, 2 * sizeof(*ends), NULL, 0, sum);
}

enum frame_sum { SUM_NONE, SUM_WHOLE, SUM_PENDING };

/* Whether the transport's checksum is there. A sender on this machine may leave it to a device that its packet never
 * meets; the field then holds the sum of the pseudo-header, and only an skb knows what is missing. */
static __always_inline enum frame_sum frame_sum(const struct xdp_md *xdp, const struct flow *flow, __u32 length)
{
	const __sum16 *check = frame_at(xdp, ETH_HLEN + network_length(flow) + checksum_at(flow->protocol), sizeof(*check));
	__s64 sum;

	if (!check)
		return SUM_PENDING;
	if (flow->protocol == IPPROTO_UDP && !*check)
		return SUM_NONE;
	sum = pseudo_sum(&flow->source, flow->protocol, length - network_length(flow));
	return *check == (__u16)~fold(sum) ? SUM_PENDING : SUM_WHOLE;
}

static __always_inline bool frame_rewrite4(struct xdp_md *xdp, __u32 at, const struct nat_entry *to, __s64 *difference)
{
	struct headers4 *headers = frame_at(xdp, at, sizeof(*headers));
	struct ends4 old, new;

	if (!headers)
		return false;
	__builtin_memcpy(&old, &headers->ip.saddr, sizeof(old));
	new.source = to->source.words[3];
	new.destination = to->destination.words[3];
	new.source_port = to->source_port;
	new.destination_port = to->destination_port;
	*difference = bpf_csum_diff((__be32 *)&old, 8, (__be32 *)&new, 8, 0);
	headers->ip.check = checksum_after(headers->ip.check, *difference);
	*difference = bpf_csum_diff((__be32 *)&old, sizeof(old), (__be32 *)&new, sizeof(new), 0);
	__builtin_memcpy(&headers->ip.saddr, &new, sizeof(new));
	return true;
}

static __always_inline bool frame_rewrite6(struct xdp_md *xdp, __u32 at, const struct nat_entry *to, __s64 *difference)
{
	struct headers6 *headers = frame_at(xdp, at, sizeof(*headers));
	struct ends6 old, new;

	if (!headers)
		return false;
	__builtin_memcpy(&old, &headers->ip.saddr, sizeof(old));
	__builtin_memcpy(&new, &to->source, 2 * sizeof(to->source));
	new.source_port = to->source_port;
	new.destination_port = to->destination_port;
	*difference = bpf_csum_diff((__be32 *)&old, sizeof(old), (__be32 *)&new, sizeof(new), 0);
	__builtin_memcpy(&headers->ip.saddr, &new, sizeof(new));
	return true;
}

#define MAX_OUTER 0x7f /* bytes in front of the packet */

/* `at`: where its IP header begins. The flow stays as the packet was. 0 or the reason to drop. */
STAGE int frame_rewrite(struct xdp_md *xdp, const struct flow *flow, const struct nat_entry *to, __u32 at)
{
	__s64 difference = 0;
	__sum16 *check;

	if (!flow || !to)
		return DROP_ERROR_WRITING_TO_PACKET;
	at &= MAX_OUTER;
	if (flow->shape & SHAPE_V6 ? !frame_rewrite6(xdp, at, to, &difference) : !frame_rewrite4(xdp, at, to, &difference))
		return DROP_ERROR_WRITING_TO_PACKET;
	check = frame_at(xdp, at + network_length(flow) + checksum_at(flow->protocol), sizeof(*check));
	if (!check)
		return DROP_ERROR_WRITING_TO_PACKET;
	if (flow->protocol == IPPROTO_TCP)
		*check = checksum_after(*check, difference);
	else if (*check)
		*check = never_zero(checksum_after(*check, difference));
	return 0;
}
