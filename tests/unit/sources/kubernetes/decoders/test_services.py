"""Service and EndpointSlice as the API serves them become rows, and the odd ones are refused by field."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from cilium.sources.kubernetes.decoders import decode_endpoint_slice, decode_service
from cilium.sources.kubernetes.errors import ObjectError
from cilium.tables.services import EndpointSlice, Service, ServicePort, SliceEndpoint, SlicePort


def service(spec: dict[str, Any], status: dict[str, Any] | None = None, **labels: str) -> Service:
    metadata = {"name": "web", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels}
    return decode_service(msgspec.json.encode({"metadata": metadata, "spec": spec, "status": status or {}}))


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
            "sessionAffinity": "ClientIP",
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080},
                {"port": 53, "protocol": "UDP"},
            ],
        },
        {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}, {"hostname": "x"}]}},
        **{"service.kubernetes.io/service-proxy-name": "mesh"},
    )  # fmt: skip
    assert found == Service(
        "shop", "web", "LoadBalancer", created="2026-01-01T00:00:00Z",
        cluster_ips=(ip_address("10.96.0.10"), ip_address("fd00::10")), external_ips=(ip_address("192.0.2.1"),),
        load_balancer_ips=(ip_address("192.0.2.9"),), internal_local=True, affinity=True, proxy_name="mesh",
        ports=(ServicePort("http", 80, "TCP", 30080), ServicePort("", 53, "UDP")),
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


def test_an_old_server_knows_one_address_only() -> None:
    assert service({"clusterIP": "10.96.0.10"}).cluster_ips == (ip_address("10.96.0.10"),)


def test_addresses_of_a_former_load_balancer_are_none() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
    assert service({"clusterIP": "10.96.0.10"}, status).load_balancer_ips == ()


def test_a_bad_address_names_its_field() -> None:
    with pytest.raises(ObjectError, match=r"spec\.externalIPs"):
        service({"clusterIP": "10.96.0.10", "externalIPs": ["nonsense"]})


def test_slice_in_full() -> None:
    found = piece(
        endpoints=[
            {"addresses": ["10.0.0.1", "10.0.0.9"], "nodeName": "n1", "zone": "z1",
             "conditions": {"ready": True, "serving": True, "terminating": False}},
            {"addresses": ["10.0.0.2"]},
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
            SliceEndpoint(ip_address("10.0.0.2"), True, True, False),
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
