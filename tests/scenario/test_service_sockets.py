"""What services mean to sockets beyond the choice of a backend: connections that end with it, ports that are taken."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scenario.cluster import BIN, Cluster, addresses, client, server

pytestmark = pytest.mark.scenario
NS = "sockets"
VERSIONS = (4, 6)
CLINGER = Path(__file__).with_name("clinger.py")
BIND = """
import socket, sys
family, kind, address, port = sys.argv[1:]
print(socket.socket(int(family), int(kind)).bind((address, int(port))))
"""


@pytest.fixture(scope="module")
def pods(tunnel: Cluster) -> Iterator[dict[str, Any]]:
    """Nobody selects the servers: slices are written by hand."""
    with tunnel.namespace(NS):
        manifests = [client("client", "node1"), server("old", "node2"), server("new", "node2")]
        for manifest in manifests:
            manifest["metadata"]["namespace"] = NS
        tunnel.apply(*manifests)
        tunnel.wait_ready(NS)
        yield {item["metadata"]["name"]: item for item in tunnel.get("-n", NS, "pods")["items"]}


def slices(name: str, *pods: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": f"IPv{version}",
            "metadata": {
                "name": f"{name}-{version}", "namespace": NS, "labels": {"kubernetes.io/service-name": name}
            },
            "endpoints": [{"addresses": [addresses(pod)[version]], "conditions": {}} for pod in pods],
            "ports": [
                {"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "echo", "port": 5353, "protocol": "UDP"}
            ],
        }
        for version in VERSIONS
    ]  # fmt: skip


def service(cluster: Cluster, name: str, **more: Any) -> dict[int, str]:
    """Its cluster IPs."""
    ports = [{"name": "http", "port": 80}, {"name": "echo", "port": 53, "protocol": "UDP"}]
    spec = {"ipFamilyPolicy": "RequireDualStack", "ports": ports, **more}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NS}, "spec": spec})
    ips = cluster.get("-n", NS, "service", name)["spec"]["clusterIPs"]
    return {6 if ":" in ip else 4: ip for ip in ips}


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("version", VERSIONS)
def test_who_talks_to_a_backend_that_went_comes_back(
    tunnel: Cluster, pods: dict[str, Any], version: int, kind: str
) -> None:
    """The pod itself goes on and says nothing: as it is with one whose node is lost."""
    name = f"{kind}{version}"
    vips = service(tunnel, name)
    tunnel.apply(*slices(name, pods["old"]))
    port = 80 if kind == "tcp" else 53
    tunnel.eventually(lambda: pods["old"]["status"]["podIP"] in tunnel.dbg("node1", "bpf", "lb", "list"), "the backend")
    command = [sys.executable, "-I", "-S", str(CLINGER), kind, vips[version], str(port)]
    with subprocess.Popen(
        [str(BIN / "kubectl"), "-n", NS, "exec", "client", "--", *command],
        env=tunnel.environment, stdout=subprocess.PIPE, text=True,
    ) as clinger:  # fmt: skip
        assert clinger.stdout
        assert clinger.stdout.readline() == "old\n"
        tunnel.apply(*slices(name, pods["new"]))
        assert clinger.stdout.readline() == f"ended {errno.ECONNABORTED}\n"
        assert clinger.stdout.readline() == "new\n"
    tunnel.kubectl("-n", NS, "delete", "service", name)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_process_of_the_node_takes_a_node_port(tunnel: Cluster, pods: dict[str, Any], version: int) -> None:
    name = f"taken{version}"
    service(tunnel, name, type="NodePort")
    tunnel.apply(*slices(name, pods["old"]))
    ports = [port["nodePort"] for port in tunnel.get("-n", NS, "service", name)["spec"]["ports"]]
    family, anybody = (2, "0.0.0.0") if version == 4 else (10, "::")

    def bind(kind: int, port: int, *, pod: bool = False) -> str:
        command = [sys.executable, "-c", BIND, str(family), str(kind), anybody, str(port)]
        run = tunnel.exec(NS, "client", *command, check=False) if pod else tunnel.node("node1", *command, check=False)
        return run.strip().splitlines()[-1]

    for kind, port in zip((1, 2), ports, strict=True):
        tunnel.eventually(lambda kind=kind, port=port: "Address already in use" in bind(kind, port), f"{port} taken")
        assert bind(kind, port, pod=True) == "None"
    tunnel.kubectl("-n", NS, "delete", "service", name)
    tunnel.eventually(lambda: bind(1, ports[0]) == "None", "the port is free")
