"""Services where sockets of pods are left alone (`socketLB.hostNamespaceOnly`): their packets are translated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import Cluster, addresses, client, curl, server, url

pytestmark = pytest.mark.scenario
NS = "packets"
VERSIONS = (4, 6)
both = pytest.mark.parametrize("version", VERSIONS)
LOOPBACK = {4: "169.254.42.1", 6: "100::1"}


def service(name: str, selector: dict[str, str], **more: Any) -> dict[str, Any]:
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "echo", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    ]
    spec = {"ipFamilyPolicy": "RequireDualStack", "type": "NodePort", "ports": ports, "selector": selector, **more}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NS}, "spec": spec}


@pytest.fixture(scope="module")
def pods(packets: Cluster) -> Iterator[dict[str, Any]]:
    with packets.namespace(NS):
        manifests = [client("client", "node1"), *(server(f"web{n}", f"node{n}", group="web") for n in (1, 2))]
        for manifest in manifests:
            manifest["metadata"]["namespace"] = NS
        packets.apply(*manifests, service("web", {"group": "web"}), service("far", {"app": "web2"}))
        packets.wait_ready(NS)
        for node in ("node1", "node2"):
            packets.eventually(
                lambda node=node: packets.dbg(node, "bpf", "lb", "list").count(":8080") >= 12,
                f"{node} has all backends",
            )
        yield {item["metadata"]["name"]: item for item in packets.get("-n", NS, "pods")["items"]}


def vip(cluster: Cluster, name: str, version: int) -> str:
    ips = cluster.get("-n", NS, "service", name)["spec"]["clusterIPs"]
    return next(str(ip) for ip in ips if (":" in ip) == (version == 6))


def visit(cluster: Cluster, pod: str, ip: str, port: int = 80, count: int = 1) -> list[dict[str, Any]]:
    loop = f"for i in $(seq {count}); do curl -gsS -m 2 {url(ip, port)} || echo '{{}}'; echo; done"
    text = cluster.exec(NS, pod, "sh", "-c", loop)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@both
def test_a_pod_reaches_every_backend(packets: Cluster, pods: dict[str, Any], version: int) -> None:
    answers = visit(packets, "client", vip(packets, "web", version), count=20)
    assert {answer.get("pod") for answer in answers} == {"web1", "web2"}
    assert {answer["client"] for answer in answers} == {addresses(pods["client"])[version]}


@both
def test_the_translation_is_in_the_packets(packets: Cluster, pods: dict[str, Any], version: int) -> None:
    """Were it in the socket, the node's own map of translations would know nothing of it."""
    ip = vip(packets, "far", version)
    visit(packets, "client", ip)
    assert ip in packets.dbg("node1", "bpf", "nat", "list")
    assert ip not in packets.dbg("node1", "bpf", "lb", "list", "--revnat")


@both
def test_datagrams(packets: Cluster, pods: dict[str, Any], version: int) -> None:
    script = f"echo hello | nc -{version} -u -W 1 -w 2 {vip(packets, 'far', version)} 53"
    assert '"received": "hello' in packets.exec(NS, "client", "sh", "-c", script)


@both
def test_a_backend_reaches_itself_through_its_service(packets: Cluster, pods: dict[str, Any], version: int) -> None:
    (answer,) = visit(packets, "web2", vip(packets, "far", version))
    assert (answer["pod"], answer["client"]) == ("web2", LOOPBACK[version])


@both
def test_node_ports_of_this_node_and_another(packets: Cluster, pods: dict[str, Any], version: int) -> None:
    port = packets.get("-n", NS, "service", "far")["spec"]["ports"][0]["nodePort"]
    for node in ("node1", "node2"):
        entries = packets.get("node", node)["status"]["addresses"]
        ip = next(
            e["address"] for e in entries if e["type"] == "InternalIP" and (":" in e["address"]) == (version == 6)
        )
        assert [answer.get("pod") for answer in visit(packets, "client", ip, port)] == ["web2"], node


@both
def test_the_node_itself_still_asks_by_its_sockets(packets: Cluster, pods: dict[str, Any], version: int) -> None:
    assert '"pod": "web2"' in packets.node("node1", *curl(vip(packets, "far", version), 80))


@both
def test_nobody_there_is_a_refusal(packets: Cluster, pods: dict[str, Any], version: int) -> None:
    packets.apply(service("empty", {"app": "nobody"}))
    target = url(vip(packets, "empty", version), 80)
    packets.eventually(
        lambda: "exit 7" in packets.exec(NS, "client", "sh", "-c", f"curl -gsS -m 2 {target}; echo exit $?"),
        "a refusal, at once",
    )


@both
def test_policy_judges_pod_and_backend(packets: Cluster, pods: dict[str, Any], version: int) -> None:
    policy = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "far", "namespace": NS}}
    ip = vip(packets, "far", version)
    try:
        for peer, expected in (("stranger", [None]), ("client", ["web2"])):
            ingress = [{"fromEndpoints": [{"matchLabels": {"app": peer}}]}]
            packets.apply(
                {**policy, "spec": {"endpointSelector": {"matchLabels": {"app": "web2"}}, "ingress": ingress}}
            )
            packets.eventually(
                lambda expected=expected: [a.get("pod") for a in visit(packets, "client", ip)] == expected,
                f"{peer} may, so {expected} answers",
            )
    finally:
        packets.kubectl("-n", NS, "delete", "cnp", "far", check=False)


@both
def test_flows_name_service_and_backend(packets: Cluster, pods: dict[str, Any], version: int) -> None:
    ip, backend = vip(packets, "far", version), addresses(pods["web2"])[version]
    visit(packets, "client", ip)

    def told() -> bool:
        flows = packets.hubble("node1", "--from-pod", f"{NS}/client", "--last", "50")
        asked = [flow for flow in flows if flow["IP"]["destination"] == ip]
        sent = [flow for flow in flows if flow["IP"]["destination"] == backend]
        return bool(sent) and any(flow.get("destination_service", {}).get("name") == "far" for flow in asked)

    packets.eventually(told, "the service as it was asked, and the backend that was sent to")
