"""The groups of settings about what is enforced and kept: policy, identities, conntrack, maps, events.

In: nothing. Out: the types that features receive, with defaults. The meanings given here are the
documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cilium.settings import kinds
from cilium.settings.schema import setting


class PolicyEnforcement(StrEnum):
    DEFAULT = "default"
    ALWAYS = "always"
    NEVER = "never"


class DenyResponse(StrEnum):
    NONE = "none"
    ICMP = "icmp"


class AllowLocalhost(StrEnum):
    AUTO = "auto"
    ALWAYS = "always"
    POLICY = "policy"


class MonitorAggregation(StrEnum):
    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    MAXIMUM = "maximum"


@dataclass(frozen=True)
class PolicySettings:
    enforcement: PolicyEnforcement = setting(
        kinds.choice(PolicyEnforcement),
        default=PolicyEnforcement.DEFAULT,
        key="enable-policy",
        helm=("policyEnforcementMode",),
        meaning="`default`: endpoints that a policy selects; `always`: every endpoint; `never`: none.",
    )
    audit: bool = setting(
        kinds.boolean(),
        default=False,
        key="policy-audit-mode",
        helm=("policyAuditMode",),
        meaning="Nothing is dropped by policy; what would have been is reported with verdict AUDIT.",
    )
    deny_response: DenyResponse = setting(
        kinds.choice(DenyResponse),
        default=DenyResponse.NONE,
        key="policy-deny-response",
        helm=("policyDenyResponse",),
        meaning="What a denied client hears, in both directions: `none`: nothing, it waits; `icmp`: a reset for "
        "TCP, and ICMP's `administratively prohibited` for everything else.",
    )
    allow_localhost: AllowLocalhost = setting(
        kinds.choice(AllowLocalhost),
        default=AllowLocalhost.AUTO,
        key="allow-localhost",
        helm=("allowLocalhost",),
        meaning="Whether the node reaches its own pods without a rule: `auto` and `always` yes, `policy` no.",
    )
    kubernetes: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-k8s-networkpolicy",
        helm=("k8sNetworkPolicy.enabled",),
        meaning="Kubernetes NetworkPolicy objects are enforced beside CiliumNetworkPolicy.",
    )
    node_status: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-cnp-node-status-updates",
        helm=("enableCnpNodeStatusUpdates",),
        meaning="Agents write into the status of policies what their node makes of them; every write is an event for "
        "every agent, which a cluster of thousands of nodes may not want.",
    )
    cluster_network_policy: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-k8s-cluster-network-policy",
        helm=("k8sClusterNetworkPolicy.enabled",),
        meaning="ClusterNetworkPolicy objects (policy.networking.k8s.io) are enforced: tiers Admin and Baseline.",
    )
    cidr_match_mode: tuple[str, ...] = setting(
        kinds.names("nodes", "a list of what CIDRs match beside the world: nodes"),
        default=(),
        key="policy-cidr-match-mode",
        helm=("policyCIDRMatchMode",),
        meaning="`nodes`: CIDRs in policies match nodes of the cluster too; empty: only what is outside of it.",
    )
    node_selectors: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-node-selector-labels",
        helm=("nodeSelectorLabels",),
        meaning="Every node has an identity of its own, so that `fromNodes` and `toNodes` select nodes by label.",
    )
    extended_protocols: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-extended-ip-protocols",
        meaning="Policies may name VRRP, IGMP, GRE, IPIP, IPV6, ESP and AH as protocols of `toPorts`.",
    )

    @property
    def cidrs_match_nodes(self) -> bool:
        return "nodes" in self.cidr_match_mode

    @property
    def tells_nodes_apart(self) -> bool:
        """Nodes have identities of their own, not one for all."""
        return self.node_selectors or self.cidrs_match_nodes


@dataclass(frozen=True)
class HostFirewallSettings:
    enabled: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-host-firewall",
        helm=("hostFirewall.enabled",),
        meaning="Policies with `nodeSelector` are enforced on the node itself.",
    )
    audit: bool = setting(
        kinds.boolean(),
        default=False,
        key="host-firewall-audit-mode",
        helm=("hostFirewall.auditMode",),
        when={"enable-host-firewall": "true"},
        meaning="A dry run: nothing is dropped by policies on nodes; what would have been has verdict AUDIT.",
    )
    rollback_after: float = setting(
        kinds.duration(3),
        default=10.0,
        key="host-firewall-rollback-after",
        helm=("hostFirewall.rollbackAfter",),
        unit="s",
        when={"enable-host-firewall": "true"},
        meaning="A change on trial is rolled back when the node has not reached its API server for this time.",
    )
    trial_time: float = setting(
        kinds.duration(3),
        default=60.0,
        key="host-firewall-trial-time",
        helm=("hostFirewall.trialTime",),
        unit="s",
        when={"enable-host-firewall": "true"},
        meaning="How long a change of what is enforced on the node is on trial.",
    )


@dataclass(frozen=True)
class IdentitySettings:
    labels: tuple[str, ...] = setting(
        kinds.names(),
        default=(),
        key="labels",
        helm=("labels",),
        meaning="Filter of identity-relevant labels: `k8s:app`, prefixes by regular expression, `!` excludes.",
    )
    well_known: bool = setting(
        kinds.boolean(),
        default=False,
        key="enable-well-known-identities",
        helm=("wellKnownIdentities.enabled",),
        meaning="Known system workloads get fixed identities (kube-dns 102, cilium-operator 105).",
    )


@dataclass(frozen=True)
class ConntrackSettings:
    tcp_max: int = setting(
        kinds.integer(1024, 1 << 24),
        default=524288,
        key="bpf-ct-global-tcp-max",
        helm=("bpf.ctTcpMax",),
        unit="entries",
        meaning="Room for TCP connections.",
    )
    any_max: int = setting(
        kinds.integer(1024, 1 << 24),
        default=262144,
        key="bpf-ct-global-any-max",
        helm=("bpf.ctAnyMax",),
        unit="entries",
        meaning="Room for connections of other protocols.",
    )
    tcp: float = setting(
        kinds.duration(1),
        default=8000.0,
        key="bpf-ct-timeout-regular-tcp",
        helm=("bpf.ctTimeouts.tcp",),
        unit="s",
        meaning="An established TCP connection is forgotten after this silence.",
    )
    tcp_syn: float = setting(
        kinds.duration(1),
        default=60.0,
        key="bpf-ct-timeout-regular-tcp-syn",
        helm=("bpf.ctTimeouts.tcpSyn",),
        unit="s",
        meaning="A TCP connection that was not answered is forgotten after this silence.",
    )
    tcp_fin: float = setting(
        kinds.duration(1),
        default=10.0,
        key="bpf-ct-timeout-regular-tcp-fin",
        helm=("bpf.ctTimeouts.tcpFin",),
        unit="s",
        meaning="A closed TCP connection is forgotten after this time.",
    )
    other: float = setting(
        kinds.duration(1),
        default=60.0,
        key="bpf-ct-timeout-regular-any",
        helm=("bpf.ctTimeouts.any",),
        unit="s",
        meaning="A connection of another protocol is forgotten after this silence.",
    )
    gc_interval: float = setting(
        kinds.duration(),
        default=0.0,
        key="conntrack-gc-interval",
        helm=("conntrackGCInterval",),
        unit="s",
        meaning="Time between two garbage collections; 0 adapts it to what the last one found.",
    )

    @property
    def max_entries(self) -> int:
        """Size of `cilium_ct`, which holds every protocol."""
        return self.tcp_max + self.any_max


@dataclass(frozen=True)
class MapSettings:
    root: str = setting(
        kinds.text(r"/.*", "an absolute path", empty_is_default=True),
        default="/sys/fs/bpf",
        key="bpf-root",
        helm=("bpf.root",),
        meaning="Where the BPF file system is mounted; this version knows no other place.",
    )
    nat_max: int = setting(
        kinds.integer(1024, 1 << 24),
        default=524288,
        key="bpf-nat-global-max",
        helm=("bpf.natMax",),
        unit="entries",
        meaning="Room for masqueraded connections.",
    )
    policy_max: int = setting(
        kinds.integer(1024, 1 << 24),
        default=1048576,
        key="bpf-policy-map-max",
        helm=("bpf.policyMapMax",),
        unit="entries",
        meaning="Room for (policy, identity) pairs of the whole node.",
    )
    fragments_max: int = setting(
        kinds.integer(256, 65536),
        default=8192,
        key="bpf-fragments-map-max",
        helm=("bpf.fragmentsMapMax",),
        unit="entries",
        meaning="Room for fragmented datagrams in flight.",
    )
    fragments: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-ipv4-fragment-tracking",
        helm=("fragmentTracking",),
        meaning="Fragments after the first are judged by the ports of the first, in both families.",
    )


@dataclass(frozen=True)
class EventSettings:
    aggregation: MonitorAggregation = setting(
        kinds.choice(MonitorAggregation),
        default=MonitorAggregation.MEDIUM,
        key="monitor-aggregation",
        helm=("bpf.monitorAggregation",),
        meaning=(
            "`none`: every packet, and every translation in a socket; `low`: the same without what sockets receive; "
            "`medium`: of a connection its first packet, its first reply, SYN, FIN and RST, and one packet per "
            "direction and interval; `maximum`: as `medium`. Packets are reported where a program sends them on, never "
            "where they came in."
        ),
    )
    interval: float = setting(
        kinds.duration(),
        default=5.0,
        key="monitor-aggregation-interval",
        helm=("bpf.monitorInterval",),
        unit="s",
        meaning="Time between two events of one direction of one connection.",
    )
    ring_bytes: int = setting(
        kinds.integer(1 << 16, 1 << 30),
        default=1 << 24,
        key="bpf-events-ring-size",
        helm=("bpf.events.ringSize",),
        unit="bytes",
        meaning="Size of the ring between datapath and agent, a power of two.",
    )
