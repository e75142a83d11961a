"""What the status says of services that ask for more than this version has."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from cilium.app.sections import unserved
from cilium.tables.services import Service, ServicePort

IPS = (ip_address("10.96.0.1"),)


def service(name: str, *protocols: str, **more: Any) -> Service:
    ports = tuple(ServicePort("", 80 + n, protocol) for n, protocol in enumerate(protocols))
    return Service("shop", name, "ClusterIP", cluster_ips=more.pop("cluster_ips", IPS), ports=ports, **more)


def test_each_is_named_with_what_it_lacks() -> None:
    rows = [
        service("plain", "TCP", "UDP"),
        service("sticky", "TCP", affinity=True),
        service("mixed", "TCP", "SCTP"),
        service("headless", "SCTP", affinity=True, cluster_ips=()),
        service("foreign", "SCTP", proxy_name="mesh"),
    ]
    assert list(unserved(rows)) == [
        "shop/mixed: port 81/SCTP is not translated",
        "shop/sticky: session affinity is not kept",
    ]
