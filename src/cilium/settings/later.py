"""Features that are known by name but not part of this version, and settings that only organise a chart.

In: a path and its value in a values file, or a key of `cilium-config`. Out: whether it is switched off
(fine), asks for something that is not there (an error that says so), or is simply not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OFF: tuple[object, ...] = (False, "false", "disabled", "", None, [], {}, 0, "0")


@dataclass(frozen=True)
class LaterFeature:
    """A feature of a later version: `switch` turns it on, everything below `root` belongs to it."""

    feature: str
    switches: tuple[str, ...]
    root: str = ""
    key: str = ""

    def owns(self, path: str) -> bool:
        return path in self.switches or bool(self.root and path.startswith(f"{self.root}."))


LATER = (
    LaterFeature("transparent encryption", ("encryption.enabled",), "encryption", "enable-encryption"),
    LaterFeature("mutual authentication", ("authentication.enabled",), "authentication", "mesh-auth-enabled"),
    LaterFeature("Ingress", ("ingressController.enabled",), "ingressController", "enable-ingress-controller"),
    LaterFeature("Gateway API", ("gatewayAPI.enabled",), "gatewayAPI", "enable-gateway-api"),
    LaterFeature(
        "health checks of node ports at addresses of load balancers",
        ("nodePort.enableHealthCheckLoadBalancerIP",),
        key="enable-health-check-loadbalancer-ip",
    ),
    LaterFeature(
        "the health server of the kube-proxy replacement",
        ("kubeProxyReplacementHealthzBindAddr",),
        key="kube-proxy-replacement-healthz-bind-address",
    ),
    LaterFeature("a device of its own for forwarding", ("nodePort.directRoutingDevice",), key="direct-routing-device"),
    LaterFeature("a standalone load balancer", ("loadBalancer.standalone",), key="bpf-lb-only"),
    LaterFeature("L7 load balancing", ("loadBalancer.l7.backend",), "loadBalancer.l7", "loadbalancer-l7"),
    LaterFeature("Cluster Mesh", ("clustermesh.useAPIServer", "clustermesh.enabled"), "clustermesh"),
    LaterFeature(
        "egress gateway",
        ("egressGateway.enabled", "egressGateway.enable"),
        "egressGateway",
        "enable-egress-gateway",
    ),
    LaterFeature(
        "L2 announcements",
        ("l2announcements.enabled", "l2announcements.enable"),
        "l2announcements",
        "enable-l2-announcements",
    ),
    LaterFeature("BGP control plane", ("bgpControlPlane.enabled",), "bgpControlPlane", "enable-bgp-control-plane"),
    LaterFeature("Hubble Relay", ("hubble.relay.enabled",), "hubble.relay"),
    LaterFeature("Hubble UI", ("hubble.ui.enabled",), "hubble.ui"),
    LaterFeature("Hubble over TLS", ("hubble.tls.enabled",), "hubble.tls", "hubble-tls"),
    LaterFeature("Hubble metrics", ("hubble.metrics.enabled",), "hubble.metrics", "hubble-metrics"),
    LaterFeature("the L7 proxy", ("l7Proxy",), key="enable-l7-proxy"),
    LaterFeature("Envoy", ("envoy.enabled",), "envoy"),
    LaterFeature("bandwidth manager", ("bandwidthManager.enabled",), "bandwidthManager", "enable-bandwidth-manager"),
    LaterFeature("per-endpoint routes", ("endpointRoutes.enabled",), "endpointRoutes", "enable-endpoint-routes"),
    LaterFeature("CiliumEndpointSlice", ("ciliumEndpointSlice.enabled",), "ciliumEndpointSlice"),
    LaterFeature("netkit devices", ("bpf.netkit",)),
    LaterFeature(
        "direct routing past routers", ("directRoutingSkipUnreachable",), key="direct-routing-skip-unreachable"
    ),
    LaterFeature("delayed identity changes", ("identityChangeGracePeriod",), key="identity-change-grace-period"),
)


def feature_of(path: str) -> LaterFeature | None:
    """The later feature to which a path of a values file belongs."""
    return next((later for later in LATER if later.owns(path)), None)


def feature_of_key(key: str) -> LaterFeature | None:
    return next((later for later in LATER if later.key and later.key == key), None)


def is_off(value: object) -> bool:
    return any(value is off or (type(value) is type(off) and value == off) for off in OFF)


def enabled(leaves: Mapping[str, object]) -> Iterable[tuple[str, LaterFeature]]:
    """The switches that are on in a values file, each with its feature. Details of a feature that is off are
    ignored.
    """
    for path, value in leaves.items():
        later = feature_of(path)
        if later is not None and path in later.switches and not is_off(value):
            yield path, later
