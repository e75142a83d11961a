"""Services from pods and from nodes: both families, TCP and UDP, changes under load, restarts, policy, flows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import BIN, Cluster, addresses, client, curl, server, url

pytestmark = pytest.mark.scenario
NS = "services"
VERSIONS = (4, 6)


def service(name: str, selector: dict[str, str] | None, **more: Any) -> dict[str, Any]:
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "echo", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    ]
    spec = {
        "ipFamilyPolicy": "RequireDualStack",
        "ports": ports,
        **({"selector": selector} if selector else {}),
        **more,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NS}, "spec": spec}


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[dict[str, Any]]:
    with cluster.namespace(NS):
        manifests = [client("client", "node1"), client("other", "node2")]
        manifests += [server(f"web{n}", f"node{n}", group="web") for n in (1, 2, 3)]
        for manifest in manifests:
            manifest["metadata"]["namespace"] = NS
        cluster.apply(*manifests, service("web", {"group": "web"}, type="NodePort"))
        cluster.wait_ready(NS)
        items = cluster.get("-n", NS, "pods")["items"]
        for node in ("node1", "node2", "node3"):
            wait_backends(cluster, node, "web", 3)
        yield {item["metadata"]["name"]: item for item in items}


def vips(cluster: Cluster, name: str) -> dict[int, str]:
    ips = cluster.get("-n", NS, "service", name)["spec"]["clusterIPs"]
    return {6 if ":" in ip else 4: ip for ip in ips}


def listed(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.dbg(node, "service", "list", "-o", "json"))
    return found


def wait_backends(cluster: Cluster, node: str, name: str, count: int) -> None:
    """Until every cluster IP of the service has so many on a node; -1: until the service is gone."""

    def done() -> bool:
        rows = [row for row in listed(cluster, node) if (row["namespace"], row["name"]) == (NS, name)]
        if count < 0:
            return not rows
        return bool(rows) and all(len(row["backends"]) == count and row["id"] for row in rows)

    cluster.eventually(done, f"{count} backends of {name} on {node}")


def visit(cluster: Cluster, pod: str, address: str, times: int, port: int = 80) -> dict[str, int]:
    """How often which pod answered; anything else counts as an error."""
    loop = f"for i in $(seq {times}); do curl -gsS -m 3 '{url(address, port)}' 2>&1; done"
    return tally(cluster.exec(NS, pod, "sh", "-c", loop, timeout=120))


def tally(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in text.splitlines():
        name = next((f"web{n}" for n in (1, 2, 3) if f'"pod": "web{n}"' in line), f"error: {line}")
        found[name] = found.get(name, 0) + 1
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_pod_reaches_every_backend_over_tcp(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    answers = visit(cluster, "client", vips(cluster, "web")[version], 30)
    assert set(answers) == {"web1", "web2", "web3"}, answers


@pytest.mark.parametrize("version", VERSIONS)
def test_pod_reaches_a_backend_over_udp(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    vip = vips(cluster, "web")[version]
    answer = cluster.exec(NS, "client", "sh", "-c", f"echo hello | nc -{version} -u -W 1 -w 2 {vip} 53")
    assert '"received": "hello' in answer


@pytest.mark.parametrize("version", VERSIONS)
def test_backend_reaches_itself_through_its_service(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    cluster.apply(service("alone", {"app": "web1"}))
    wait_backends(cluster, "node1", "alone", 1)
    assert visit(cluster, "web1", vips(cluster, "alone")[version], 3) == {"web1": 3}
    cluster.kubectl("-n", NS, "delete", "service", "alone")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_node_itself_reaches_a_service(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    vip = vips(cluster, "web")[version]
    assert '"pod": "web' in cluster.node("node1", *curl(vip, 80))
    script = f"echo hello | nc -{version} -u -W 1 -w 2 {vip} 53"
    assert '"received": "hello' in cluster.node("node1", "sh", "-c", script)


@pytest.mark.parametrize("version", VERSIONS)
def test_node_ports_from_inside(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    port = cluster.get("-n", NS, "service", "web")["spec"]["ports"][0]["nodePort"]
    for node in ("node1", "node2"):
        entries = cluster.get("node", node)["status"]["addresses"]
        address = next(
            e["address"] for e in entries if e["type"] == "InternalIP" and (":" in e["address"]) == (version == 6)
        )
        answers = visit(cluster, "client", address, 3, port)
        assert sum(answers.values()) == 3
        assert set(answers) <= {"web1", "web2", "web3"}, answers
    loopback = "127.0.0.1" if version == 4 else "::1"
    assert '"pod": "web' in cluster.node("node1", *curl(loopback, port))
    assert "web" not in cluster.exec(NS, "client", *curl(loopback, port), check=False), "a pod's loopback is its own"


def test_external_and_load_balancer_addresses_from_inside(cluster: Cluster, pods: dict[str, Any]) -> None:
    outside = ["198.51.100.7", "2001:db8:7::7"]
    cluster.apply(service("public", {"group": "web"}, type="LoadBalancer", externalIPs=outside))
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}, {"ip": "2001:db8:7::8"}]}}}
    cluster.kubectl(
        "-n", NS, "patch", "service", "public", "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )
    wait_backends(cluster, "node1", "public", 3)
    for address in (*outside, "198.51.100.8", "2001:db8:7::8"):
        cluster.eventually(
            lambda address=address: set(visit(cluster, "client", address, 2)) <= {"web1", "web2", "web3"},
            f"answers of {address}",
        )
    cluster.kubectl("-n", NS, "delete", "service", "public")


def test_slices_written_by_hand(cluster: Cluster, pods: dict[str, Any]) -> None:
    """A Service without a selector: whoever writes the slice decides."""
    cluster.apply(service("manual", None))
    for version in VERSIONS:
        cluster.apply({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": f"manual-{version}", "namespace": NS, "labels": {"kubernetes.io/service-name": "manual"}
            },
            "addressType": f"IPv{version}",
            "endpoints": [{"addresses": [addresses(pods["web2"])[version]], "conditions": {}}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        })  # fmt: skip
    for version in VERSIONS:
        vip = vips(cluster, "manual")[version]
        cluster.eventually(lambda vip=vip: visit(cluster, "client", vip, 2) == {"web2": 2}, f"web2 behind {vip}")
    cluster.kubectl("-n", NS, "delete", "service", "manual")
    wait_backends(cluster, "node1", "manual", -1)


@pytest.mark.parametrize("version", VERSIONS)
def test_without_backends_clients_are_refused_at_once(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    cluster.apply(service("nobody", {"group": "nobody"}))
    wait_backends(cluster, "node1", "nobody", 0)
    vip = vips(cluster, "nobody")[version]
    answer = cluster.exec(NS, "client", "curl", "-gsS", "-m", "3", url(vip, 80), check=False)
    assert "timed out" not in answer.lower()
    assert "curl: (7)" in answer
    cluster.kubectl("-n", NS, "delete", "service", "nobody")


def test_internal_traffic_policy_local(cluster: Cluster, pods: dict[str, Any]) -> None:
    cluster.apply(service("near", {"group": "web"}, internalTrafficPolicy="Local"))
    wait_backends(cluster, "node1", "near", 1)
    wait_backends(cluster, "node2", "near", 1)
    for version in VERSIONS:
        vip = vips(cluster, "near")[version]
        assert visit(cluster, "client", vip, 5) == {"web1": 5}
        assert visit(cluster, "other", vip, 5) == {"web2": 5}
    cluster.kubectl("-n", NS, "delete", "service", "near")


@pytest.mark.parametrize("version", VERSIONS)
def test_backends_leave_and_join_under_load(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    """A pod that loses its label stays healthy: no connect may fail, whichever set of backends it meets."""
    vip = vips(cluster, "web")[version]
    loop = f"for i in $(seq 150); do curl -gsS -m 3 '{url(vip, 80)}' 2>&1; done"
    with subprocess.Popen(
        [str(BIN / "kubectl"), "-n", NS, "exec", "client", "--", "sh", "-c", loop],
        env=cluster.environment, stdout=subprocess.PIPE, text=True,
    ) as load:  # fmt: skip
        for label in ("away", "web", "away", "web"):
            cluster.kubectl("-n", NS, "label", "pod", "web2", f"group={label}", "--overwrite")
            wait_backends(cluster, "node1", "web", 2 if label == "away" else 3)
        assert load.stdout
        answers = tally(load.stdout.read())
    assert sum(answers.values()) == 150
    assert set(answers) <= {"web1", "web2", "web3"}, answers


def test_policy_sees_the_backend(cluster: Cluster, pods: dict[str, Any]) -> None:
    """A rule about pods decides, though clients name the service; flows tell of the backend."""
    rule = {"fromEndpoints": [{"matchLabels": {"app": "client"}}], "toPorts": [{"ports": [{"port": "8080"}]}]}
    cluster.apply({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "web", "namespace": NS},
        "spec": {"endpointSelector": {"matchLabels": {"group": "web"}}, "ingress": [rule]},
    })  # fmt: skip
    try:
        for version in VERSIONS:
            vip = vips(cluster, "web")[version]
            refused = [*curl(vip, 80)]
            cluster.eventually(
                lambda refused=refused: "curl: (28)" in cluster.exec(NS, "other", *refused, check=False),
                f"other refused over IPv{version}",
            )
            assert set(visit(cluster, "client", vip, 6)) <= {"web1", "web2", "web3"}
        flows = cluster.eventually(
            lambda: [
                flow for node in ("node1", "node2", "node3")
                for flow in cluster.hubble(node, "--verdict", "DROPPED", "--pod", f"{NS}/other")
                if flow["destination"].get("pod_name", "").startswith("web")
            ],
            "a drop between other and a backend",
        )  # fmt: skip
        backends = {ip for name in ("web1", "web2", "web3") for ip in addresses(pods[name]).values()}
        assert {flow["IP"]["destination"] for flow in flows} <= backends
        assert {flow["l4"]["TCP"]["destination_port"] for flow in flows} == {8080}
    finally:
        cluster.kubectl("-n", NS, "delete", "cnp", "web")


def test_agent_killed_and_back(cluster: Cluster, pods: dict[str, Any]) -> None:
    """While it is away services work; what was deleted meanwhile is pruned, the rest keeps its ids."""
    cluster.apply(service("doomed", {"group": "web"}))
    wait_backends(cluster, "node1", "doomed", 3)
    before = {(row["name"], str(row["frontend"])): row["id"] for row in listed(cluster, "node1")}
    doomed = vips(cluster, "doomed")[4]
    vip = vips(cluster, "web")
    pids = cluster.kill_agent("node1")
    cluster.kubectl("-n", NS, "delete", "service", "doomed")
    for version in VERSIONS:
        answers = visit(cluster, "client", vip[version], 10)
        assert set(answers) <= {"web1", "web2", "web3"}, answers

    def back() -> bool:
        fresh = cluster.agent_pids("node1")
        return bool(fresh) and not set(fresh) & set(pids) and "none" in cluster.dbg("node1", "status", check=False)

    cluster.eventually(back, "the next agent", 40)
    wait_backends(cluster, "node1", "doomed", -1)
    after = {(row["name"], str(row["frontend"])): row["id"] for row in listed(cluster, "node1")}
    assert after == {key: number for key, number in before.items() if key[0] != "doomed"}
    cluster.eventually(
        lambda: doomed not in cluster.dbg("node1", "bpf", "lb", "list", "--frontends"), "the kernel forgets it, too"
    )
    for version in VERSIONS:
        assert set(visit(cluster, "client", vip[version], 10)) <= {"web1", "web2", "web3"}


def test_a_deleted_service_is_gone(cluster: Cluster, pods: dict[str, Any]) -> None:
    cluster.apply(service("brief", {"group": "web"}))
    for node in ("node1", "node2", "node3"):
        wait_backends(cluster, node, "brief", 3)
    vip = vips(cluster, "brief")[4]
    assert visit(cluster, "client", vip, 1)
    cluster.kubectl("-n", NS, "delete", "service", "brief")
    for node in ("node1", "node2", "node3"):
        wait_backends(cluster, node, "brief", -1)
        assert vip not in cluster.dbg(node, "bpf", "lb", "list")


def test_two_services_that_claim_one_address(cluster: Cluster, pods: dict[str, Any]) -> None:
    claim = {"externalIPs": ["198.51.100.9"], "ipFamilyPolicy": "SingleStack"}
    cluster.apply(service("first", {"app": "web1"}, **claim))
    cluster.eventually(lambda: visit(cluster, "client", "198.51.100.9", 1) == {"web1": 1}, "the first")
    cluster.apply(service("second", {"app": "web2"}, **claim))
    cluster.eventually(
        lambda: "Service services/second: 198.51.100.9 80/TCP" in cluster.dbg("node1", "status"),
        "the conflict in the status",
    )
    assert visit(cluster, "client", "198.51.100.9", 3) == {"web1": 3}
    tcp, udp = cluster.eventually(lambda: len(events(cluster, "second")) == 2 and events(cluster, "second"), "Events")
    assert {event["type"] for event in (tcp, udp)} == {"Warning"}
    assert {event["reason"] for event in (tcp, udp)} == {"ServiceConflict"}
    assert {event["source"]["component"] for event in (tcp, udp)} == {"cilium-agent"}
    assert all("belongs to services/first, which is older; choose another" in event["message"] for event in (tcp, udp))
    cluster.kubectl("-n", NS, "delete", "service", "first")
    cluster.eventually(lambda: visit(cluster, "client", "198.51.100.9", 1) == {"web2": 1}, "the second takes over")
    cluster.kubectl("-n", NS, "delete", "service", "second")


def test_what_cannot_be_read_of_a_service_is_told_and_the_rest_is_served(
    cluster: Cluster, pods: dict[str, Any]
) -> None:
    odd = service("odd", {"app": "web3"}, type="LoadBalancer", loadBalancerSourceRanges=["198.51.100.0/24"])
    odd["metadata"]["annotations"] = {"service.cilium.io/type": "ExternalName"}
    cluster.apply(odd)
    (event,) = cluster.eventually(lambda: events(cluster, "odd"), "an Event")
    assert (event["reason"], event["count"]) == ("InvalidAnnotation", 1), "once, whoever of the agents told it"
    assert "'ExternalName' is not valid; write one of ClusterIP, NodePort, LoadBalancer" in event["message"]
    assert visit(cluster, "client", vips(cluster, "odd")[4], 1) == {"web3": 1}
    verbose = cluster.dbg("node2", "status", "--verbose")
    assert "Service services/odd: metadata.annotations[service.cilium.io/type]" in verbose
    cluster.kubectl("-n", NS, "delete", "service", "odd")
    cluster.eventually(lambda: "services/odd" not in cluster.dbg("node2", "status"), "nothing is wrong any more")


def events(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    """About a Service."""
    found = cluster.get("-n", NS, "events")["items"]
    return [
        each for each in found if each["involvedObject"]["kind"] == "Service" and each["involvedObject"]["name"] == name
    ]


def test_no_agent_has_errors(cluster: Cluster, pods: dict[str, Any]) -> None:
    for node in ("node1", "node2", "node3"):
        status = cluster.eventually(
            lambda node=node: "none" in cluster.dbg(node, "status") and cluster.dbg(node, "status"), f"well on {node}"
        )
        assert "KubeProxyReplacement:   True" in status
