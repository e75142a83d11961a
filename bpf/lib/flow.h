/* struct flow: what one program run knows of its packet. Parsing fills the first part, the stages the rest, the event
 * is written from it. No pointers: stages are global functions, which the verifier checks once and not per caller. */
#pragma once

#include "lib/common.h"
#include "maps/endpoints.h"
#include "maps/events.h"

enum flow_shape {
	SHAPE_V6 = 1 << 0,
	SHAPE_FRAGMENT = 1 << 1,       /* any fragment */
	SHAPE_LATER_FRAGMENT = 1 << 2, /* no transport header: ports come from cilium_frags */
	SHAPE_ICMP_ERROR = 1 << 3,     /* carries the header of the packet it is about */
	SHAPE_ECHO = 1 << 4,           /* ICMP echo: both ports hold the identifier */
	SHAPE_ECHO_REQUEST = 1 << 5,
	SHAPE_ICMP_OTHER = 1 << 6, /* neither: nothing ties a reply to its question */
};

/* The packet that an ICMP error quotes. */
struct quoted {
	union addr source, destination;
	__be16 source_port, destination_port;
	__u8 protocol;
	__u8 shape;
	__u16 l4_offset;
};

/* What the stages need to know of an end that lives on this node; all zero: it does not. */
struct local_end {
	__u32 ingress_policy, egress_policy;
	__u16 id;
	__u16 flags; /* enum endpoint_flags */
};

struct flow {
	union addr source, destination;
	__be16 source_port, destination_port;
	__u8 protocol;  /* transport, behind all extension headers */
	__u8 tcp_flags;
	__u8 icmp_type, icmp_code;
	__u16 l4_offset; /* from the start of the frame */
	__u8 shape;      /* enum flow_shape */
	__u8 ttl;
	__be32 fragment_id;
	__u32 length; /* of the frame */

	__u32 policy_epoch; /* read before anything that it speaks of */
	struct local_end from, to;
	__u32 source_identity, destination_identity; /* 0: not resolved yet */

	/* what the stages decided */
	__u32 egress_cookie, ingress_cookie;
	__u8 egress_match, ingress_match;
	__u8 trace;     /* enum trace_reason */
	__u8 verdict;   /* enum flow_verdict */
	__u8 point;     /* enum observation_point */
	__u8 direction; /* enum flow_direction */
	__u8 flags;     /* enum event_flags */
	__u8 report;    /* this packet is worth an event */
	__u8 silent;    /* a drop that is not answered */
	__u8 opens;     /* a connection to a service */
	__u32 packets;  /* that the event stands for */
	__u32 tunnel_vni;
	union addr translated;
	__be16 translated_port;
	__u8 ext_error;
};

static __always_inline struct local_end local_end(const struct endpoint *row)
{
	return (struct local_end){
		.ingress_policy = row->ingress_policy, .egress_policy = row->egress_policy,
		.id = row->id, .flags = row->flags,
	};
}

static __always_inline void flow_from(struct flow *flow, const struct endpoint *row)
{
	flow->from = local_end(row);
	flow->source_identity = row->identity;
}

static __always_inline void flow_to(struct flow *flow, const struct endpoint *row)
{
	flow->to = local_end(row);
	flow->destination_identity = row->identity;
}
