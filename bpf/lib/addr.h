/* One address type for both families: IPv4 is the v4-mapped IPv6 address ::ffff:a.b.c.d (RFC 4291 2.5.5.2).
 * Every map key, map value and event holds addresses in this form, in network byte order. */
#pragma once

union addr {
	__u8 bytes[16];
	__be32 words[4];
	__u64 halves[2];
};

static __always_inline bool addr_equal(const union addr *a, const union addr *b)
{
	return a->halves[1] == b->halves[1] && a->halves[0] == b->halves[0];
}

static __always_inline bool addr_is_zero(const union addr *a)
{
	return !(a->halves[0] | a->halves[1]);
}

static __always_inline bool addr_is_v4(const union addr *a)
{
	return !a->halves[0] && a->words[2] == bpf_htonl(0xffff);
}

static __always_inline union addr addr_from_v4(__be32 v4)
{
	return (union addr){ .words = { 0, 0, bpf_htonl(0xffff), v4 } };
}

/* The reserved ::/96 (RFC 4291 2.5.5.1), which never names a peer: cilium_lxc keeps rows by interface there. */
static __always_inline bool addr_is_reserved(const union addr *a)
{
	return !a->halves[0] && !a->words[2];
}

static __always_inline bool addr_is_multicast(const union addr *a)
{
	return a->bytes[0] == 0xff || (addr_is_v4(a) && (a->bytes[12] & 0xf0) == 0xe0);
}

/* 0.0.0.0 and 255.255.255.255: whoever is on the link (RFC 1122 3.2.1.3) */
static __always_inline bool addr_is_anybody(const union addr *a)
{
	return addr_is_v4(a) && (!a->words[3] || !~a->words[3]);
}

/* fe80::/10 or 169.254.0.0/16 (RFC 4291 2.5.6, RFC 3927) */
static __always_inline bool addr_is_link_local(const union addr *a)
{
	return (a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80) ||
	       (addr_is_v4(a) && a->bytes[12] == 169 && a->bytes[13] == 254);
}

/* Load-time constants must be read as volatile, or the compiler takes them for the zeros it sees. */
static __always_inline union addr addr_constant(const volatile union addr *constant)
{
	return (union addr){ .halves = { constant->halves[0], constant->halves[1] } };
}

/* Any total order serves: it only has to be the same for both directions. */
static __always_inline bool addr_less(const union addr *a, const union addr *b)
{
	if (a->halves[1] != b->halves[1])
		return a->halves[1] < b->halves[1];
	return a->halves[0] < b->halves[0];
}

/* Whether the first `bits` bits are equal. */
static __always_inline bool addr_in_prefix(const union addr *a, const union addr *prefix, __u32 bits)
{
	for (int i = 0; i < 4; i++) {
		__u32 left = bits > 32u * i ? bits - 32u * i : 0;
		__u32 mask = left >= 32 ? ~0u : left ? ~0u << (32 - left) : 0;

		if ((a->words[i] ^ prefix->words[i]) & bpf_htonl(mask))
			return false;
	}
	return true;
}
