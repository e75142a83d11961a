"""Flows of services: who asked for which, and what the connection became; filters by service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import Cluster, addresses, client, curl, server

pytestmark = pytest.mark.scenario
NS = "service-flows"
VERSIONS = (4, 6)
WEB = {"name": "web", "namespace": NS}


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[dict[str, Any]]:
    with cluster.namespace(NS):
        manifests = [client("client", "node1"), server("web", "node2")]
        for manifest in manifests:
            manifest["metadata"]["namespace"] = NS
        spec = {
            "ipFamilyPolicy": "RequireDualStack",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}],
            "type": "NodePort",
        }
        cluster.apply(*manifests, {"apiVersion": "v1", "kind": "Service", "metadata": WEB, "spec": spec})
        cluster.wait_ready(NS)
        for address in vips(cluster).values():
            cluster.eventually(
                lambda address=address: '"pod": "web"' in cluster.exec(NS, "client", *curl(address, 80), check=False),
                f"an answer of {address}",
            )
        yield {item["metadata"]["name"]: item for item in cluster.get("-n", NS, "pods")["items"]}


def vips(cluster: Cluster) -> dict[int, str]:
    return {6 if ":" in ip else 4: ip for ip in cluster.get("-n", NS, "service", "web")["spec"]["clusterIPs"]}


def node_port(cluster: Cluster) -> int:
    return int(cluster.get("-n", NS, "service", "web")["spec"]["ports"][0]["nodePort"])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pods_connection_before_and_after(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    vip, backend = vips(cluster)[version], addresses(pods["web"])[version]
    cluster.exec(NS, "client", *curl(vip, 80))
    flows = cluster.hubble("node1", "--to-service", f"{NS}/web", "-t", "trace-sock", f"--ipv{version}", "--last", 2)
    before, after = flows
    for flow in (before, after):
        assert (flow["source"]["namespace"], flow["source"]["pod_name"]) == (NS, "client")
        assert flow["IP"]["source"] == addresses(pods["client"])[version]
        assert flow["destination_service"] == WEB
        assert flow["socket_cookie"] == before["socket_cookie"]
    assert (before["verdict"], before["IP"]["destination"]) == ("TRACED", vip)
    assert before["l4"]["TCP"]["destination_port"] == 80
    assert (after["verdict"], after["IP"]["destination"]) == ("TRANSLATED", backend)
    assert (after["destination"]["pod_name"], after["l4"]["TCP"]["destination_port"]) == ("web", 8080)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_node_port_asked_for_by_a_process_of_the_node(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    loopback = "127.0.0.1" if version == 4 else "::1"
    cluster.node("node1", *curl(loopback, node_port(cluster)))
    (before, after) = cluster.hubble("node1", "--service", f"{NS}/web", "--from-identity", "host", "--last", 2)
    assert (before["IP"]["destination"], before["destination_service"]) == (loopback, WEB)
    assert after["destination"]["pod_name"] == "web"


def test_lines_for_people(cluster: Cluster, pods: dict[str, Any]) -> None:
    cluster.exec(NS, "client", *curl(vips(cluster)[4], 80))
    observe = ["hubble", "observe", "--to-service", f"{NS}/web", "--from-pod", f"{NS}/client", "-4", "--last", "2"]
    first, second = cluster.exec("kube-system", cluster.agent("node1"), *observe).splitlines()
    assert f"<> {NS}/web:80 (world-ipv4) pre-xlate-fwd TRACED (TCP)" in first
    assert f"<> {NS}/web:8080 (ID:{pods_identity(cluster)}) post-xlate-fwd TRANSLATED (TCP)" in second
    told = cluster.dbg("node1", "monitor", "-t", "trace-sock", "--no-follow", "--last", 2)
    assert f"service {NS}/web" in told


def pods_identity(cluster: Cluster) -> int:
    return int(cluster.get("-n", NS, "ciliumendpoint", "web")["status"]["identity"]["id"])


def test_other_services_are_not_meant(cluster: Cluster, pods: dict[str, Any]) -> None:
    assert cluster.hubble("node1", "--service", f"{NS}/we", "--last", 1)
    assert not cluster.hubble("node1", "--service", f"{NS}/webshop", "--last", 1)
    assert not cluster.hubble("node1", "--service", "web", "--last", 1)
    rest = cluster.hubble("node1", "--not", "--service", f"{NS}/web", "--last", 50)
    assert rest
    assert WEB not in [flow.get(f"{side}_service") for flow in rest for side in ("source", "destination")]
