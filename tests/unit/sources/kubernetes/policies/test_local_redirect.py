"""CiliumLocalRedirectPolicy: what it means, and which field is to blame when it cannot be followed."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest

from cilium.sources.kubernetes.policies import decode_local_redirect, merge_redirect
from cilium.tables.redirects import FrontendType, RedirectPolicy, RedirectPort
from cilium.tables.rules import Requirement

DNS = [{"port": "53", "protocol": "UDP", "name": "dns"}, {"port": "53", "protocol": "TCP", "name": "dns-tcp"}]
HTTP = {"port": "80", "protocol": "TCP"}


def encode(frontend: Any = None, backend: Any = None, uid: str = "u", **spec: Any) -> bytes:
    body = {
        "metadata": {"name": "p", "namespace": "shop", "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "redirectFrontend": frontend or {"addressMatcher": {"ip": "169.254.169.254", "toPorts": [HTTP]}},
            "redirectBackend": backend
            or {"localEndpointSelector": {"matchLabels": {"app": "proxy"}}, "toPorts": [HTTP]},
            **spec,
        },
    }
    return msgspec.json.encode(body)


def address(ip: str = "169.254.169.254", *ports: Any) -> dict[str, Any]:
    return {"addressMatcher": {"ip": ip, "toPorts": list(ports or (HTTP,))}}


def service(*ports: Any, name: str = "dns", namespace: str = "shop") -> dict[str, Any]:
    matcher = {"serviceName": name, "namespace": namespace}
    return {"serviceMatcher": matcher | ({"toPorts": list(ports)} if ports else {})}


def pods(*ports: Any, selector: Any = None) -> dict[str, Any]:
    return {"localEndpointSelector": selector or {"matchLabels": {"app": "proxy"}}, "toPorts": list(ports)}


def test_an_address() -> None:
    row = decode_local_redirect(encode(skipRedirectFromBackend=True, description="metadata"))
    assert row.error == ""
    assert (row.key, row.uid, row.created) == ("shop/p", "u", "2026-01-01T00:00:00Z")
    assert (row.address, row.service) == (ip_address("169.254.169.254"), "")
    assert row.ports == row.backend_ports == (RedirectPort(80, "TCP"),)
    assert row.selector.requirements == (Requirement("k8s:app", "In", ("proxy",)),)
    assert row.skip_backends
    assert row.frontend_type is FrontendType.ADDRESS_PORT


def test_a_service_with_named_ports() -> None:
    ends = [{**DNS[0], "port": "5353"}, {**DNS[1], "port": "5354", "name": "DNS-TCP"}]
    row = decode_local_redirect(encode(service(*DNS), pods(*ends)))
    assert row.error == ""
    assert (row.address, row.service, row.frontend_type) == (None, "shop/dns", FrontendType.SERVICE_PORTS)
    assert [end and end.port for end in map(row.target, row.ports)] == [5353, 5354]


def test_names_join_ports_only_where_there_are_several() -> None:
    ends = [{"port": "8443", "protocol": "TCP", "name": "a"}, {"port": "8443", "protocol": "UDP", "name": "b"}]
    row = decode_local_redirect(encode(service({"port": "443", "protocol": "TCP", "name": "https"}), pods(*ends)))
    assert row.error == ""
    assert row.target(row.ports[0]) == RedirectPort(8443, "TCP", "a")
    whole = decode_local_redirect(encode(service(), pods({"port": "8080", "protocol": "TCP", "name": "any"})))
    assert whole.frontend_type is FrontendType.SERVICE
    assert whole.target(RedirectPort(80, "TCP", "http")) == RedirectPort(8080, "TCP", "any")
    assert whole.target(RedirectPort(80, "UDP", "http")) is None
    several = decode_local_redirect(encode(service(), pods(*DNS)))
    assert several.target(RedirectPort(53, "TCP", "dns-tcp")) == RedirectPort(53, "TCP", "dns-tcp")
    assert several.target(RedirectPort(80, "TCP", "http")) is None


@pytest.mark.parametrize(
    ("frontend", "backend", "error"),
    [
        ({"addressMatcher": None}, None, "spec.redirectFrontend: needs either addressMatcher or serviceMatcher"),
        ({**address(), **service()}, None, "spec.redirectFrontend: needs either addressMatcher or serviceMatcher"),
        (address("10.0.0"), None, "spec.redirectFrontend.addressMatcher.ip: '10.0.0' is not an IP address"),
        (address("0.0.0.0"), None, "spec.redirectFrontend.addressMatcher.ip: 0.0.0.0 is not the address of one host"),
        (address("::1"), None, "spec.redirectFrontend.addressMatcher.ip: ::1 is not the address of one host"),
        (address("ff02::1"), None, "spec.redirectFrontend.addressMatcher.ip: ff02::1 is not the address"),
        (address("::ffff:1.2.3.4"), None, "spec.redirectFrontend.addressMatcher.ip: ::ffff:1.2.3.4 cannot be matched"),
        (address("fe80::1%eth0"), None, "spec.redirectFrontend.addressMatcher.ip: fe80::1%eth0 cannot be matched"),
        ({"addressMatcher": {"ip": "1.2.3.4", "toPorts": []}}, None, "spec.redirectFrontend.addressMatcher.toPorts: i"),
        ({"addressMatcher": {"ip": "1.2.3.4"}}, None, "spec.redirectFrontend.addressMatcher: Object missing required"),
        (service(namespace="other"), None, "spec.redirectFrontend.serviceMatcher.namespace: 'other' is not the policy"),
        (service(name=""), None, "spec.redirectFrontend.serviceMatcher.serviceName: is empty"),
        (address("1.2.3.4", {"port": "0", "protocol": "TCP"}), None, "addressMatcher.toPorts[0].port: '0'"),
        (address("1.2.3.4", {"port": "65536", "protocol": "TCP"}), None, "toPorts[0].port: '65536' is not a number"),
        (address("1.2.3.4", {"port": "http", "protocol": "TCP"}), None, "toPorts[0].port: 'http' is not a number"),
        (address("1.2.3.4", {"port": "1", "protocol": "SCTP"}), None, "toPorts[0].protocol: 'SCTP' is not one of"),
        (address("1.2.3.4", {**HTTP, "name": "-x"}), None, "toPorts[0].name: '-x' is not a port name"),
        (address("1.2.3.4", HTTP, DNS[0]), pods(*DNS), "addressMatcher.toPorts[0].name: is missing"),
        (address("1.2.3.4", DNS[0], DNS[0]), pods(*DNS), "addressMatcher.toPorts[1]: is the same as"),
        (address("1.2.3.4", *DNS), pods(HTTP), "spec.redirectBackend.toPorts[0].name: is missing"),
        (address("1.2.3.4", *DNS), pods(DNS[0]), "addressMatcher.toPorts[1]: spec.redirectBackend.toPorts has no port"),
        (address("1.2.3.4", DNS[0]), pods(HTTP), "toPorts[0]: spec.redirectBackend.toPorts has no port for UDP"),
        (None, pods(), "spec.redirectBackend.toPorts: is empty"),
        (None, {"toPorts": [HTTP]}, "spec.redirectBackend: Object missing required field 'localEndpointSelector'"),
        (None, pods(HTTP, selector={"matchLabels": {"a b": "c"}}), "localEndpointSelector.matchLabels[a b]: 'a b'"),
        (None, {**pods(HTTP), "weight": 1}, "spec.redirectBackend: Object contains unknown field 'weight'"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_names_the_field(frontend: Any, backend: Any, error: str) -> None:
    row = decode_local_redirect(encode(frontend, backend))
    assert error in row.error
    assert (row.key, row.address, row.service, row.frontend_type) == ("shop/p", None, "", FrontendType.UNKNOWN)


def test_addresses_may_be_restricted() -> None:
    allowed = (ip_network("169.254.0.0/16"), ip_network("fd00::/8"))
    assert decode_local_redirect(encode(), allowed=allowed).error == ""
    refused = decode_local_redirect(encode(address("8.8.8.8")), allowed=allowed)
    assert "8.8.8.8 is not in 169.254.0.0/16, fd00::/8" in refused.error


def test_an_invalid_update_keeps_the_valid_version() -> None:
    good = decode_local_redirect(encode())
    bad = decode_local_redirect(encode(address("nonsense")))
    kept = merge_redirect(good, bad)
    assert kept.address == good.address
    assert kept.error == bad.error
    assert merge_redirect(kept, good) == good
    assert merge_redirect(None, bad) == bad
    successor = msgspec.structs.replace(bad, uid="another")
    assert merge_redirect(good, successor) == successor, "an object of the same name, but another"
    assert isinstance(kept, RedirectPolicy)
