/* sock_*: on the node's root cgroup, so for every process of the node, in pods or not. What a process connects or sends
 * to is translated from a service's address to a backend's before there is a packet; what it receives, and whom it
 * believes to be connected to, is translated back. Policy, conntrack and events see the backend.
 * A socket of IPv6 that talks IPv4 uses v4-mapped addresses, which is the form of every map key. */
#include "lib/common.h"
#include "stages/socket.h"

struct peer {
	union addr address;
	__be16 port;
};

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

static __always_inline void set_peer4(struct bpf_sock_addr *ctx, const union addr *address, __be16 port)
{
	ctx->user_ip4 = address->words[3];
	ctx->user_port = port;
}

static __always_inline void set_peer6(struct bpf_sock_addr *ctx, const union addr *address, __be16 port)
{
	ctx->user_ip6[0] = address->words[0];
	ctx->user_ip6[1] = address->words[1];
	ctx->user_ip6[2] = address->words[2];
	ctx->user_ip6[3] = address->words[3];
	ctx->user_port = port;
}

enum translation { UNTOUCHED, TRANSLATED, REFUSED };

/* Puts the backend into `peer`. `fresh`: any backend will do; else the one that this socket always gets. */
static __always_inline int translate(struct bpf_sock_addr *ctx, struct peer *peer, bool fresh)
{
	struct service_key key = { .address = peer->address, .port = peer->port, .protocol = ctx->protocol };
	const struct service *service;
	const struct backend *backend;
	__u64 cookie;

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return UNTOUCHED;
	service = service_of_socket(ctx, &key);
	if (!service)
		return UNTOUCHED;
	cookie = bpf_get_socket_cookie(ctx);
	backend = backend_at(service_slot(service, fresh ? bpf_get_prandom_u32() : choice_of_socket(cookie, service->id)));
	if (!backend) {
		refuse(EHOSTUNREACH);
		return REFUSED;
	}
	/* Replies to a datagram would come from a stranger; of TCP only getpeername would tell the backend. */
	if (remember(cookie, backend, &peer->address, peer->port, service->id) && ctx->protocol == IPPROTO_UDP) {
		refuse(ENOMEM);
		return REFUSED;
	}
	peer->address = backend->address;
	peer->port = backend->port;
	return TRANSLATED;
}

static __always_inline int forward4(struct bpf_sock_addr *ctx, bool fresh)
{
	struct peer peer = peer4(ctx);
	int done = translate(ctx, &peer, fresh);

	if (done == TRANSLATED)
		set_peer4(ctx, &peer.address, peer.port);
	return done != REFUSED;
}

static __always_inline int forward6(struct bpf_sock_addr *ctx, bool fresh)
{
	struct peer peer = peer6(ctx);
	int done = translate(ctx, &peer, fresh);

	if (done == TRANSLATED)
		set_peer6(ctx, &peer.address, peer.port);
	return done != REFUSED;
}

static __always_inline int backward4(struct bpf_sock_addr *ctx)
{
	struct peer peer = peer4(ctx);
	const struct reverse_entry *meant = remembered(ctx, &peer.address, peer.port);

	if (meant)
		set_peer4(ctx, &meant->address, meant->port);
	return 1;
}

static __always_inline int backward6(struct bpf_sock_addr *ctx)
{
	struct peer peer = peer6(ctx);
	const struct reverse_entry *meant = remembered(ctx, &peer.address, peer.port);

	if (meant)
		set_peer6(ctx, &meant->address, meant->port);
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

char LICENSE[] SEC("license") = "Dual BSD/GPL";
