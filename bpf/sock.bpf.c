/* sock_*: on the node's root cgroup, so for every process of the node, in pods or not. What a process connects or sends
 * to is translated from a service's address to a backend's before there is a packet; what it receives, and whom it
 * believes to be connected to, is translated back. Policy, conntrack and events see the backend.
 * A socket of IPv6 that talks IPv4 uses v4-mapped addresses, which is the form of every map key. */
#include "lib/common.h"
#include "stages/socket.h"

/* user_port is the port in network byte order, in the lower half. */
static __always_inline struct peer peer4(struct bpf_sock_addr *ctx)
{
	return (struct peer){ .address = addr_from_v4(ctx->user_ip4), .port = (__be16)ctx->user_port };
}

static __always_inline struct peer peer6(struct bpf_sock_addr *ctx)
{
	struct peer peer = { .port = (__be16)ctx->user_port };

	peer.address.words[0] = ctx->user_ip6[0];
	peer.address.words[1] = ctx->user_ip6[1];
	peer.address.words[2] = ctx->user_ip6[2];
	peer.address.words[3] = ctx->user_ip6[3];
	return peer;
}

static __always_inline void set_peer4(struct bpf_sock_addr *ctx, const struct peer *peer)
{
	ctx->user_ip4 = peer->address.words[3];
	ctx->user_port = peer->port;
}

static __always_inline void set_peer6(struct bpf_sock_addr *ctx, const struct peer *peer)
{
	ctx->user_ip6[0] = peer->address.words[0];
	ctx->user_ip6[1] = peer->address.words[1];
	ctx->user_ip6[2] = peer->address.words[2];
	ctx->user_ip6[3] = peer->address.words[3];
	ctx->user_port = peer->port;
}

enum translation { UNTOUCHED, TRANSLATED, REFUSED };

/* Puts the backend into `peer`. `fresh`: any backend will do; else the one that this socket always gets. */
static __always_inline int translate(struct bpf_sock_addr *ctx, struct peer *peer, bool fresh)
{
	struct service_key key = { .address = peer->address, .port = peer->port, .protocol = ctx->protocol };
	const struct service *service;
	const struct backend *backend;
	enum memory memory;
	struct peer meant;
	__u64 cookie;

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return UNTOUCHED;
	if (config_sock_host_only && !in_host(ctx))
		return UNTOUCHED;
	service = service_of_socket(ctx, &key);
	if (service && skips(ctx, service, &key)) {
		key.scope = SERVICE_ORIGINAL;
		service = service_at(&key);
	}
	if (!service)
		return UNTOUCHED;
	cookie = bpf_get_socket_cookie(ctx);
	backend = backend_of_socket(ctx, service, fresh ? bpf_get_prandom_u32() : choice_of_socket(cookie, service->id));
	/* A socket cannot be left without an answer, as a packet can: where those are dropped, it is refused as well. */
	if (!backend) {
		refuse(EHOSTUNREACH);
		return REFUSED;
	}
	meant = *peer;
	memory = remember(ctx, cookie, backend, &meant, service->id, fresh);
	/* Replies to a datagram would come from a stranger; of TCP only getpeername would tell the backend. */
	if (memory == NOT_REMEMBERED && ctx->protocol == IPPROTO_UDP) {
		refuse(ENOMEM);
		return REFUSED;
	}
	peer->address = backend->address;
	peer->port = backend->port;
	if (worth_telling(fresh || memory == REMEMBERED))
		tell_translation(ctx, SOCK_FORWARD, &meant, peer);
	return TRANSLATED;
}

static __always_inline bool translate_back(struct bpf_sock_addr *ctx, struct peer *peer)
{
	const struct reverse_entry *entry = remembered(ctx, peer);
	struct peer backend = *peer;

	if (!entry)
		return false;
	peer->address = entry->address;
	peer->port = entry->port;
	if (answer_worth_telling())
		tell_translation(ctx, SOCK_REVERSE, &backend, peer);
	return true;
}

static __always_inline int forward4(struct bpf_sock_addr *ctx, bool fresh)
{
	struct peer peer = peer4(ctx);
	int done = translate(ctx, &peer, fresh);

	if (done == TRANSLATED)
		set_peer4(ctx, &peer);
	return done != REFUSED;
}

static __always_inline int forward6(struct bpf_sock_addr *ctx, bool fresh)
{
	struct peer peer = peer6(ctx);
	int done = translate(ctx, &peer, fresh);

	if (done == TRANSLATED)
		set_peer6(ctx, &peer);
	return done != REFUSED;
}

static __always_inline int backward4(struct bpf_sock_addr *ctx)
{
	struct peer peer = peer4(ctx);

	if (translate_back(ctx, &peer))
		set_peer4(ctx, &peer);
	return 1;
}

static __always_inline int backward6(struct bpf_sock_addr *ctx)
{
	struct peer peer = peer6(ctx);

	if (translate_back(ctx, &peer))
		set_peer6(ctx, &peer);
	return 1;
}

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	return forward4(ctx, true);
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	return forward6(ctx, true);
}

SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return forward4(ctx, false);
}

SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	return forward6(ctx, false);
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return backward4(ctx);
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return backward6(ctx);
}

SEC("cgroup/getpeername4")
int sock_getpeername4(struct bpf_sock_addr *ctx)
{
	return backward4(ctx);
}

SEC("cgroup/getpeername6")
int sock_getpeername6(struct bpf_sock_addr *ctx)
{
	return backward6(ctx);
}

/* bind() to a port of the node that a service has. Pods have ports of their own. */
SEC("cgroup/post_bind4")
int sock_post_bind4(struct bpf_sock *ctx)
{
	union addr address = addr_from_v4(ctx->src_ip4);

	return in_host(ctx) && belongs_to_service(ctx, &address) ? refuse(EADDRINUSE) : 1;
}

SEC("cgroup/post_bind6")
int sock_post_bind6(struct bpf_sock *ctx)
{
	union addr address = { .words = { ctx->src_ip6[0], ctx->src_ip6[1], ctx->src_ip6[2], ctx->src_ip6[3] } };
	union addr any4 = addr_from_v4(0);

	if (!in_host(ctx))
		return 1;
	if (belongs_to_service(ctx, &address))
		return refuse(EADDRINUSE);
	/* Who listens on :: mostly listens for IPv4 as well; whether it does, nobody tells here. */
	return addr_is_zero(&address) && belongs_to_service(ctx, &any4) ? refuse(EADDRINUSE) : 1;
}

static __always_inline union addr peer_of(const struct bpf_sock *sk)
{
	__be32 v4;

	if (sk->family != AF_INET)
		return (union addr){ .words = { sk->dst_ip6[0], sk->dst_ip6[1], sk->dst_ip6[2], sk->dst_ip6[3] } };
	v4 = sk->dst_ip4;
	/* Or the compiler makes one read of both families', at a computed offset, which the verifier refuses. */
	asm volatile("" : "+r"(v4));
	return addr_from_v4(v4);
}

/* close(), of whatever socket. */
SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *ctx)
{
	struct peer peer = { .port = ctx->dst_port };

	if (peer.port) {
		peer.address = peer_of(ctx);
		forget(ctx, &peer);
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
