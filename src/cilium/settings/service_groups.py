"""The group of settings about services: whether and where they are translated, and room for them.

In: nothing. Out: the type that features receive, with defaults. The meanings given here are the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass

from cilium.settings import kinds
from cilium.settings.schema import setting

ON = {"kube-proxy-replacement": "true"}


@dataclass(frozen=True)
class ServiceSettings:
    replacement: bool = setting(
        kinds.boolean(),
        default=False,
        key="kube-proxy-replacement",
        helm=("kubeProxyReplacement",),
        meaning="Addresses of Services are translated in the sockets of every process of the node, TCP and UDP, both "
        "families: cluster IPs, and node ports, external and load balancer IPs as far as they are asked from inside "
        "the cluster. What comes from outside the cluster is not translated in this version: keep kube-proxy for it.",
    )
    socket: bool = setting(
        kinds.boolean(),
        default=True,
        key="bpf-lb-sock",
        helm=("socketLB.enabled",),
        meaning="Translation in the socket; there is no other implementation in this version.",
    )
    cgroup_root: str = setting(
        kinds.text(r"(/.*)?", "an absolute path or nothing"),
        default="",
        key="cgroup-root",
        helm=("cgroup.hostRoot",),
        meaning="Root of the node's cgroup2 hierarchy, which holds the processes whose sockets are translated; empty: "
        "found among the mounts.",
    )
    node_ports: str = setting(
        kinds.text(r"\d{1,5}[,-]\d{1,5}", "two ports such as 30000,32767", empty_is_default=True),
        default="30000,32767",
        key="node-port-range",
        helm=("nodePort.range",),
        when=ON,
        meaning="First and last node port, as the API server has them.",
    )
    services_max: int = setting(
        kinds.integer(256, 1 << 22),
        default=65536,
        key="bpf-lb-map-max",
        helm=("bpf.lbMapMax",),
        unit="entries",
        meaning="Room for addresses of Services: one per port and address.",
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

    @property
    def node_port_range(self) -> tuple[int, int]:
        """First and last."""
        low, high = self.node_ports.replace("-", ",").split(",")
        return int(low), int(high)

    @property
    def slots_max(self) -> int:
        return 4 * self.backends_max
