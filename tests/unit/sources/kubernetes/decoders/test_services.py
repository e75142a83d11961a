"""Service and EndpointSlice as the API serves them become rows, and the odd ones are refused by field."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest

from cilium.sources.kubernetes.decoders import decode_endpoint_slice, decode_service
from cilium.sources.kubernetes.errors import ObjectError
from cilium.tables.services import (
    Algorithm,
    EndpointSlice,
    Forwarding,
    LabelTerm,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)


def service(spec: dict[str, Any], status: dict[str, Any] | None = None, **labels: str) -> Service:
    metadata = {"name": "web", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels}
    metadata["uid"] = "u-1"
    return decode_service(msgspec.json.encode({"metadata": metadata, "spec": spec, "status": status or {}}))


def annotated(spec: dict[str, Any] | None = None, **annotations: str) -> Service:
    """Names in `annotations` with underscores."""
    named = {f"service.cilium.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    metadata = {"name": "web", "namespace": "shop", "annotations": named}
    return decode_service(
        msgspec.json.encode({"metadata": metadata, "spec": {"clusterIP": "10.96.0.10"} | (spec or {})})
    )


def flaws(found: Service | EndpointSlice) -> dict[str, str]:
    return {flaw.field: flaw.message for flaw in found.flaws}


def piece(**body: Any) -> EndpointSlice | None:
    metadata = {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}}
    return decode_endpoint_slice(msgspec.json.encode({"metadata": metadata, "addressType": "IPv4"} | body))


def test_service_in_full() -> None:
    found = service(
        {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10", "fd00::10"],
            "externalIPs": ["192.0.2.1"],
            "internalTrafficPolicy": "Local",
            "externalTrafficPolicy": "Local",
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "loadBalancerSourceRanges": ["198.51.100.0/24", " 2001:db8::/32"],
            "healthCheckNodePort": 30555,
            "trafficDistribution": "PreferSameNode",
            "selector": {"tier": "front", "app": "web"},
            "allocateLoadBalancerNodePorts": False,
            "publishNotReadyAddresses": True,
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080, "appProtocol": "h2c"},
                {"port": 53, "protocol": "UDP"},
            ],
        },
        {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}, {"hostname": "x"}]}},
        **{"service.kubernetes.io/service-proxy-name": "mesh"},
    )  # fmt: skip
    assert found == Service(
        "shop", "web", "LoadBalancer", created="2026-01-01T00:00:00Z",
        cluster_ips=(ip_address("10.96.0.10"), ip_address("fd00::10")), external_ips=(ip_address("192.0.2.1"),),
        load_balancer_ips=(ip_address("192.0.2.9"),), internal_local=True, external_local=True,
        affinity_timeout=60, proxy_name="mesh", uid="u-1", health_check_node_port=30555, topology=True,
        source_ranges=(ip_network("198.51.100.0/24"), ip_network("2001:db8::/32")),
        ports=(ServicePort("http", 80, "TCP", 30080), ServicePort("", 53, "UDP")),
        labels=("k8s:service.kubernetes.io/service-proxy-name=mesh",), selector=("k8s:app=web", "k8s:tier=front"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"type": "ExternalName", "externalName": "example.org"},
        {"clusterIP": ""},
    ],
)
def test_services_without_an_address(spec: dict[str, Any]) -> None:
    assert service(spec).cluster_ips == ()


def test_the_headless_label_leaves_a_service_to_dns() -> None:
    assert service({"clusterIP": "10.96.0.10"}, **{"service.kubernetes.io/headless": ""}).cluster_ips == ()


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 0),
        ({"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, 0),
        ({"sessionAffinity": "ClientIP"}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}, 1),
    ],
)
def test_session_affinity(spec: dict[str, Any], seconds: int) -> None:
    assert service({"clusterIP": "10.96.0.10"} | spec).affinity_timeout == seconds


def test_policies_that_an_api_server_leaves_out() -> None:
    found = service({"clusterIP": "10.96.0.10", "internalTrafficPolicy": None, "externalTrafficPolicy": None})
    assert (found.internal_local, found.external_local) == (False, False)


@pytest.mark.parametrize(
    ("distribution", "annotations", "near"),
    [
        (None, {}, False),
        ("PreferClose", {}, True),
        ("PreferSameZone", {}, True),
        ("SomethingNew", {}, False),
        (None, {"topology-mode": "Auto"}, True),
        (None, {"topology-mode": "Disabled"}, False),
        (None, {"topology-aware-hints": "auto"}, True),
        (None, {"topology-mode": "Auto", "topology-aware-hints": "Disabled"}, False),
    ],
)
def test_traffic_that_shall_stay_near(distribution: str | None, annotations: dict[str, str], near: bool) -> None:
    named = {f"service.kubernetes.io/{name}": value for name, value in annotations.items()}
    metadata = {"name": "web", "namespace": "shop", "annotations": named}
    spec = {"clusterIP": "10.96.0.10", "trafficDistribution": distribution}
    assert decode_service(msgspec.json.encode({"metadata": metadata, "spec": spec})).topology is near


def test_annotations() -> None:
    found = annotated(
        lb_algorithm="maglev", forwarding_mode="DSR", type="LoadBalancer", src_ranges_policy="Deny", node="gateway"
    )
    assert found.algorithm is Algorithm.MAGLEV
    assert found.forwarding is Forwarding.DSR
    assert found.exposed == "LoadBalancer"
    assert found.source_deny
    assert found.nodes == (LabelTerm("service.cilium.io/node", "in", ("gateway",)),)
    assert found.flaws == ()


def test_a_node_selector_is_stronger_than_a_node() -> None:
    found = annotated(node="x", node_selector="zone in (a, b),!legacy,tier!=db,rank>3,gpu")
    assert found.nodes == (
        LabelTerm("zone", "in", ("a", "b")),
        LabelTerm("legacy", "absent"),
        LabelTerm("tier", "notin", ("db",)),
        LabelTerm("rank", ">", ("3",)),
        LabelTerm("gpu", "exists"),
    )


@pytest.mark.parametrize(
    ("labels", "matches"),
    [
        ({"zone": "a", "rank": "4"}, True),
        ({"zone": "c", "rank": "4"}, False),
        ({"zone": "a", "rank": "3"}, False),
        ({"zone": "a", "rank": "many"}, False),
        ({"zone": "a", "rank": "4", "legacy": ""}, False),
        ({"rank": "4"}, False),
    ],
)
def test_whom_a_selector_selects(labels: dict[str, str], matches: bool) -> None:
    terms = annotated(node_selector="zone in (a, b),!legacy,rank>3").nodes
    assert all(term.matches(labels) for term in terms) is matches


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("lb_algorithm", "ring", "'ring' is not valid; write one of random, maglev"),
        ("forwarding_mode", "ipip", "write one of snat, dsr"),
        ("type", "ExternalName", "write one of ClusterIP, NodePort, LoadBalancer"),
        ("src_ranges_policy", "maybe", "write one of allow, deny"),
        ("node_selector", "zone in (", "cannot read 'zone in ('; write a label selector"),
        ("node_selector", "a,,b", "cannot read ',b'"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_named_and_counts_for_nothing(name: str, value: str, part: str) -> None:
    found = annotated(**{name: value})
    ((field, message),) = flaws(found).items()
    assert field == f"metadata.annotations[service.cilium.io/{name.replace('_', '-')}]"
    assert part in message
    assert msgspec.structs.replace(found, flaws=()) == annotated()


def test_a_range_that_cannot_be_read_disturbs_no_other() -> None:
    found = annotated({"loadBalancerSourceRanges": ["10.0.0.0/33", "198.51.100.7/24", "x"]})
    assert found.source_ranges == (ip_network("198.51.100.0/24"),)
    assert not found.source_closed
    assert flaws(found) == {
        "spec.loadBalancerSourceRanges[0]": "'10.0.0.0/33' is no CIDR; write one such as 192.0.2.0/24",
        "spec.loadBalancerSourceRanges[2]": "'x' is no CIDR; write one such as 192.0.2.0/24",
    }


def test_ranges_none_of_which_can_be_read_close_the_service() -> None:
    found = annotated({"loadBalancerSourceRanges": ["x"]})
    assert (found.source_ranges, found.source_closed) == ((), True)
    assert "nobody outside may ask" in flaws(found)["spec.loadBalancerSourceRanges"]
    assert not annotated({"loadBalancerSourceRanges": []}).source_closed


def test_an_old_server_knows_one_address_only() -> None:
    assert service({"clusterIP": "10.96.0.10"}).cluster_ips == (ip_address("10.96.0.10"),)


def test_addresses_of_a_former_load_balancer_are_none() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
    assert service({"clusterIP": "10.96.0.10"}, status).load_balancer_ips == ()


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1", "::ffff:127.0.0.1"])
def test_an_address_of_nobody_in_particular_is_not_served(address: str) -> None:
    """The unspecified one would be a node port on every node, whatever the port."""
    status = {"loadBalancer": {"ingress": [{"ip": address}, {"hostname": "lb"}, {"ip": "192.0.2.9"}]}}
    found = service({"type": "LoadBalancer", "clusterIP": "10.96.0.10", "externalIPs": ["192.0.2.1", address]}, status)
    assert found.load_balancer_ips == (ip_address("192.0.2.9"),)
    assert found.external_ips == (ip_address("192.0.2.1"),)
    assert set(flaws(found)) == {"status.loadBalancer.ingress[0]", "spec.externalIPs[1]"}


def test_an_ipv4_address_in_the_form_of_ipv6_is_that_address() -> None:
    """In the kernel's maps they are one, so as two they would escape the choice between those who want it."""
    found = service({"clusterIP": "10.96.0.10", "externalIPs": ["::ffff:10.96.0.1"]})
    assert found.external_ips == (ip_address("10.96.0.1"),)


def test_a_bad_address_names_its_field() -> None:
    with pytest.raises(ObjectError, match=r"spec\.externalIPs"):
        service({"clusterIP": "10.96.0.10", "externalIPs": ["nonsense"]})


def test_slice_in_full() -> None:
    found = piece(
        endpoints=[
            {"addresses": ["10.0.0.1", "10.0.0.9"], "nodeName": "n1", "zone": "z1",
             "conditions": {"ready": True, "serving": True, "terminating": False}},
            {"addresses": ["10.0.0.2"], "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n2"}]}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": False, "terminating": True, "serving": True}},
            {"addresses": ["10.0.0.4"], "conditions": {"ready": False}},
            {"addresses": []},
        ],
        ports=[{"name": "http", "port": 8080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}, {"name": "any"}],
    )  # fmt: skip
    assert found == EndpointSlice(
        "shop", "web-x", "web",
        (
            SliceEndpoint(ip_address("10.0.0.1"), True, True, False, "n1", "z1"),
            SliceEndpoint(ip_address("10.0.0.2"), True, True, False, for_zones=("z1",), for_nodes=("n2",)),
            SliceEndpoint(ip_address("10.0.0.3"), False, True, True),
            SliceEndpoint(ip_address("10.0.0.4"), False, False, False),
        ),
        (SlicePort("http", 8080, "TCP"), SlicePort("", 53, "UDP")),
    )  # fmt: skip


def test_an_address_of_the_other_family_names_its_field() -> None:
    with pytest.raises(ObjectError, match=r"endpoints\.addresses"):
        piece(endpoints=[{"addresses": ["fd00::1"]}])


def test_slices_of_names_are_no_rows() -> None:
    assert piece(addressType="FQDN", endpoints=[{"addresses": ["example.org"]}]) is None


def test_empty_slices_are_rows() -> None:
    found = piece(endpoints=None, ports=None)
    assert found is not None
    assert (found.endpoints, found.ports) == ((), ())


@pytest.mark.parametrize(("text", "weight"), [("0", 0), ("42", 42), (" 65535 ", 65535)])
def test_weights(text: str, weight: int) -> None:
    found = weighted(text)
    assert (found.weight, found.flaws) == (weight, ())


@pytest.mark.parametrize("text", ["", "-1", "65536", "half", "1.5", "\u0663"])
def test_a_weight_that_is_none_is_named_and_counts_for_nothing(text: str) -> None:
    found = weighted(text)
    ((field, message),) = flaws(found).items()
    assert (found.weight, field) == (100, "metadata.annotations[service.cilium.io/weight]")
    assert "until then it is 100" in message


def weighted(text: str) -> EndpointSlice:
    found = piece(metadata={"name": "web-x", "namespace": "shop", "annotations": {"service.cilium.io/weight": text}})
    assert found is not None
    return found
