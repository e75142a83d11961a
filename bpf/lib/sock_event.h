/* Events of translations in sockets: there is no packet, so the record tells of the process. Nobody is woken; what does
 * not fit is counted. */
#pragma once

#include "lib/common.h"
#include "lib/runtime.h"
#include "maps/events.h"

/* An end as a process names it. */
struct peer {
	union addr address;
	__be16 port;
};

/* A connection, or the first datagram of a socket to a backend, is always told; without an interval every translation. */
static __always_inline bool worth_telling(bool first)
{
	const struct runtime *now = runtime();

	return now && !(now->flags & RUNTIME_EVENTS_OFF) && (first || !now->aggregation);
}

/* Answers are told only where nothing at all is left out. */
static __always_inline bool answer_worth_telling(void)
{
	const struct runtime *now = runtime();

	return now && !(now->flags & (RUNTIME_EVENTS_OFF | RUNTIME_HIDE_RECEIVED)) && !now->aggregation;
}

/* What the socket is bound to; before it connects, mostly nothing. */
static __always_inline void tell_source(const struct bpf_sock_addr *ctx, struct sock_event *event)
{
	const struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return;
	event->source_port = bpf_htons(sk->src_port);
	if (ctx->family == AF_INET) {
		if (sk->src_ip4)
			event->source = addr_from_v4(sk->src_ip4);
		return;
	}
	event->source.words[0] = sk->src_ip6[0];
	event->source.words[1] = sk->src_ip6[1];
	event->source.words[2] = sk->src_ip6[2];
	event->source.words[3] = sk->src_ip6[3];
}

/* `before` and `after`: the address on either side of the translation. */
static __noinline int tell_translation(struct bpf_sock_addr *ctx, enum sock_point point, const struct peer *before,
				       const struct peer *after)
{
	struct sock_event *event = bpf_ringbuf_reserve(&cilium_events, sizeof(*event), 0);

	if (!event) {
		__u32 type = EVENT_TRACE_SOCK;
		__u64 *lost = bpf_map_lookup_elem(&cilium_events_lost, &type);

		if (lost)
			*lost += 1;
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->time = bpf_ktime_get_ns();
	event->type = EVENT_TRACE_SOCK;
	event->point = point;
	event->verdict = VERDICT_TRANSLATED;
	event->protocol = ctx->protocol;
	tell_source(ctx, event);
	event->destination = before->address;
	event->destination_port = before->port;
	event->translated = after->address;
	event->translated_port = after->port;
	event->socket_cookie = bpf_get_socket_cookie(ctx);
	event->cgroup_id = bpf_get_current_cgroup_id();
	event->netns_cookie = bpf_get_netns_cookie(ctx);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}
