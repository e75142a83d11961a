"""Services asked from outside the cluster: node ports, external and load balancer addresses, traffic policies, source
ranges, affinity, changes, restarts; both families, both routing modes. Clients are in the lab's external namespace.

The native lab balances by Maglev, in XDP (generic there), and lets backends answer TCP themselves (hybrid); the tunnel
lab has defaults.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from scenario.cluster import BIN, Cluster, client, curl, server, url

pytestmark = pytest.mark.scenario
NS = "north-south"
VERSIONS = (4, 6)
NODES = ("node1", "node2", "node3")
EXTERNAL = {4: "198.51.100.21", 6: "2001:db8:7::21"}
BALANCER = {4: "198.51.100.22", 6: "2001:db8:7::22"}
both = pytest.mark.parametrize("version", VERSIONS)


def service(name: str, selector: dict[str, str], **more: Any) -> dict[str, Any]:
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "echo", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    ]
    metadata = {"name": name, "namespace": NS, "annotations": more.pop("annotations", {})}
    spec = {"ipFamilyPolicy": "RequireDualStack", "type": "NodePort", "ports": ports, "selector": selector, **more}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[dict[str, Any]]:
    with cluster.namespace(NS):
        manifests = [client("client", "node1"), *(server(f"web{n}", f"node{n}", group="web") for n in (1, 2, 3))]
        for manifest in manifests:
            manifest["metadata"]["namespace"] = NS
        cluster.apply(*manifests, service("web", {"group": "web"}), service("one", {"app": "web1"}))
        cluster.wait_ready(NS)
        for node in NODES:
            wait_backends(cluster, node, "web", 3)
        yield {item["metadata"]["name"]: item for item in cluster.get("-n", NS, "pods")["items"]}


def rows(cluster: Cluster, node: str, name: str) -> list[dict[str, Any]]:
    listed = json.loads(cluster.dbg(node, "service", "list", "-o", "json"))
    return [row for row in listed if (row["namespace"], row["name"]) == (NS, name)]


def wait_backends(cluster: Cluster, node: str, name: str, count: int) -> None:
    """Until every row of the service that is asked from inside has so many backends in the kernel."""

    def there() -> bool:
        inside = [row for row in rows(cluster, node, name) if row.get("scope", "cluster") == "cluster"]
        return bool(inside) and all(row["id"] and len(row["backends"]) == count for row in inside)

    cluster.eventually(there, f"{node} has {count} backends of {name}")


def node_ip(cluster: Cluster, node: str, version: int) -> str:
    entries = cluster.get("node", node)["status"]["addresses"]
    return next(
        str(entry["address"])
        for entry in entries
        if entry["type"] == "InternalIP" and (":" in entry["address"]) == (version == 6)
    )


def node_port(cluster: Cluster, name: str, port: str = "http") -> int:
    ports = cluster.get("-n", NS, "service", name)["spec"]["ports"]
    return int(next(each["nodePort"] for each in ports if each["name"] == port))


def visit(cluster: Cluster, ip: str, port: int, count: int = 1) -> list[dict[str, Any]]:
    """What servers answered a client outside; an empty dict for every question without an answer."""
    loop = f"for i in $(seq {count}); do curl -gsS -m 2 --connect-timeout 1 {url(ip, port)} || echo '{{}}'; echo; done"
    text = cluster.node("external", "sh", "-c", loop, timeout=count * 3 + 10)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def ask_datagram(cluster: Cluster, ip: str, port: int, version: int) -> str:
    return cluster.node("external", "sh", "-c", f"echo hello | nc -{version} -u -W 1 -w 2 {ip} {port}")


def reached(answers: list[dict[str, Any]]) -> set[str]:
    return {answer.get("pod", "nobody") for answer in answers}


@contextmanager
def routed(cluster: Cluster, ips: dict[int, str], node: str = "node1") -> Iterator[None]:
    """The world knows by which node an address is reached."""
    try:
        for version, ip in ips.items():
            cluster.node("external", "ip", "route", "replace", ip, "via", node_ip(cluster, node, version))
        yield
    finally:
        for ip in ips.values():
            cluster.node("external", "ip", "route", "del", ip, check=False)


@both
@pytest.mark.parametrize("node", NODES)
def test_a_node_port_of_every_node_reaches_every_pod(
    cluster: Cluster, pods: dict[str, Any], version: int, node: str
) -> None:
    answers = visit(cluster, node_ip(cluster, node, version), node_port(cluster, "web"), 24)
    assert reached(answers) == {"web1", "web2", "web3"}, answers


@both
def test_datagrams_to_a_node_port(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    for node in ("node1", "node2"):
        answer = ask_datagram(cluster, node_ip(cluster, node, version), node_port(cluster, "one", "echo"), version)
        assert '"received": "hello' in answer, answer
        assert '"pod": "web1"' in answer


@both
def test_who_the_backend_sees(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    """The client, on the node that was asked and where backends answer themselves; else an address of that node."""
    port = node_port(cluster, "one")
    (here,) = visit(cluster, node_ip(cluster, "node1", version), port)
    (there,) = visit(cluster, node_ip(cluster, "node2", version), port)
    seen = cluster.node("external", "ip", "-br", "address", "show", "dev", "eth0")
    assert f"{here['client']}/" in seen
    assert (f"{there['client']}/" in seen) == (cluster.name.endswith("-n"))


@both
def test_external_and_load_balancer_addresses(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    ingress = [{"ip": ip} for ip in BALANCER.values()]
    with routed(cluster, EXTERNAL), routed(cluster, BALANCER, "node2"):
        cluster.apply(service("public", {"group": "web"}, type="LoadBalancer", externalIPs=list(EXTERNAL.values())))
        cluster.kubectl(
            "-n", NS, "patch", "service", "public", "--subresource=status", "--type=merge",
            "-p", json.dumps({"status": {"loadBalancer": {"ingress": ingress}}}),
        )  # fmt: skip
        for ip in (EXTERNAL[version], BALANCER[version]):
            cluster.eventually(
                lambda ip=ip: reached(visit(cluster, ip, 80, 12)) == {"web1", "web2", "web3"}, f"{ip} reaches all"
            )
        cluster.kubectl("-n", NS, "delete", "service", "public")
        cluster.eventually(lambda: reached(visit(cluster, EXTERNAL[version], 80)) == {"nobody"}, "it is gone")


@both
def test_a_cluster_ip_is_not_reached_from_outside(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    vip = next(
        ip for ip in cluster.get("-n", NS, "service", "web")["spec"]["clusterIPs"] if (":" in ip) == (version == 6)
    )
    with routed(cluster, {version: vip}):
        assert reached(visit(cluster, vip, 80)) == {"nobody"}
        flows = cluster.hubble("node1", "--verdict", "DROPPED", "--to-ip", vip, "--last", "5")
    assert {flow["drop_reason_desc"] for flow in flows} == {"IS_A_CLUSTERIP"}


@both
def test_external_traffic_policy_local(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    """The node's own pod and the client's own address; a node without a pod is silent; pods reach it all the same."""
    cluster.apply(service("local", {"app": "web2"}, externalTrafficPolicy="Local"))
    wait_backends(cluster, "node1", "local", 1)
    wait_backends(cluster, "node2", "local", 1)
    port = node_port(cluster, "local")
    (answer,) = visit(cluster, node_ip(cluster, "node2", version), port)
    assert answer["pod"] == "web2"
    assert f"{answer['client']}/" in cluster.node("external", "ip", "-br", "address", "show", "dev", "eth0")
    assert reached(visit(cluster, node_ip(cluster, "node1", version), port)) == {"nobody"}
    inside = cluster.exec(NS, "client", *curl(node_ip(cluster, "node1", version), port))
    assert '"pod": "web2"' in inside, "a client of the cluster reaches every backend"
    cluster.kubectl("-n", NS, "delete", "service", "local")


@both
def test_source_ranges(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    other = {4: "203.0.113.0/24", 6: "2001:db8:1::/64"}[version]
    outside = {4: "172.16.0.0/12", 6: "fd00::/8"}[version]
    ip = BALANCER[version]
    status = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": each} for each in BALANCER.values()]}}})
    with routed(cluster, BALANCER):
        for ranges, open_ in (([other], False), ([other, outside], True), ([], True)):
            cluster.apply(service("fenced", {"app": "web1"}, type="LoadBalancer", loadBalancerSourceRanges=ranges))
            cluster.kubectl(
                "-n", NS, "patch", "service", "fenced", "--subresource=status", "--type=merge", "-p", status
            )
            cluster.eventually(
                lambda open_=open_: reached(visit(cluster, ip, 80)) == ({"web1"} if open_ else {"nobody"}),
                f"{ranges}: {'open' if open_ else 'closed'}",
            )
        cluster.kubectl("-n", NS, "delete", "service", "fenced")


@both
def test_session_affinity(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    cluster.apply(service("true", {"group": "web"}, sessionAffinity="ClientIP"))
    for node in ("node1", "node2"):
        wait_backends(cluster, node, "true", 3)
    port = node_port(cluster, "true")
    for node in ("node1", "node2"):
        answers = visit(cluster, node_ip(cluster, node, version), port, 12)
        assert len(reached(answers)) == 1, answers
    cluster.kubectl("-n", NS, "delete", "service", "true")


@both
def test_nobody_there_is_a_refusal(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    cluster.apply(service("empty", {"app": "nobody"}))
    cluster.eventually(lambda: rows(cluster, "node1", "empty"), "the service is known")
    target = url(node_ip(cluster, "node1", version), node_port(cluster, "empty"))
    said = cluster.node("external", "sh", "-c", f"curl -gsS -m 5 {target}; echo exit $?")
    assert "exit 7" in said, said  # it could not connect; had it waited in vain, 28
    cluster.kubectl("-n", NS, "delete", "service", "empty")


@both
def test_policy_judges_the_client_outside(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    """Backends see the world's identity, whichever node was asked."""
    if cluster.name.endswith("-n"):
        nodes: tuple[str, ...] = ("node1", "node2")  # the client's own address arrives
    else:
        nodes = NODES
    selector = {"endpointSelector": {"matchLabels": {"app": "web1"}}}
    rule = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "web1", "namespace": NS}}
    ips = [node_ip(cluster, node, version) for node in nodes]
    try:
        for entity, expected in (("cluster", "nobody"), ("world", "web1")):
            cluster.apply({**rule, "spec": {**selector, "ingress": [{"fromEntities": [entity]}]}})
            for ip in ips:
                cluster.eventually(
                    lambda ip=ip, expected=expected: (
                        reached(visit(cluster, ip, node_port(cluster, "one"))) == {expected}
                    ),
                    f"{ip}: {entity} may, the client is {expected}",
                )
    finally:
        cluster.kubectl("-n", NS, "delete", "cnp", "web1", check=False)


@both
def test_flows_name_the_service(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    ip, port = node_ip(cluster, "node2", version), node_port(cluster, "one")
    visit(cluster, ip, port)

    def told() -> bool:
        flows = cluster.hubble("node2", "--to-service", f"{NS}/one", "--last", "10")
        return any(flow.get("destination_service", {}).get("name") == "one" for flow in flows)

    cluster.eventually(told, "a flow to the service")


def test_backends_change_under_load_and_no_connection_fails(cluster: Cluster, pods: dict[str, Any]) -> None:
    """web1 stays; the others come and go by their labels."""
    ip, port = node_ip(cluster, "node2", 4), node_port(cluster, "web")
    loop = f"i=0; while [ $i -lt 300 ]; do curl -gsS -m 3 {url(ip, port)} || echo FAILED; echo; i=$((i+1)); done"
    argv = ["lab", "node", "--name", cluster.name, "external", "--", "sh", "-c", loop]
    with subprocess.Popen(
        [str(BIN / "cilium"), *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as asking:
        changes = 0
        while asking.poll() is None:
            group = "away" if changes % 2 == 0 else "web"
            cluster.kubectl("-n", NS, "label", "pod", "web2", "web3", f"group={group}", "--overwrite")
            changes += 1
            if changes > 200:
                break
            assert asking.stdout is not None
            for _ in range(10):
                if not asking.stdout.readline():
                    break
        out = asking.communicate(timeout=60)[0]
    cluster.kubectl("-n", NS, "label", "pod", "web2", "web3", "group=web", "--overwrite")
    assert changes > 3
    assert "FAILED" not in out, out[-2000:]
    for node in NODES:
        wait_backends(cluster, node, "web", 3)


def numbers(cluster: Cluster, node: str, name: str) -> dict[tuple[Any, ...], int]:
    return {
        (row["frontend"]["ip"], row["frontend"]["port"], row["frontend"]["protocol"], row["scope"]): row["id"]
        for row in rows(cluster, node, name)
    }


def test_an_agent_killed_is_not_missed(cluster: Cluster, pods: dict[str, Any]) -> None:
    """Rows, ids and connections are what they were; a service deleted meanwhile goes."""
    before = numbers(cluster, "node2", "web")
    cluster.apply(service("meanwhile", {"app": "web1"}))
    cluster.eventually(lambda: rows(cluster, "node2", "meanwhile"), "the service is known")
    ip, port = node_ip(cluster, "node2", 4), node_port(cluster, "web")
    cluster.kill_agent("node2")
    cluster.kubectl("-n", NS, "delete", "service", "meanwhile")
    assert reached(visit(cluster, ip, port, 20)) <= {"web1", "web2", "web3"}
    cluster.eventually(lambda: numbers(cluster, "node2", "web") == before, "every id is what it was", 40)
    cluster.eventually(lambda: not rows(cluster, "node2", "meanwhile"), "what was deleted meanwhile is gone", 40)
    assert reached(visit(cluster, ip, port, 20)) <= {"web1", "web2", "web3"}
