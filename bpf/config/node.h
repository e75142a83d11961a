/* Load-time configuration: set by the loader before a program is verified, so what is off is dead code and free.
 * The Python loader finds each variable by name through BTF (datapath/loader). */
#pragma once

enum routing_mode { ROUTING_TUNNEL = 0, ROUTING_NATIVE = 1 };

enum tunnel_protocol { TUNNEL_VXLAN = 0, TUNNEL_GENEVE = 1 };

enum dsr_dispatch { DSR_OFF = 0, DSR_OPTION = 1, DSR_GENEVE = 2 };

struct mac {
	__u8 bytes[6];
};

#define CONFIG(type, name) const volatile type name

CONFIG(__u32, config_routing_mode) = ROUTING_TUNNEL;
CONFIG(__u16, config_tunnel_port) = 8472;        /* UDP, where this cluster's nodes take tunnelled packets */
CONFIG(__u32, config_tunnel_protocol) = TUNNEL_VXLAN;
CONFIG(__u32, config_tunnel_ifindex) = 0;        /* cilium_vxlan or cilium_geneve */
CONFIG(__u32, config_host_ifindex) = 0;          /* cilium_host */
CONFIG(struct mac, config_host_mac);             /* of cilium_host */
CONFIG(__u8, config_enable_ipv4) = 1;
CONFIG(__u8, config_enable_ipv6) = 1;
CONFIG(__u8, config_masquerade4) = 1;
CONFIG(__u8, config_masquerade6) = 1;
CONFIG(__u8, config_allow_localhost) = 1;        /* host to its own endpoints is allowed unless a rule denies it */
CONFIG(__u8, config_host_firewall) = 0;          /* policies may be enforced on the node itself */
CONFIG(__u8, config_deny_response) = 0;          /* who is denied by policy is told at once */
CONFIG(__u8, config_fragments) = 1;              /* track fragments */
CONFIG(union addr, config_native4);              /* native routing CIDRs: no masquerading inside; v4-mapped */
CONFIG(__u32, config_native4_bits) = 0;          /* length incl. the 96 bits of the mapping; 0: none */
CONFIG(union addr, config_native6);
CONFIG(__u32, config_native6_bits) = 0;
/* Above the ephemeral range of the node's own sockets (ip_local_port_range): the two never take the same port. */
CONFIG(__u16, config_nat_port_min) = 61000;
CONFIG(__u16, config_nat_port_max) = 65535;
CONFIG(__u64, config_ct_tcp_syn) = 60000000000ULL;        /* ns */
CONFIG(__u64, config_ct_tcp_established) = 8000000000000ULL;
CONFIG(__u64, config_ct_tcp_closing) = 10000000000ULL;
CONFIG(__u64, config_ct_any) = 60000000000ULL;
/* Node ports, and the host's network namespace (SO_NETNS_COOKIE), whose loopback addresses are the node. */
CONFIG(__u16, config_node_port_min) = 30000;
CONFIG(__u16, config_node_port_max) = 32767;
CONFIG(__u64, config_host_netns_cookie) = 0;
/* Services. Packets are translated where no socket was: from pods whose sockets are left alone, and from outside. */
CONFIG(__u8, config_services) = 0;
CONFIG(__u8, config_host_ports) = 1;             /* ports of nodes outside the range of node ports may be services */
CONFIG(__u8, config_dsr) = DSR_OFF;              /* how backends of other nodes learn whom clients outside asked */
CONFIG(__u8, config_reject) = 1;                 /* who asks a service without backends is refused, not ignored */
CONFIG(union addr, config_router4);              /* this node's address in its pod CIDR: the source towards pods of others */
CONFIG(union addr, config_router6);
CONFIG(union addr, config_loopback4);            /* whom a pod sees that reached itself through a service */
CONFIG(union addr, config_loopback6);
CONFIG(__u8, config_sock_host_only) = 0;         /* sockets outside the host's network namespace are left alone */
CONFIG(__u32, config_maglev_size) = 16381;       /* entries of a table in cilium_lb_maglev */
