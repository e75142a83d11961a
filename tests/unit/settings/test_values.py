"""Values files: what is accepted, and what each mistake is told."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from cilium.settings import IpamMode, RoutingMode, SettingsError, from_values, load_values

KUBERNETES_IPAM = """
ipam:
  mode: "kubernetes"
k8s:
  requireIPv4PodCIDR: true
  requireIPv6PodCIDR: true
"""
CLUSTER_POOL_IPAM = """
ipam:
  mode: "cluster-pool"
k8s:
  clusterPoolIPv4PodCIDRList: ["10.0.0.0/8"]
  clusterPoolIPv4MaskSize: 24
  clusterPoolIPv6PodCIDRList: ["fd00::/104"]
  clusterPoolIPv6MaskSize: 120
"""
NATIVE = """
routingMode: "native"
ipV4NativeRoutingCIDR: "10.244.0.0/16"
ipV6NativeRoutingCIDR: ""
"""
TUNNEL = """
routingMode: "tunnel"
tunnelProtocol: "geneve"
tunnelPort: 6081
"""
HUBBLE = """
hubble:
  enabled: true
  relay: {enabled: false}
kubeProxyReplacement: true
socketLB: {enabled: true}
loadBalancer: {acceleration: disabled}
encryption: {enabled: false, type: wireguard}
bpf: {masquerade: true}
"""


def load(tmp_path: Path, text: str):
    path = tmp_path / "values.yaml"
    path.write_text(text)
    return load_values(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("text", [KUBERNETES_IPAM, CLUSTER_POOL_IPAM, NATIVE, TUNNEL, HUBBLE, "", "hubble:\n"])
def test_documented_snippets_are_valid(tmp_path: Path, text: str) -> None:
    load(tmp_path, text)


def test_services_are_off_unless_asked_for(tmp_path: Path) -> None:
    assert not load(tmp_path, "").services.replacement
    found = load(tmp_path, "kubeProxyReplacement: true\nnodePort: {range: '31000,32000'}").services
    assert found.replacement
    assert found.node_port_range == (31000, 32000)


def test_values_reach_their_groups(tmp_path: Path) -> None:
    settings = load(tmp_path, CLUSTER_POOL_IPAM + NATIVE)
    assert settings.ipam.mode is IpamMode.CLUSTER_POOL
    assert settings.ipam.ipv6_pools == (IPv6Network("fd00::/104"),)
    assert settings.routing.mode is RoutingMode.NATIVE
    assert settings.routing.native_ipv4 == IPv4Network("10.244.0.0/16")
    assert settings.routing.native_ipv6 is None
    assert settings.origins["ipv4NativeRoutingCIDR"] == "ipV4NativeRoutingCIDR"
    assert "MTU" not in settings.origins


def test_tunnel_port_follows_the_protocol() -> None:
    assert from_values({}).routing.port == 8472
    assert from_values({"tunnelProtocol": "geneve"}).routing.port == 6081
    assert from_values({"tunnelPort": 4789}).routing.port == 4789


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "routingmode: native\ntunnelPort: 70000\nipv4: {enabled: maybe}\n")
    assert len(found) == 3
    assert "did you mean 'routingMode'?" in found[0]
    assert found[1].startswith("tunnelPort: '70000' is not valid; expected 0 or a whole number from 1 to 65535")
    assert found[2].startswith("ipv4.enabled: 'maybe' is not valid; expected true or false")


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("ipam: {mode: eni}", "ipam.mode", "one of cluster-pool, kubernetes"),
        ("ipv4: {enabled: false}\nipv6: {enabled: false}", "ipv4.enabled", "both address families"),
        ("ipam: {operator: {clusterPoolIPv4MaskSize: 7}}", "ipam.operator.clusterPoolIPv4MaskSize", "does not fit"),
        ("k8s: {clusterPoolIPv6MaskSize: 126}", "k8s.clusterPoolIPv6MaskSize", "choose a size up to 120"),
        ("k8s: {clusterPoolIPv4PodCIDRList: []}", "k8s.clusterPoolIPv4PodCIDRList", "no pool"),
        ("k8s: {clusterPoolIPv4PodCIDRList: [10.0.0.1/8]}", "k8s.clusterPoolIPv4PodCIDRList", "write 10.0.0.0/8"),
        ("k8s: {clusterPoolIPv4PodCIDRList: ['fd00::/64']}", "k8s.clusterPoolIPv4PodCIDRList", "IPv4 CIDRs"),
        (
            "k8s: {clusterPoolIPv4PodCIDRList: [10.0.0.0/8, 10.1.0.0/16]}",
            "k8s.clusterPoolIPv4PodCIDRList",
            "10.0.0.0/8 and 10.1.0.0/16 overlap",
        ),
        (
            "k8s: {clusterPoolIPv6PodCIDRList: ['fd00::/104', 'fd00::/112']}",
            "k8s.clusterPoolIPv6PodCIDRList",
            "fd00::/104 and fd00::/112 overlap",
        ),
        (
            "ipv6: {enabled: false}\nk8s: {clusterPoolIPv6PodCIDRList: ['fd01::/104']}",
            "k8s.clusterPoolIPv6PodCIDRList",
            "no effect while ipv6.enabled is false",
        ),
        (
            "ipam: {mode: kubernetes}\nk8s: {clusterPoolIPv4PodCIDRList: [10.1.0.0/16]}",
            "k8s.clusterPoolIPv4PodCIDRList",
            "no effect while ipam.mode is kubernetes",
        ),
        ("routingMode: native", "ipv4NativeRoutingCIDR", "needs the CIDR"),
        ("routingMode: native\nipv4: {enabled: false}", "ipv6NativeRoutingCIDR", "needs the CIDR"),
        ("autoDirectNodeRoutes: true", "autoDirectNodeRoutes", "set routingMode to native"),
        ("bpf: {masquerade: false}", "bpf.masquerade", "not available"),
        ("MTU: 1000", "MTU", "below 1280"),
        ("cluster: {name: Prod}", "cluster.name", "lower-case"),
        ("cluster: {id: 3}", "cluster.id", "not available in this version"),
        ("hubble: {eventBufferCapacity: 4000}", "hubble.eventBufferCapacity", "set it to 4095"),
        ("bpf: {monitorInterval: fast}", "bpf.monitorInterval", "5s"),
        ("prometheus: {enabled: true, port: 99999}", "prometheus.enabled", "':99999' is not valid"),
        ("encryption: {enabled: true, type: ipsec}", "encryption.enabled", "not available in this version"),
        ("kubeProxyReplacement: maybe", "kubeProxyReplacement", "true or false"),
        (
            "tunnelProtocol: geneve\nroutingMode: native\nipv4NativeRoutingCIDR: 10.0.0.0/8",
            "tunnelProtocol",
            "no effect",
        ),
        ("socketLB: {hostNamespaceOnly: true}", "socketLB.hostNamespaceOnly", "set kubeProxyReplacement to true"),
        ("nodePort: {enabled: true}", "nodePort.enabled", "no effect while kubeProxyReplacement is false"),
        ("hostPort: {enabled: true}", "hostPort.enabled", "set kubeProxyReplacement to true"),
        ("externalIPs: {enabled: true}", "externalIPs.enabled", "set kubeProxyReplacement to true"),
        ("nodePort: {range: '31000,32000'}", "nodePort.range", "set kubeProxyReplacement to true"),
        ("nodePort: {enableHealthCheckLoadBalancerIP: true}", "nodePort.enableHealthCheckLoadBalancerIP", "not avail"),
        ("loadBalancer: {acceleration: native}", "loadBalancer.acceleration", "set kubeProxyReplacement to true"),
        ("loadBalancer: {l7: {backend: envoy}}", "loadBalancer.l7.backend", "L7 load balancing is not available"),
        ("localRedirectPolicy: true", "localRedirectPolicy", "set kubeProxyReplacement to true"),
        ("egressGateway: {enable: true}", "egressGateway.enable", "egress gateway is not available"),
        ("l2announcements: {enable: true}", "l2announcements.enable", "not available"),
        ("bgpControlPlane: {enabled: true}", "bgpControlPlane.enabled", "not available"),
        ("ingressController: {enabled: true, default: true}", "ingressController.enabled", "not available"),
        ("hubble: {relay: {enabled: true}}", "hubble.relay.enabled", "Hubble Relay is not available"),
        ("authentication: {enabled: true}", "authentication.enabled", "not available"),
        ("hubble: {listenAdress: ':1'}", "hubble.listenAdress", "did you mean 'hubble.listenAddress'?"),
        ("masquerade: true", "masquerade", "did you mean 'bpf.masquerade'?"),
        ("ipam: cluster-pool", "ipam", "unknown setting"),
        ("routingMode: {mode: native}", "routingMode", "is not valid"),
        ("frobnicate: 1", "frobnicate", "unknown setting"),
    ],
)
def test_mistakes_name_path_and_remedy(tmp_path: Path, text: str, path: str, part: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(f"{path}: ")
    assert part in found
    assert "; " in found  # a remedy follows


SERVICES = "kubeProxyReplacement: true\n"
NATIVE_ROUTING = "routingMode: native\nipv4NativeRoutingCIDR: 10.0.0.0/8\n"


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("socketLB: {enabled: false}", "socketLB.enabled", "switch it on; socketLB.hostNamespaceOnly leaves"),
        ("nodePort: {range: '32767,30000'}", "nodePort.range", "no range of ports"),
        ("nodePort: {range: '60000,61000'}", "nodePort.range", "end it below 61000"),
        ("nodePort: {addresses: [10.0.0.1/24]}", "nodePort.addresses", "host bits set, write 10.0.0.0/24"),
        ("nodePort: {addresses: [primary]}", "nodePort.addresses", "'primary' is no CIDR"),
        ("maglev: {tableSize: 16384}", "maglev.tableSize", "expected one of 251, 509, 1021, 2039"),
        ("maglev: {hashSeed: short}", "maglev.hashSeed", "12 bytes in base64"),
        ("loadBalancer: {algorithm: ring}", "loadBalancer.algorithm", "one of random, maglev"),
        ("loadBalancer: {acceleration: fast}", "loadBalancer.acceleration", "one of disabled, native, best-effort"),
        ("loadBalancer: {mode: dsr}", "loadBalancer.mode",
         "set loadBalancer.dsrDispatch to geneve and tunnelProtocol to geneve, or routingMode to native and "
         "ipv4NativeRoutingCIDR to the pods' CIDR, or let this go back"),
        ("tunnelProtocol: geneve\nloadBalancer: {mode: hybrid}", "loadBalancer.mode",
         "set loadBalancer.dsrDispatch to geneve, or routingMode to native and ipv4NativeRoutingCIDR to the pods' CIDR "
         "without tunnelProtocol, or"),
        ("bpf: {lbModeAnnotation: true}", "bpf.lbModeAnnotation", "or let this go back"),
        ("loadBalancer: {mode: dsr}\nbpf: {lbModeAnnotation: true}", "loadBalancer.mode",
         "let this and bpf.lbModeAnnotation go back"),
        ("loadBalancer: {mode: dsr, dsrDispatch: geneve}", "loadBalancer.dsrDispatch",
         "set tunnelProtocol to geneve, or this to opt and routingMode to native and ipv4NativeRoutingCIDR"),
        ("loadBalancer: {mode: dsr, dsrDispatch: ipip}", "loadBalancer.dsrDispatch", "one of opt, geneve"),
        ("loadBalancer: {mode: dsr, dsrDispatch: geneve}", "loadBalancer.dsrDispatch", "use tunnelProtocol vxlan"),
        (NATIVE_ROUTING + "loadBalancer: {mode: dsr, dsrDispatch: geneve}", "loadBalancer.dsrDispatch",
         "set routingMode to tunnel and tunnelProtocol to geneve, or this to opt"),
        (NATIVE_ROUTING + "tunnelProtocol: geneve\nloadBalancer: {mode: dsr, dsrDispatch: geneve}",
         "loadBalancer.dsrDispatch", "set routingMode to tunnel, or this to opt without tunnelProtocol"),
        (NATIVE_ROUTING + "tunnelPort: 6081\nloadBalancer: {mode: dsr}", "tunnelPort", "set routingMode to tunnel"),
        ("serviceNoBackendResponse: maybe", "serviceNoBackendResponse", "one of reject, drop"),
        ("localRedirectPolicies: {addressMatcherCIDRs: [1.1.1.1]}", "localRedirectPolicies.addressMatcherCIDRs",
         "set localRedirectPolicies.enabled to true"),
        ("bpf: {lbAffinityMapMax: 1}", "bpf.lbAffinityMapMax", "0 or a whole number from 256"),
    ],
)  # fmt: skip
def test_mistakes_about_services_name_path_and_remedy(tmp_path: Path, text: str, path: str, part: str) -> None:
    (found,) = problems(tmp_path, SERVICES + text)
    assert found.startswith(f"{path}: ")
    assert part in found
    assert "; " in found  # a remedy follows


@pytest.mark.parametrize(
    "text",
    [
        "nodePort: {enabled: true}\nhostPort: {enabled: true}\nexternalIPs: {enabled: true}\nsessionAffinity: true",
        "nodePort: {enabled: false}\nsocketLB: {hostNamespaceOnly: true}",
        NATIVE_ROUTING
        + "loadBalancer: {mode: dsr, acceleration: native, algorithm: maglev}\nmaglev: {tableSize: 65521}",
        "tunnelProtocol: geneve\nloadBalancer: {mode: hybrid, dsrDispatch: geneve}",
        "tunnelProtocol: geneve\nbpf: {lbModeAnnotation: true}\nloadBalancer: {dsrDispatch: geneve}",
        "localRedirectPolicies: {enabled: true, addressMatcherCIDRs: [169.254.169.254/32, 'fd00::/8']}",
        "sctp: {enabled: true}\nserviceNoBackendResponse: drop\nloadBalancer: {serviceTopology: true, mode: snat}",
    ],
)
def test_what_one_may_say_about_services(tmp_path: Path, text: str) -> None:
    found = load(tmp_path, SERVICES + text).services
    assert found.node_port
    assert found.host_port
    assert found.external_ips
    assert found.affinity


def test_services_that_are_off_are_off(tmp_path: Path) -> None:
    found = load(tmp_path, "nodePort: {enabled: false}").services
    assert not any((found.node_port, found.host_port, found.external_ips, found.affinity, found.uses_dsr))


def test_maps_of_services_grow_together(tmp_path: Path) -> None:
    found = load(tmp_path, SERVICES + "bpf: {lbMapMax: 512000, lbMaglevMapMax: 1024}").services
    assert (found.affinity_max, found.source_range_max, found.maglev_max) == (512000, 512000, 1024)


def test_two_names_of_one_setting_must_agree(tmp_path: Path) -> None:
    agreeing = "ipv4NativeRoutingCIDR: 10.0.0.0/8\nipV4NativeRoutingCIDR: 10.0.0.0/8\n"
    assert load(tmp_path, agreeing).routing.native_ipv4 == IPv4Network("10.0.0.0/8")
    (found,) = problems(tmp_path, agreeing.replace("ipV4NativeRoutingCIDR: 10", "ipV4NativeRoutingCIDR: 11"))
    assert "contradicts ipv4NativeRoutingCIDR" in found


def test_null_means_default(tmp_path: Path) -> None:
    assert load(tmp_path, "tunnelPort: null\nhubble: null\nroutingMode: ''\n") == from_values({})


def test_shorthands() -> None:
    settings = from_values({"k8sServiceHost": "fd00::1", "k8sServicePort": "6443", "prometheus": {"enabled": True}})
    assert settings.kubernetes.server == "https://[fd00::1]:6443"
    assert settings.metrics.listen == ":9962"
    assert from_values({"prometheus": {"enabled": False, "port": 1}}).metrics.listen == ""


@pytest.mark.parametrize(("text", "part"), [("a: [", "no valid YAML in line"), ("- a", "holds no mapping")])
def test_files_that_are_no_values(tmp_path: Path, text: str, part: str) -> None:
    (found,) = problems(tmp_path, text)
    assert part in found


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_values(tmp_path / "none.yaml")
