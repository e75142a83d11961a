/* Direct server return: the node that was asked sends the client's packet on with the address of the backend, and with the
 * service's in an option; the backend's node keeps that, and replies go straight to the client in the service's name.
 * IPv4: an option (RFC 791 3.1) of a number that is nobody's; IPv6: a destination option that who does not know it skips
 * (RFC 8200 4.2, 4.6); through a Geneve tunnel, an option of the tunnel's (RFC 8926 3.5), which leaves the packet as it is.
 * TCP says it once, with the SYN; everything else with every packet. */
#pragma once

#include "lib/drop.h"
#include "lib/flow.h"
#include "stages/nat.h"
#include "stages/service.h"

#define DSR_TYPE4 0x9a /* copied into fragments, control, number 26 */
#define DSR_TYPE6 0x1b
#define DSR_PAYLOAD6 20
#define DSR_ROOM BPF_F_ADJ_ROOM_FIXED_GSO /* datagrams that the kernel joined stay as long as they were */

struct dsr4 {
	__u8 type, length;
	__be16 port;
	__be32 address;
};

struct dsr6 {
	__u8 next, units; /* 8 bytes each, without the first */
	__u8 type, length;
	__be16 port;
	__u16 pad;
	union addr address;
};

#define DSR_CLASS bpf_htons(0x014b) /* Cilium's */
#define DSR_TYPE_GENEVE 0x81       /* critical: who does not know it must not take the packet for an ordinary one */

struct dsr_geneve {
	__be16 class;
	__u8 type;
	__u8 words; /* 4 bytes each, of what follows */
	union addr address;
	__be16 port;
	__u16 pad;
};

static __always_inline bool dsr_speaks(const struct flow *flow)
{
	return flow->protocol != IPPROTO_TCP || (flow->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline int dsr_add4(struct __sk_buff *skb, struct flow *flow, const union addr *address, __be16 port)
{
	struct { struct iphdr ip; struct dsr4 option; } header;

	if (flow->l4_offset != ETH_HLEN + sizeof(header.ip)) /* options of its own leave no place for ours */
		return DROP_INVALID_PACKET_DROPPED;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &header.ip, sizeof(header.ip)) ||
	    bpf_skb_adjust_room(skb, sizeof(header.option), BPF_ADJ_ROOM_NET, DSR_ROOM))
		return DROP_ERROR_WRITING_TO_PACKET;
	header.ip.ihl = sizeof(header) / 4;
	header.ip.tot_len = bpf_htons(bpf_ntohs(header.ip.tot_len) + sizeof(header.option));
	header.ip.check = 0;
	header.option = (struct dsr4){ DSR_TYPE4, sizeof(header.option), port, address->words[3] };
	header.ip.check = fold(bpf_csum_diff(NULL, 0, (__be32 *)&header, sizeof(header), 0));
	flow->l4_offset += sizeof(header.option);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &header, sizeof(header), 0) ? DROP_ERROR_WRITING_TO_PACKET : 0;
}

static __always_inline int dsr_add6(struct __sk_buff *skb, struct flow *flow, const union addr *address, __be16 port)
{
	struct { struct ipv6hdr ip; struct dsr6 option; } header;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &header.ip, sizeof(header.ip)) ||
	    bpf_skb_adjust_room(skb, sizeof(header.option), BPF_ADJ_ROOM_NET, DSR_ROOM))
		return DROP_ERROR_WRITING_TO_PACKET;
	header.option = (struct dsr6){
		.next = header.ip.nexthdr, .units = sizeof(header.option) / 8 - 1,
		.type = DSR_TYPE6, .length = DSR_PAYLOAD6, .port = port, .address = *address,
	};
	header.ip.nexthdr = IPPROTO_DSTOPTS;
	header.ip.payload_len = bpf_htons(bpf_ntohs(header.ip.payload_len) + sizeof(header.option));
	flow->l4_offset += sizeof(header.option);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &header, sizeof(header), 0) ? DROP_ERROR_WRITING_TO_PACKET : 0;
}

/* On the node that was asked. 0 or the reason to drop. */
STAGE int dsr_add(struct __sk_buff *skb, struct flow *flow, const union addr *address, __be16 port)
{
	if (!flow || !address)
		return DROP_ERROR_WRITING_TO_PACKET;
	if (!dsr_speaks(flow) || flow->shape & SHAPE_LATER_FRAGMENT)
		return 0;
	return flow->shape & SHAPE_V6 ? dsr_add6(skb, flow, address, port) : dsr_add4(skb, flow, address, port);
}

/* The same for a packet that enters the tunnel. */
STAGE int dsr_add_geneve(struct __sk_buff *skb, const struct flow *flow, const union addr *address, __be16 port)
{
	struct dsr_geneve option = { DSR_CLASS, DSR_TYPE_GENEVE, (sizeof(option) - 4) / 4, {}, port, 0 };

	if (!flow || !address)
		return DROP_ERROR_WRITING_TO_PACKET;
	if (!dsr_speaks(flow))
		return 0;
	option.address = *address;
	return bpf_skb_set_tunnel_opt(skb, &option, sizeof(option)) ? DROP_ERROR_WRITING_TO_PACKET : 0;
}

static __always_inline bool dsr_read_geneve(struct __sk_buff *skb, struct service_key *meant)
{
	struct dsr_geneve option;

	if (bpf_skb_get_tunnel_opt(skb, &option, sizeof(option)) != sizeof(option) || option.class != DSR_CLASS ||
	    option.type != DSR_TYPE_GENEVE)
		return false;
	meant->address = option.address;
	meant->port = option.port;
	return true;
}

/* The address that the packet was sent to before a node passed it on. */
static __always_inline bool dsr_read(struct __sk_buff *skb, const struct flow *flow, struct service_key *meant)
{
	if (config_dsr == DSR_GENEVE)
		return flow->point == FROM_OVERLAY && dsr_read_geneve(skb, meant);
	if (flow->shape & SHAPE_V6) {
		struct { struct ipv6hdr ip; struct dsr6 option; } header;

		if (flow->l4_offset < ETH_HLEN + sizeof(header) ||
		    bpf_skb_load_bytes(skb, ETH_HLEN, &header, sizeof(header)) ||
		    header.ip.nexthdr != IPPROTO_DSTOPTS || header.option.type != DSR_TYPE6 ||
		    header.option.length != DSR_PAYLOAD6)
			return false;
		meant->address = header.option.address;
		meant->port = header.option.port;
	} else {
		struct dsr4 option;

		if (flow->l4_offset < ETH_HLEN + sizeof(struct iphdr) + sizeof(option) ||
		    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct iphdr), &option, sizeof(option)) ||
		    option.type != DSR_TYPE4 || option.length != sizeof(option))
			return false;
		meant->address = addr_from_v4(option.address);
		meant->port = option.port;
	}
	return true;
}

/* On the backend's node: replies of this connection will come from the service, if there is such a service: anybody can
 * write an option. 0, NAT_NOT_OURS (no option), or the reason to drop. */
STAGE int dsr_keep(struct __sk_buff *skb, struct flow *flow)
{
	struct nat_work *work = nat_work();
	struct service_key meant = {};
	const struct service *service;

	if (!flow || !work || !dsr_speaks(flow) || !dsr_read(skb, flow, &meant))
		return NAT_NOT_OURS;
	nat_key_of(&work->forward, flow, NAT_FORWARD);
	work->forward.destination = meant.address;
	work->forward.destination_port = meant.port;
	meant.protocol = flow->protocol;
	meant.scope = SERVICE_EXTERNAL;
	service = service_at(&meant);
	if (!service && may_be_node_port(meant.port))
		service = service_at_node_port(&meant);
	if (!service)
		return DROP_SERVICE_BACKEND_NOT_FOUND;
	__builtin_memset(&work->mapping, 0, sizeof(work->mapping));
	work->mapping.source = flow->source;
	work->mapping.source_port = flow->source_port;
	work->mapping.destination = flow->destination;
	work->mapping.destination_port = flow->destination_port;
	work->mapping.service = service->id;
	work->mapping.created = work->mapping.used = bpf_ktime_get_coarse_ns();
	nat_key_of_reply(&work->reverse, &work->mapping, flow->protocol, NAT_REVERSE);
	nat_entry_of_reply(&work->back, &work->forward, &work->mapping);
	return bpf_map_update_elem(&cilium_snat, &work->reverse, &work->back, BPF_ANY) ?
		       DROP_NO_MAPPING_FOR_NAT_MASQUERADE : 0;
}
