/* One address type for both families: IPv4 is the v4-mapped IPv6 address ::ffff:a.b.c.d (RFC 4291 2.5.5.2).
 * Every map key, map value and event holds addresses in this form, in network byte order. */
#pragma once

union addr {
	__u8 bytes[16];
	__be32 words[4];
	__u64 halves[2];
};
