"""The group of settings about services: whether, where and how they are translated, and room for them.

In: nothing. Out: the type that features receive, with defaults. The meanings given here are the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from cilium.settings import kinds
from cilium.settings.schema import setting

ON = {"kube-proxy-replacement": "true"}
MAGLEV_SIZES = (251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071)


class LoadBalancerAlgorithm(StrEnum):
    RANDOM = "random"
    MAGLEV = "maglev"


class LoadBalancerMode(StrEnum):
    SNAT = "snat"
    DSR = "dsr"
    HYBRID = "hybrid"


class DsrDispatch(StrEnum):
    OPTION = "opt"
    GENEVE = "geneve"


class Acceleration(StrEnum):
    DISABLED = "disabled"
    NATIVE = "native"
    BEST_EFFORT = "best-effort"


class NoBackendResponse(StrEnum):
    REJECT = "reject"
    DROP = "drop"


@dataclass(frozen=True)
class ServiceSettings:
    replacement: bool = setting(
        kinds.boolean(),
        default=False,
        key="kube-proxy-replacement",
        helm=("kubeProxyReplacement",),
        meaning="Cilium serves the addresses of Services in place of kube-proxy: cluster IPs, node ports, external "
        "IPs, addresses of load balancers and host ports, in sockets and on devices.",
    )
    socket: bool = setting(
        kinds.boolean(),
        default=True,
        key="bpf-lb-sock",
        helm=("socketLB.enabled",),
        meaning="Translation in the socket, where connections are made. `kubeProxyReplacement` includes it.",
    )
    socket_host_only: bool = setting(
        kinds.boolean(),
        default=False,
        key="bpf-lb-sock-hostns-only",
        helm=("socketLB.hostNamespaceOnly",),
        when=ON,
        meaning="Sockets of pods are left alone, and what they send to a Service is translated at their interface: "
        "for service meshes that must see the Service's address. Processes of the node keep translation in the "
        "socket.",
    )
    terminate_sockets: bool = setting(
        kinds.boolean(),
        default=True,
        key="bpf-lb-sock-terminate-pod-connections",
        helm=("socketLB.terminatePodConnections",),
        when=ON,
        meaning="Sockets that talk to a backend which is gone are closed, so that clients connect anew at once.",
    )
    cgroup_root: str = setting(
        kinds.text(r"(/.*)?", "an absolute path or nothing"),
        default="",
        key="cgroup-root",
        helm=("cgroup.hostRoot",),
        meaning="Root of the node's cgroup2 hierarchy, which holds the processes whose sockets are translated; empty: "
        "found among the mounts.",
    )
    algorithm: LoadBalancerAlgorithm = setting(
        kinds.choice(LoadBalancerAlgorithm),
        default=LoadBalancerAlgorithm.RANDOM,
        key="bpf-lb-algorithm",
        helm=("loadBalancer.algorithm",),
        when=ON,
        meaning="How a backend is chosen for clients outside the cluster: `random`, or `maglev`, where every node "
        "chooses the same for the same connection. Inside the cluster the choice is random.",
    )
    algorithm_annotation: bool = setting(
        kinds.boolean(),
        default=False,
        key="bpf-lb-algorithm-annotation",
        helm=("bpf.lbAlgorithmAnnotation",),
        when=ON,
        meaning="A Service may choose its own algorithm: annotation `service.cilium.io/lb-algorithm`.",
    )
    maglev_table_size: int = setting(
        kinds.one_of(MAGLEV_SIZES),
        default=16381,
        key="bpf-lb-maglev-table-size",
        helm=("maglev.tableSize",),
        unit="entries",
        when=ON,
        meaning="Entries of a Service's Maglev table. A hundred for each backend keep the share of connections that "
        "move when one goes below one percent.",
    )
    maglev_hash_seed: str = setting(
        kinds.text(r"[A-Za-z0-9+/]{16}", "12 bytes in base64, which are 16 characters", empty_is_default=True),
        default="JLfvgnHc2kaSUFaI",
        key="bpf-lb-maglev-hash-seed",
        helm=("maglev.hashSeed",),
        when=ON,
        meaning="Seed of the hashes of Maglev; the same on every node.",
    )
    mode: LoadBalancerMode = setting(
        kinds.choice(LoadBalancerMode),
        default=LoadBalancerMode.SNAT,
        key="bpf-lb-mode",
        helm=("loadBalancer.mode",),
        when=ON,
        meaning="How packets of clients outside reach a backend of another node: `snat` with an address of the node "
        "between, `dsr` with the client's address, and the backend's node answers directly; `hybrid` is `dsr` for TCP "
        "and `snat` for UDP and SCTP.",
    )
    mode_annotation: bool = setting(
        kinds.boolean(),
        default=False,
        key="bpf-lb-mode-annotation",
        helm=("bpf.lbModeAnnotation",),
        when=ON,
        meaning="A Service may choose its own mode: annotation `service.cilium.io/forwarding-mode`.",
    )
    dsr_dispatch: DsrDispatch = setting(
        kinds.choice(DsrDispatch),
        default=DsrDispatch.OPTION,
        key="bpf-lb-dsr-dispatch",
        helm=("loadBalancer.dsrDispatch",),
        when=ON,
        meaning="How the backend's node learns the Service's address in mode `dsr`: in an IP option (native routing), "
        "or in an option of the tunnel (`tunnelProtocol: geneve`, tunnel routing).",
    )
    acceleration: Acceleration = setting(
        kinds.choice(Acceleration),
        default=Acceleration.DISABLED,
        key="bpf-lb-acceleration",
        helm=("loadBalancer.acceleration",),
        when=ON,
        meaning="Packets for other nodes turn back in XDP, before the node's stack sees them. `native` needs drivers "
        "that have it on every device, `best-effort` takes it where it is.",
    )
    topology: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-service-topology",
        helm=("loadBalancer.serviceTopology",),
        when=ON,
        meaning="Hints of EndpointSlices are followed: Services with `trafficDistribution` or the annotation "
        "`service.kubernetes.io/topology-mode` stay in the zone or on the node of their clients.",
    )
    node_port_asked: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-node-port",
        helm=("nodePort.enabled",),
        when=ON,
        meaning="Node ports are served. `kubeProxyReplacement` switches it on.",
    )
    node_ports: str = setting(
        kinds.text(r"\d{1,5}[,-]\d{1,5}", "two ports such as 30000,32767", empty_is_default=True),
        default="30000,32767",
        key="node-port-range",
        helm=("nodePort.range",),
        when=ON,
        meaning="First and last node port, as the API server has them.",
    )
    node_port_addresses: tuple[IPv4Network | IPv6Network, ...] = setting(
        kinds.networks(),
        default=(),
        key="nodeport-addresses",
        helm=("nodePort.addresses",),
        when=ON,
        meaning="Node ports answer at those addresses of the node that are in these CIDRs; none: at every one.",
    )
    bind_protection: bool = setting(
        kinds.boolean(),
        default=True,
        key="node-port-bind-protection",
        helm=("nodePort.bindProtection",),
        when=ON,
        meaning="Processes of the node cannot listen on a port that is a node port of a Service.",
    )
    range_protection: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-auto-protect-node-port-range",
        helm=("nodePort.autoProtectPortRange",),
        when=ON,
        meaning="Node ports that the kernel might give to a process of the node are reserved "
        "(`net.ipv4.ip_local_reserved_ports`).",
    )
    health_check_node_port: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-health-check-nodeport",
        helm=("nodePort.enableHealthCheck",),
        when=ON,
        meaning="A server on the `healthCheckNodePort` of each Service that has one tells load balancers whether this "
        "node has backends.",
    )
    host_port_asked: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-host-port",
        helm=("hostPort.enabled",),
        when=ON,
        meaning="Host ports of pods are served. `kubeProxyReplacement` switches it on.",
    )
    external_ips_asked: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-external-ips",
        helm=("externalIPs.enabled",),
        when=ON,
        meaning="External IPs of Services are served. `kubeProxyReplacement` switches it on.",
    )
    affinity_asked: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-session-affinity",
        helm=("sessionAffinity",),
        when=ON,
        meaning="Clients stay with one backend if the Service asks for it. `kubeProxyReplacement` switches it on.",
    )
    external_cluster_ip: bool = setting(
        kinds.boolean(),
        default=False,
        key="bpf-lb-external-clusterip",
        helm=("bpf.lbExternalClusterIP",),
        when=ON,
        meaning="Cluster IPs answer clients outside the cluster, too.",
    )
    no_backend_response: NoBackendResponse = setting(
        kinds.choice(NoBackendResponse),
        default=NoBackendResponse.REJECT,
        key="service-no-backend-response",
        helm=("serviceNoBackendResponse",),
        when=ON,
        meaning="What clients of a Service without backends get: `reject` tells them (ICMP), `drop` is silent.",
    )
    source_range_check: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-svc-source-range-check",
        helm=("svcSourceRangeCheck",),
        when=ON,
        meaning="`loadBalancerSourceRanges` are enforced.",
    )
    source_range_all_types: bool = setting(
        kinds.boolean(),
        default=False,
        key="bpf-lb-source-range-all-types",
        helm=("bpf.lbSourceRangeAllTypes",),
        when=ON,
        meaning="`loadBalancerSourceRanges` also hold for the node ports and cluster IPs of the Service, where they "
        "are asked from outside; otherwise for its load balancer and external IPs.",
    )
    local_redirect: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-local-redirect-policy",
        helm=("localRedirectPolicies.enabled", "localRedirectPolicy"),
        when=ON,
        meaning="CiliumLocalRedirectPolicies send what is meant for an address or a Service to pods of the same node.",
    )
    local_redirect_cidrs: tuple[IPv4Network | IPv6Network, ...] = setting(
        kinds.networks(),
        default=(),
        key="lrp-address-matcher-cidrs",
        helm=("localRedirectPolicies.addressMatcherCIDRs",),
        when={"enable-local-redirect-policy": "true"},
        meaning="Addresses that a CiliumLocalRedirectPolicy may match; none: every address.",
    )
    sctp: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-sctp",
        helm=("sctp.enabled",),
        meaning="SCTP ports of Services and policies. A Service's port must be its backends' port: addresses can be "
        "translated in SCTP, ports cannot, since its checksum covers them.",
    )
    loopback_ipv4: IPv4Address = setting(
        kinds.address(IPv4Address),
        default=IPv4Address("169.254.42.1"),
        key="ipv4-service-loopback-address",
        meaning="Source address that a pod sees when it reaches itself through a Service, IPv4.",
    )
    loopback_ipv6: IPv6Address = setting(
        kinds.address(IPv6Address),
        default=IPv6Address("100::1"),
        key="ipv6-service-loopback-address",
        meaning="Source address that a pod sees when it reaches itself through a Service, IPv6. The default is of the "
        "discard-only prefix (RFC 6666): to a link-local address, a pod would answer with one of its own.",
    )
    services_max: int = setting(
        kinds.integer(256, 1 << 22),
        default=65536,
        key="bpf-lb-map-max",
        helm=("bpf.lbMapMax",),
        unit="entries",
        meaning="Room for addresses of Services: one per port and address, and another where it is asked from outside.",
    )
    backends_max: int = setting(
        kinds.integer(256, 1 << 22),
        default=131072,
        key="bpf-lb-service-backend-map-max",
        helm=("bpf.lbServiceBackendMapMax",),
        unit="entries",
        meaning="Room for backends; there are four slots for each, so that it may serve in several services.",
    )
    reverse_max: int = setting(
        kinds.integer(256, 1 << 22),
        default=65536,
        key="bpf-sock-rev-map-max",
        helm=("bpf.lbSockRevMapMax",),
        unit="entries",
        meaning="Room for sockets that talk to a Service; the longest idle give way.",
    )
    affinity_entries: int = setting(
        kinds.integer(256, 1 << 22, extra=(0,)),
        default=0,
        key="bpf-lb-affinity-map-max",
        helm=("bpf.lbAffinityMapMax",),
        unit="entries",
        meaning="Room for clients with session affinity; the longest idle give way. 0: as `bpf.lbMapMax`.",
    )
    source_range_entries: int = setting(
        kinds.integer(256, 1 << 22, extra=(0,)),
        default=0,
        key="bpf-lb-source-range-map-max",
        helm=("bpf.lbSourceRangeMapMax",),
        unit="entries",
        meaning="Room for source ranges, one per address, port and range. 0: as `bpf.lbMapMax`.",
    )
    maglev_entries: int = setting(
        kinds.integer(256, 1 << 22, extra=(0,)),
        default=0,
        key="bpf-lb-maglev-map-max",
        helm=("bpf.lbMaglevMapMax",),
        unit="entries",
        meaning="Room for Maglev tables, one per address and port that is asked from outside. 0: as `bpf.lbMapMax`.",
    )

    @property
    def node_port_range(self) -> tuple[int, int]:
        """First and last."""
        low, high = self.node_ports.replace("-", ",").split(",")
        return int(low), int(high)

    @property
    def node_port(self) -> bool:
        return self.replacement

    @property
    def host_port(self) -> bool:
        return self.replacement

    @property
    def external_ips(self) -> bool:
        return self.replacement

    @property
    def affinity(self) -> bool:
        return self.replacement

    @property
    def uses_dsr(self) -> bool:
        """Whether some service may have direct server return."""
        return self.mode is not LoadBalancerMode.SNAT or self.mode_annotation

    @property
    def slots_max(self) -> int:
        return 4 * self.backends_max

    @property
    def affinity_max(self) -> int:
        return self.affinity_entries or self.services_max

    @property
    def source_range_max(self) -> int:
        return self.source_range_entries or self.services_max

    @property
    def maglev_max(self) -> int:
        return self.maglev_entries or self.services_max
