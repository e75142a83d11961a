/* What every program stands on: kernel UAPI, libbpf's helpers, constants the UAPI headers of older kernels lack. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/icmpv6.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* linux/icmp.h drags in the C library; RFC 792. */
struct icmphdr {
	__u8 type, code;
	__be16 checksum;
	union {
		struct { __be16 id, sequence; } echo;
		__be32 word;
	} un;
};

enum icmp_type {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

#define AF_INET 2
#define AF_INET6 10

#define IP_MF 0x2000
#define IP_DF 0x4000
#define IP_OFFSET 0x1fff

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define SECOND 1000000000ULL

/* A function of its own for the verifier: checked once, whoever calls it. */
#define STAGE __attribute__((noinline))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* The Internet checksum (RFC 1071) out of the sum that bpf_csum_diff gives. */
static __always_inline __u16 fold(__s64 sum)
{
	__u32 folded = (__u32)sum;

	folded = (folded & 0xffff) + (folded >> 16);
	folded = (folded & 0xffff) + (folded >> 16);
	return ~folded;
}

/* The checksum of an IPv4 header whose packet has one hop less left (RFC 1624). */
static __always_inline __sum16 one_hop_less(__sum16 check)
{
	__u32 sum = check + bpf_htons(0x0100);

	return sum + (sum >= 0xffff);
}

#include "lib/addr.h"

/* Reserved security identities (upstream's numbers). */
enum identity {
	IDENTITY_UNKNOWN = 0,
	IDENTITY_HOST = 1,
	IDENTITY_WORLD = 2,
	IDENTITY_UNMANAGED = 3,
	IDENTITY_HEALTH = 4,
	IDENTITY_INIT = 5,
	IDENTITY_REMOTE_NODE = 6,
	IDENTITY_KUBE_APISERVER = 7,
	IDENTITY_INGRESS = 8,
	IDENTITY_WORLD_IPV4 = 9,
	IDENTITY_WORLD_IPV6 = 10,
	IDENTITY_RESERVED_MAX = 99,
};

/* Bits 24-31 of an identity: where it is valid. */
enum identity_scope {
	SCOPE_GLOBAL = 0,
	SCOPE_CIDR = 1 << 24,
	SCOPE_REMOTE_NODE = 2 << 24,
	SCOPE_MASK = 0xff000000,
};
