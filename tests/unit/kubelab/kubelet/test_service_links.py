"""Variables that name Services."""

from __future__ import annotations

from typing import Any

from kubelab.kubelet.service_links import variables


def service(name: str, address: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": list(ports)}}


def test_a_service_names_host_ports_and_links() -> None:
    http, metrics = {"name": "http-alt", "port": 80, "protocol": "TCP"}, {"name": "m", "port": 9, "protocol": "UDP"}
    assert variables([service("redis-leader", "10.96.0.7", http, metrics)]) == {
        "REDIS_LEADER_SERVICE_HOST": "10.96.0.7",
        "REDIS_LEADER_SERVICE_PORT": "80",
        "REDIS_LEADER_SERVICE_PORT_HTTP_ALT": "80",
        "REDIS_LEADER_SERVICE_PORT_M": "9",
        "REDIS_LEADER_PORT": "tcp://10.96.0.7:80",
        "REDIS_LEADER_PORT_80_TCP": "tcp://10.96.0.7:80",
        "REDIS_LEADER_PORT_80_TCP_PROTO": "tcp",
        "REDIS_LEADER_PORT_80_TCP_PORT": "80",
        "REDIS_LEADER_PORT_80_TCP_ADDR": "10.96.0.7",
        "REDIS_LEADER_PORT_9_UDP": "udp://10.96.0.7:9",
        "REDIS_LEADER_PORT_9_UDP_PROTO": "udp",
        "REDIS_LEADER_PORT_9_UDP_PORT": "9",
        "REDIS_LEADER_PORT_9_UDP_ADDR": "10.96.0.7",
    }


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert variables([service("six", "fd00::7", {"port": 1})])["SIX_PORT"] == "tcp://[fd00::7]:1"


def test_services_without_an_address_name_nothing() -> None:
    external = {"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "x.test"}}
    assert variables([service("headless", "None", {"port": 1}), service("bare", "10.0.0.1"), external]) == {}
