"""The groups of settings about the network: cluster, address families, IPAM, routing, masquerading.

In: nothing. Out: the types that features receive, with defaults. The meanings given here are the
documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from cilium.settings import kinds
from cilium.settings.schema import setting

DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"


class IpamMode(StrEnum):
    CLUSTER_POOL = "cluster-pool"
    KUBERNETES = "kubernetes"


class RoutingMode(StrEnum):
    TUNNEL = "tunnel"
    NATIVE = "native"


class TunnelProtocol(StrEnum):
    VXLAN = "vxlan"
    GENEVE = "geneve"

    @property
    def default_port(self) -> int:
        return 8472 if self is TunnelProtocol.VXLAN else 6081


@dataclass(frozen=True)
class ClusterSettings:
    name: str = setting(
        kinds.text(DNS_LABEL, "at most 32 lower-case letters, digits and hyphens", empty_is_default=True),
        default="default",
        key="cluster-name",
        helm=("cluster.name",),
        meaning="Name of the cluster, part of every identity's labels.",
    )
    id: int = setting(
        kinds.integer(0, 255),
        default=0,
        key="cluster-id",
        helm=("cluster.id",),
        meaning="Number of the cluster in a mesh; 0 for a cluster on its own.",
    )


@dataclass(frozen=True)
class FamilySettings:
    ipv4: bool = setting(
        kinds.boolean(), default=True, key="enable-ipv4", helm=("ipv4.enabled",), meaning="Pods get IPv4 addresses."
    )
    ipv6: bool = setting(
        kinds.boolean(), default=True, key="enable-ipv6", helm=("ipv6.enabled",), meaning="Pods get IPv6 addresses."
    )

    @property
    def versions(self) -> tuple[int, ...]:
        """Versions of IP in use, the older first."""
        return tuple(version for version, on in ((4, self.ipv4), (6, self.ipv6)) if on)


@dataclass(frozen=True)
class IpamSettings:
    mode: IpamMode = setting(
        kinds.choice(IpamMode),
        default=IpamMode.CLUSTER_POOL,
        key="ipam",
        helm=("ipam.mode",),
        meaning="Who gives nodes their pod CIDRs: `cluster-pool` the operator, `kubernetes` "
        "Node.spec.podCIDRs. It cannot be changed on a live cluster.",
    )
    ipv4_pools: tuple[IPv4Network, ...] = setting(
        kinds.cidrs(IPv4Network),
        default=(IPv4Network("10.0.0.0/8"),),
        key="cluster-pool-ipv4-cidr",
        helm=("ipam.operator.clusterPoolIPv4PodCIDRList", "k8s.clusterPoolIPv4PodCIDRList"),
        when={"ipam": "cluster-pool", "enable-ipv4": "true"},
        meaning="Pools out of which the operator carves the nodes' IPv4 pod CIDRs.",
    )
    ipv4_mask_size: int = setting(
        kinds.integer(1, 30),
        default=24,
        key="cluster-pool-ipv4-mask-size",
        unit="bits",
        helm=("ipam.operator.clusterPoolIPv4MaskSize", "k8s.clusterPoolIPv4MaskSize"),
        when={"ipam": "cluster-pool", "enable-ipv4": "true"},
        meaning="Prefix length of one node's IPv4 pod CIDR.",
    )
    ipv6_pools: tuple[IPv6Network, ...] = setting(
        kinds.cidrs(IPv6Network),
        default=(IPv6Network("fd00::/104"),),
        key="cluster-pool-ipv6-cidr",
        helm=("ipam.operator.clusterPoolIPv6PodCIDRList", "k8s.clusterPoolIPv6PodCIDRList"),
        when={"ipam": "cluster-pool", "enable-ipv6": "true"},
        meaning="Pools out of which the operator carves the nodes' IPv6 pod CIDRs.",
    )
    ipv6_mask_size: int = setting(
        kinds.integer(1, 126),
        default=120,
        key="cluster-pool-ipv6-mask-size",
        unit="bits",
        helm=("ipam.operator.clusterPoolIPv6MaskSize", "k8s.clusterPoolIPv6MaskSize"),
        when={"ipam": "cluster-pool", "enable-ipv6": "true"},
        meaning="Prefix length of one node's IPv6 pod CIDR.",
    )
    require_ipv4: bool = setting(
        kinds.boolean(),
        default=False,
        key="k8s-require-ipv4-pod-cidr",
        helm=("k8s.requireIPv4PodCIDR",),
        when={"enable-ipv4": "true"},
        meaning="Accepted for charts that set it: the agent always waits until its node has an IPv4 pod CIDR.",
    )
    require_ipv6: bool = setting(
        kinds.boolean(),
        default=False,
        key="k8s-require-ipv6-pod-cidr",
        helm=("k8s.requireIPv6PodCIDR",),
        when={"enable-ipv6": "true"},
        meaning="Accepted for charts that set it: the agent always waits until its node has an IPv6 pod CIDR.",
    )


@dataclass(frozen=True)
class RoutingSettings:
    mode: RoutingMode = setting(
        kinds.choice(RoutingMode),
        default=RoutingMode.TUNNEL,
        key="routing-mode",
        helm=("routingMode",),
        meaning="How packets travel between nodes: `tunnel` encapsulates them, `native` uses the network's routes.",
    )
    tunnel_protocol: TunnelProtocol = setting(
        kinds.choice(TunnelProtocol),
        default=TunnelProtocol.VXLAN,
        key="tunnel-protocol",
        helm=("tunnelProtocol",),
        meaning="Encapsulation; `geneve` needs a kernel that has it. With native routing it means something to "
        "`loadBalancer.dsrDispatch: geneve` only.",
    )
    tunnel_port: int = setting(
        kinds.integer(1, 65535, extra=(0,)),
        default=0,
        key="tunnel-port",
        helm=("tunnelPort",),
        meaning="UDP port of the tunnel; 0 is the protocol's own: 8472 for VXLAN, 6081 for Geneve.",
    )
    native_ipv4: IPv4Network | None = setting(
        kinds.optional_cidr(IPv4Network),
        default=None,
        key="ipv4-native-routing-cidr",
        helm=("ipv4NativeRoutingCIDR", "ipV4NativeRoutingCIDR"),
        when={"enable-ipv4": "true"},
        meaning="IPv4 destinations that the network routes by itself: pods reach them without masquerading.",
    )
    native_ipv6: IPv6Network | None = setting(
        kinds.optional_cidr(IPv6Network),
        default=None,
        key="ipv6-native-routing-cidr",
        helm=("ipv6NativeRoutingCIDR", "ipV6NativeRoutingCIDR"),
        when={"enable-ipv6": "true"},
        meaning="IPv6 destinations that the network routes by itself: pods reach them without masquerading.",
    )
    auto_direct_node_routes: bool = setting(
        kinds.boolean(),
        default=False,
        key="auto-direct-node-routes",
        helm=("autoDirectNodeRoutes",),
        when={"routing-mode": "native"},
        meaning="Nodes on one link install routes to each other's pod CIDRs.",
    )
    devices: tuple[str, ...] = setting(
        kinds.names(r"[^\s/]{1,15}\+?", "a list of device names; a trailing + matches every device that begins so"),
        default=(),
        key="devices",
        helm=("devices",),
        meaning="Devices that connect the node to others; none: those with a default route or the node's address.",
    )
    mtu: int = setting(
        kinds.integer(576, 65535, extra=(0,)),
        default=0,
        key="mtu",
        helm=("MTU", "mtu"),
        unit="bytes",
        meaning="MTU of the network between nodes; 0 takes it from the devices.",
    )

    @property
    def port(self) -> int:
        """The tunnel's UDP port, with the protocol's own filled in."""
        return self.tunnel_port or self.tunnel_protocol.default_port


@dataclass(frozen=True)
class MasqueradeSettings:
    ipv4: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-ipv4-masquerade",
        helm=("enableIPv4Masquerade",),
        meaning="IPv4 traffic from pods to the world leaves with the node's address. Void without IPv4.",
    )
    ipv6: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-ipv6-masquerade",
        helm=("enableIPv6Masquerade",),
        meaning="IPv6 traffic from pods to the world leaves with the node's address. Void without IPv6.",
    )
    bpf: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-bpf-masquerade",
        helm=("bpf.masquerade",),
        meaning="Masquerading is done in eBPF; there is no other implementation.",
    )
