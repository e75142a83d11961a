/* Connections: finding an entry, keeping it alive, telling when a packet opens a new one, and what is worth reporting.
 * One entry serves both directions; counters are plain additions, each direction has its own. */
#pragma once

#include "lib/common.h"
#include "lib/event.h"
#include "lib/flow.h"
#include "lib/parse.h"
#include "config/node.h"
#include "maps/conntrack.h"
#include "stages/counters.h"

enum ct_side { CT_CLIENT = 0, CT_SERVER = 1 };

/* Fills the key; true if the packet's source is its lower end. */
#define ct_key_of(packet, key) \
	ct_key_fill(key, &(packet)->source, &(packet)->destination, (packet)->source_port, \
		    (packet)->destination_port, (packet)->protocol)

static __always_inline bool ct_key_fill(struct ct_key *key, const union addr *source, const union addr *destination,
					__be16 source_port, __be16 destination_port, __u8 protocol)
{
	bool low = addr_equal(source, destination) ? source_port < destination_port : addr_less(source, destination);

	key->low = low ? *source : *destination;
	key->high = low ? *destination : *source;
	key->low_port = low ? source_port : destination_port;
	key->high_port = low ? destination_port : source_port;
	key->protocol = protocol;
	key->pad = 0;
	key->zone = 0;
	return low;
}

/* A dead entry is no entry. */
static __always_inline struct ct_entry *ct_alive(struct ct_entry *entry, __u64 now)
{
	return entry && entry->expires > now ? entry : NULL;
}

static __always_inline struct ct_entry *ct_lookup(const struct ct_key *key, __u64 now)
{
	return ct_alive(bpf_map_lookup_elem(&cilium_ct, key), now);
}

static __always_inline enum ct_side ct_side(const struct ct_entry *entry, bool source_is_low)
{
	return !!(entry->flags & CT_LOW_OPENED) == source_is_low ? CT_CLIENT : CT_SERVER;
}

/* Whether the local ends are still those that the connection was made with. */
static __always_inline bool ct_same_ends(const struct ct_entry *entry, const struct flow *flow, enum ct_side side)
{
	__u32 from = side == CT_CLIENT ? 0 : 1;

	return entry->endpoints[from] == flow->from.id && entry->endpoints[!from] == flow->to.id;
}

/* Whether the sender is who it was when the connection was judged. Where the packet does not say it (identity 0: the
 * ipcache would have to be asked), a change of the ipcache raises the epoch. */
static __always_inline bool ct_same_sender(const struct ct_entry *entry, const struct flow *flow, enum ct_side side)
{
	__u32 known = side == CT_CLIENT ? entry->client_identity : entry->server_identity;

	return !flow->source_identity || flow->source_identity == known;
}

/* No epoch is 0: whatever comes of this connection is judged. */
static __always_inline void ct_revoke(struct ct_entry *entry, __u64 now)
{
	if (!entry->policy_epoch)
		return;
	entry->policy_epoch = 0;
	entry->expires = now + config_ct_tcp_closing;
}

/* A packet that may only open: a SYN after the connection closed, or from the side that did not open this one; an echo
 * request likewise. It must not pass as a reply. */
static __always_inline bool ct_reopens(const struct flow *flow, const struct ct_entry *entry, enum ct_side side)
{
	if (flow->protocol == IPPROTO_TCP)
		return (flow->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
		       (side == CT_SERVER || entry->flags & CT_CLOSING);
	return side == CT_SERVER && flow->shape & SHAPE_ECHO_REQUEST;
}

/* Whether a policy in the direction of this packet has long been enforced: then a connection that may exist is known,
 * and a packet of an unknown one must be allowed itself, whatever it claims to answer. */
static __always_inline bool ct_settled(const struct flow *flow)
{
	return (flow->from.egress_policy && !(flow->from.flags & ENDPOINT_ADOPTING)) ||
	       (flow->to.ingress_policy && !(flow->to.flags & ENDPOINT_ADOPTING));
}

/* A datagram that may answer one from before a policy: it comes from the lower port, and an end is adopting. As the first
 * of a connection it would let the peer in, now or when the peer may not open it any more: it passes and opens nothing. */
static __always_inline bool ct_may_answer(const struct flow *flow)
{
	return (flow->from.flags | flow->to.flags) & ENDPOINT_ADOPTING && flow->protocol != IPPROTO_TCP &&
	       bpf_ntohs(flow->source_port) < bpf_ntohs(flow->destination_port);
}

/* Who opened a connection that is first seen here. In the middle of a TCP connection (it began before a policy was
 * enforced) that is most likely the end with the higher port. */
static __always_inline enum ct_side ct_guess_side(const struct flow *flow)
{
	if (flow->protocol != IPPROTO_TCP || (flow->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN || ct_settled(flow))
		return CT_CLIENT;
	if (flow->tcp_flags & TCP_SYN)
		return CT_SERVER;
	return bpf_ntohs(flow->source_port) < bpf_ntohs(flow->destination_port) ? CT_SERVER : CT_CLIENT;
}

static __always_inline __u64 ct_timeout(const struct ct_entry *entry, __u8 protocol)
{
	if (protocol != IPPROTO_TCP)
		return config_ct_any;
	if (entry->flags & CT_CLOSING)
		return config_ct_tcp_closing;
	return entry->flags & CT_SEEN_REPLY ? config_ct_tcp_established : config_ct_tcp_syn;
}

/* The packet's mark on its connection. Writes what changed: expiry at most once a second. */
static __always_inline void ct_touch(struct ct_entry *entry, const struct flow *flow, enum ct_side side, __u64 now)
{
	__u8 flags = entry->flags;
	__u64 expires;

	if (side == CT_SERVER)
		flags |= CT_SEEN_REPLY;
	if (unlikely(flow->tcp_flags & (TCP_RST | TCP_FIN))) {
		if (flow->tcp_flags & TCP_RST)
			flags |= CT_CLOSING;
		else
			flags |= side == CT_CLIENT ? CT_FIN_CLIENT : CT_FIN_SERVER;
		if ((flags & (CT_FIN_CLIENT | CT_FIN_SERVER)) == (CT_FIN_CLIENT | CT_FIN_SERVER))
			flags |= CT_CLOSING;
	}
	if (side == CT_CLIENT) {
		entry->packets[0]++;
		entry->bytes[0] += flow->length;
	} else {
		entry->packets[1]++;
		entry->bytes[1] += flow->length;
	}
	if (unlikely(flags != entry->flags)) {
		entry->flags = flags;
		entry->expires = now + ct_timeout(entry, flow->protocol);
		return;
	}
	expires = now + ct_timeout(entry, flow->protocol);
	if (expires - entry->expires > SECOND && !(flags & CT_CLOSING))
		entry->expires = expires;
}

/* Tells the rules of a connection what has passed in one direction since they were last told; returns the packets. None if
 * another processor made the entry another connection's meanwhile: less has passed then than was told. */
STAGE __u32 ct_count(struct ct_entry *entry, __u32 i)
{
	__s32 packets;
	__s64 bytes;

	if (!entry || i > 1)
		return 0;
	packets = (__u32)entry->packets[i] - entry->told_packets[i];
	bytes = entry->bytes[i] - entry->told_bytes[i];
	if (unlikely(packets < 0 || bytes < 0))
		packets = 0;
	if (packets)
		count_rules(entry->egress_cookie, entry->ingress_cookie, packets, bytes);
	entry->told_packets[i] = entry->packets[i];
	entry->told_bytes[i] = entry->bytes[i];
	return packets;
}

/* Before the entry is another connection's, or its rules are others. */
static __always_inline void ct_count_all(struct ct_entry *entry)
{
	ct_count(entry, 0);
	ct_count(entry, 1);
}

/* Makes an entry that of the connection which this packet opens. The flow carries the verdict. */
static __always_inline void ct_open(struct ct_entry *entry, const struct flow *flow, __u64 now, bool low_opened)
{
	bool client = !(flow->flags & EVENT_REPLY);

	*entry = (struct ct_entry){ .policy_epoch = flow->policy_epoch };
	if (low_opened)
		entry->flags = CT_LOW_OPENED;
	if (flow->verdict == VERDICT_AUDITED)
		entry->flags |= CT_AUDIT;
	entry->client_identity = client ? flow->source_identity : flow->destination_identity;
	entry->server_identity = client ? flow->destination_identity : flow->source_identity;
	entry->endpoints[0] = client ? flow->from.id : flow->to.id;
	entry->endpoints[1] = client ? flow->to.id : flow->from.id;
	entry->egress_cookie = flow->egress_cookie;
	entry->ingress_cookie = flow->ingress_cookie;
	entry->reported[0] = client ? now : 0;
	entry->reported[1] = client ? 0 : now;
	ct_touch(entry, flow, client ? CT_CLIENT : CT_SERVER, now);
	entry->expires = now + ct_timeout(entry, flow->protocol);
	for (int i = 0; i < 2; i++) {
		entry->told_packets[i] = entry->packets[i];
		entry->told_bytes[i] = entry->bytes[i];
	}
	count_rules(flow->egress_cookie, flow->ingress_cookie, 1, flow->length);
}

STAGE int ct_create(const struct flow *flow, const struct ct_key *key, __u64 now, __u32 low_opened)
{
	struct ct_entry entry;

	if (!flow || !key)
		return DROP_CT_MAP_INSERTION_FAILED;
	ct_open(&entry, flow, now, low_opened);
	return bpf_map_update_elem(&cilium_ct, key, &entry, BPF_ANY) ? DROP_CT_MAP_INSERTION_FAILED : 0;
}

/* The entry of an earlier connection between the same ports is written over where it is: a new one would cost an
 * allocation, a release and their locks. */
STAGE int ct_replace(struct ct_entry *entry, const struct flow *flow, __u64 now, __u32 low_opened)
{
	if (!entry || !flow)
		return DROP_CT_MAP_INSERTION_FAILED;
	ct_count_all(entry);
	ct_open(entry, flow, now, low_opened);
	return 0;
}

static __always_inline void ct_tell(const struct ct_entry *entry, struct flow *flow, enum ct_side side)
{
	flow->report = true;
	flow->flags |= EVENT_REPLY_KNOWN;
	if (side == CT_SERVER)
		flow->flags |= EVENT_REPLY;
	flow->egress_cookie = entry->egress_cookie;
	flow->ingress_cookie = entry->ingress_cookie;
	if (entry->flags & CT_AUDIT)
		flow->verdict = VERDICT_AUDITED;
}

/* Whether a packet of a tracked connection is due for an event: the first reply, a change of TCP's state, and otherwise
 * once per aggregation interval and direction. Then its rules count what has passed, too. */
static __always_inline void ct_report(struct ct_entry *entry, struct flow *flow, enum ct_side side, bool first,
				      __u64 now)
{
	const struct runtime *settings = runtime();
	__u32 i = side == CT_CLIENT ? 0 : 1;

	if (!settings)
		return;
	if (likely(!first && !(flow->tcp_flags & TCP_STATE_FLAGS) &&
		   now - entry->reported[i] < settings->aggregation)) {
		if (flow->tcp_flags & ~entry->tcp_flags[i])
			entry->tcp_flags[i] |= flow->tcp_flags;
		return;
	}
	flow->packets = ct_count(entry, i);
	flow->tcp_flags |= entry->tcp_flags[i];
	entry->tcp_flags[i] = 0;
	entry->reported[i] = now;
	if (settings->flags & RUNTIME_EVENTS_OFF)
		return;
	ct_tell(entry, flow, side);
}
