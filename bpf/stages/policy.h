/* The verdict: egress of the client and ingress of the server, as far as they live on this node. */
#pragma once

#include "lib/common.h"
#include "lib/drop.h"
#include "lib/flow.h"
#include "config/node.h"
#include "maps/policy.h"

/* One opening of a connection, whichever direction the packet at hand goes. */
struct opening {
	struct local_end client, server;
	__u32 client_identity, server_identity;
	__be16 port; /* the server's; ICMP: the type */
	__u8 protocol;
	__u32 egress_cookie, ingress_cookie;
	__u8 egress_match, ingress_match;
	__u8 decided; /* EVENT_EGRESS_DECIDED, EVENT_INGRESS_DECIDED, EVENT_EGRESS_AUDITED, EVENT_INGRESS_AUDITED */
};

static __always_inline const struct policy_verdict *policy_lookup(__u32 policy, __u32 identity, __u8 protocol,
								  __be16 port)
{
	struct policy_key key = { policy, identity };
	const __u32 *class = bpf_map_lookup_elem(&cilium_policy, &key);
	struct policy_class_key class_key = { .prefixlen = 56, .protocol = protocol };

	if (!class) {
		key.identity = IDENTITY_UNKNOWN; /* rules without peers */
		class = bpf_map_lookup_elem(&cilium_policy, &key);
		if (!class)
			return NULL;
	}
	class_key.class = *class;
	__builtin_memcpy(class_key.port, &port, sizeof(port));
	return bpf_map_lookup_elem(&cilium_policy_class, &class_key);
}

/* No rule decides. */
static __always_inline bool default_deny(const struct policy_verdict *verdict)
{
	return !verdict || verdict->flags & VERDICT_DEFAULT;
}

/* 0, or the reason to drop. */
static __always_inline int policy_reason(const struct policy_verdict *verdict)
{
	if (default_deny(verdict))
		return DROP_POLICY_DENIED;
	if (verdict->flags & VERDICT_DENY)
		return DROP_POLICY_DENY;
	/* Until there is a proxy and an auth map, what asks for them stays closed. */
	if (verdict->flags & VERDICT_AUTH)
		return DROP_AUTH_REQUIRED;
	if (verdict->flags & VERDICT_REDIRECT)
		return DROP_PUNT_PROXY;
	return 0;
}

/* Audit mode turns a denial into a report; `audited` is its flag for the direction. */
static __always_inline int policy_audit(int reason, const struct local_end *end,
					const struct policy_verdict *verdict, struct opening *opening, __u8 audited)
{
	if (reason != DROP_POLICY_DENIED && reason != DROP_POLICY_DENY)
		return reason;
	if (!(end->flags & ENDPOINT_AUDIT) && !(verdict && verdict->flags & VERDICT_AUDIT))
		return reason;
	opening->decided |= audited;
	return 0;
}

static __always_inline int policy_egress(struct opening *opening)
{
	const struct policy_verdict *verdict =
		policy_lookup(opening->client.egress_policy, opening->server_identity, opening->protocol, opening->port);

	opening->decided |= EVENT_EGRESS_DECIDED;
	if (verdict) {
		opening->egress_cookie = verdict->cookie;
		opening->egress_match = verdict->match;
	}
	return policy_audit(policy_reason(verdict), &opening->client, verdict, opening, EVENT_EGRESS_AUDITED);
}

static __always_inline int policy_ingress(struct opening *opening)
{
	const struct policy_verdict *verdict =
		policy_lookup(opening->server.ingress_policy, opening->client_identity, opening->protocol, opening->port);

	/* The node reaches its own endpoints (probes) unless a rule denies it. It is none of them itself. */
	if (default_deny(verdict) && config_allow_localhost && opening->client_identity == IDENTITY_HOST &&
	    !(opening->server.flags & ENDPOINT_HOST))
		return 0;
	opening->decided |= EVENT_INGRESS_DECIDED;
	if (verdict) {
		opening->ingress_cookie = verdict->cookie;
		opening->ingress_match = verdict->match;
	}
	return policy_audit(policy_reason(verdict), &opening->server, verdict, opening, EVENT_INGRESS_AUDITED);
}

static __always_inline int policy_verdict(struct opening *opening)
{
	int reason = 0;

	if (opening->client.egress_policy)
		reason = policy_egress(opening);
	if (!reason && opening->server.ingress_policy)
		reason = policy_ingress(opening);
	return reason;
}
