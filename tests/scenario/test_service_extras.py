"""What surrounds services: host ports, local redirects, health check ports, node ports that a process holds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import BIN, Cluster, CommandError, addresses, client, curl, server, url

pytestmark = pytest.mark.scenario
NS = "extras"
VERSIONS = (4, 6)
both = pytest.mark.parametrize("version", VERSIONS)
METADATA = {4: "169.254.169.254", 6: "fd00:ec2::254"}


def in_namespace(*manifests: dict[str, Any]) -> list[dict[str, Any]]:
    for manifest in manifests:
        manifest["metadata"]["namespace"] = NS
    return list(manifests)


def with_host_ports(pod: dict[str, Any], *ports: dict[str, Any]) -> dict[str, Any]:
    pod["spec"]["containers"][0]["ports"] = list(ports)
    return pod


def service(name: str, selector: dict[str, str], **more: Any) -> dict[str, Any]:
    spec = {
        "ipFamilyPolicy": "RequireDualStack",
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        "selector": selector,
        **more,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def policy(name: str, frontend: dict[str, Any], selector: dict[str, str], **more: Any) -> dict[str, Any]:
    backend = {
        "localEndpointSelector": {"matchLabels": selector}, "toPorts": [{"port": "8080", "protocol": "TCP"}],
    }  # fmt: skip
    spec = {"redirectFrontend": frontend, "redirectBackend": backend, **more}
    metadata = {"name": name}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumLocalRedirectPolicy", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[dict[str, Any]]:
    with cluster.namespace(NS):
        manifests = in_namespace(
            client("client", "node1"),
            client("other", "node2"),
            server("web1", "node1", group="web"),
            server("web2", "node2", group="web"),
            server("proxy", "node1"),
            service("web", {"group": "web"}),
        )
        cluster.apply(*manifests)
        cluster.wait_ready(NS)
        yield {item["metadata"]["name"]: item for item in cluster.get("-n", NS, "pods")["items"]}


def node_ip(cluster: Cluster, node: str, version: int) -> str:
    entries = cluster.get("node", node)["status"]["addresses"]
    return next(
        str(entry["address"])
        for entry in entries
        if entry["type"] == "InternalIP" and (":" in entry["address"]) == (version == 6)
    )


def who(text: str) -> str:
    """The pod that answered."""
    return str(json.loads(text)["pod"]) if text.startswith("{") else text.strip()


def asks(cluster: Cluster, pod: str, ip: str, port: int = 80) -> str:
    return who(cluster.exec(NS, pod, *curl(ip, port), check=False))


def eventually_answers(cluster: Cluster, pod: str, ip: str, port: int, wanted: set[str]) -> None:
    """Every answer of several is one of these, and each of them comes."""

    def seen() -> bool:
        answers = {asks(cluster, pod, ip, port) for _ in range(10)}
        return answers <= wanted and (len(wanted) > 2 or answers == wanted)

    cluster.eventually(seen, f"{pod} gets {wanted} from {ip} {port}")


# ------------------------------------------------------------------------------------------------- host ports


@pytest.fixture
def front(cluster: Cluster, pods: dict[str, Any]) -> Iterator[str]:
    ports = (
        {"containerPort": 8080, "hostPort": 18080},
        {"containerPort": 5353, "hostPort": 18053, "protocol": "UDP"},
        {"containerPort": 8081, "hostPort": 18081, "hostIP": "127.0.0.1"},
    )
    cluster.apply(*in_namespace(with_host_ports(server("front", "node1"), *ports)))
    cluster.wait_ready(NS)
    yield "front"
    cluster.kubectl("-n", NS, "delete", "pod", "front", "--now", "--ignore-not-found")


@both
def test_a_host_port_is_reached_at_every_address_of_its_node(
    cluster: Cluster, pods: dict[str, Any], front: str, version: int
) -> None:
    here, there = node_ip(cluster, "node1", version), node_ip(cluster, "node2", version)
    own = {4: "127.0.0.1", 6: "::1"}[version]
    cluster.eventually(lambda: asks(cluster, "client", here, 18080) == front, "a pod of the node")
    assert asks(cluster, "other", here, 18080) == front, "a pod of another node"
    assert who(cluster.node("node1", *curl(here, 18080))) == front, "the node itself"
    assert who(cluster.node("node1", *curl(own, 18080))) == front
    assert who(cluster.node("node2", *curl(here, 18080))) == front, "another node"
    assert who(cluster.node("external", *curl(here, 18080))) == front, "the world"
    for place in ("client", "other"):
        assert "curl: (7)" in asks(cluster, place, there, 18080), "other nodes have their own ports"
    script = f"echo hello | nc -{version} -u -W 1 -w 2 {here} 18053"
    assert '"received": "hello' in cluster.exec(NS, "other", "sh", "-c", script)
    assert '"received": "hello' in cluster.node("external", "sh", "-c", script)


def test_a_host_port_at_loopback_is_the_nodes_alone(cluster: Cluster, pods: dict[str, Any], front: str) -> None:
    cluster.eventually(lambda: who(cluster.node("node1", *curl("127.0.0.1", 18081))) == front, "the node itself")
    assert "curl: (7)" in asks(cluster, "client", "127.0.0.1", 18081), "pods have a loopback of their own"
    assert "curl: (7)" in cluster.node("external", *curl(node_ip(cluster, "node1", 4), 18081), check=False)


def test_a_host_port_goes_with_its_pod(cluster: Cluster, pods: dict[str, Any], front: str) -> None:
    here = node_ip(cluster, "node1", 4)
    cluster.eventually(lambda: asks(cluster, "client", here, 18080) == front, "it is there")
    cluster.kubectl("-n", NS, "delete", "pod", front, "--now")
    cluster.eventually(lambda: "curl: (7)" in asks(cluster, "client", here, 18080), "it is gone")
    assert "18080" not in cluster.dbg("node1", "bpf", "lb", "list")


def test_two_pods_that_want_one_port(cluster: Cluster, pods: dict[str, Any], front: str) -> None:
    """The second is named, to its owner too, and has the port once the first is gone."""
    second = with_host_ports(server("second", "node1"), {"containerPort": 8080, "hostPort": 18080})
    cluster.apply(*in_namespace(second))
    here = node_ip(cluster, "node1", 4)
    try:
        message = "pod extras/front was first and has it"
        cluster.eventually(lambda: message in cluster.dbg("node1", "status", "--verbose"), "the status names it")
        cluster.eventually(lambda: message in cluster.kubectl("-n", NS, "get", "events"), "an Event names it")
        assert asks(cluster, "client", here, 18080) == front
        cluster.kubectl("-n", NS, "delete", "pod", front, "--now")
        cluster.eventually(lambda: asks(cluster, "client", here, 18080) == "second", "the second takes over")
        assert message not in cluster.dbg("node1", "status", "--verbose")
    finally:
        cluster.kubectl("-n", NS, "delete", "pod", "second", "--now")


# -------------------------------------------------------------------------------------------- local redirects


@both
def test_a_service_is_answered_by_a_pod_of_the_node(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    vips = {6 if ":" in ip else 4: ip for ip in cluster.get("-n", NS, "service", "web")["spec"]["clusterIPs"]}
    vip = vips[version]
    eventually_answers(cluster, "client", vip, 80, {"web1", "web2"})
    matcher = {"serviceMatcher": {"serviceName": "web", "namespace": NS}}
    cluster.apply(*in_namespace(policy("web", matcher, {"app": "proxy"})))
    try:
        eventually_answers(cluster, "client", vip, 80, {"proxy"})
        eventually_answers(cluster, "other", vip, 80, {"web1", "web2"})  # no such pod on that node
        listed = cluster.dbg("node1", "lrp", "list")
        assert f"{vip}]:80/TCP" in listed or f"{vip}:80/TCP" in listed
        assert f"({NS}/proxy)" in listed
        assert "LocalRedirect" in cluster.dbg("node1", "service", "list")
        cluster.kubectl("-n", NS, "label", "pod", "proxy", "app=away", "--overwrite")
        eventually_answers(cluster, "client", vip, 80, {"web1", "web2"})
        cluster.kubectl("-n", NS, "label", "pod", "proxy", "app=proxy", "--overwrite")
        eventually_answers(cluster, "client", vip, 80, {"proxy"})
    finally:
        cluster.kubectl("-n", NS, "delete", "clrp", "web")
    eventually_answers(cluster, "client", vip, 80, {"web1", "web2"})
    assert "proxy" not in cluster.dbg("node1", "lrp", "list")


@both
def test_who_answers_for_a_service_may_ask_it(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    vips = {6 if ":" in ip else 4: ip for ip in cluster.get("-n", NS, "service", "web")["spec"]["clusterIPs"]}
    matcher = {"serviceMatcher": {"serviceName": "web", "namespace": NS}}
    cluster.apply(*in_namespace(policy("web", matcher, {"app": "proxy"}, skipRedirectFromBackend=True)))
    try:
        eventually_answers(cluster, "client", vips[version], 80, {"proxy"})
        eventually_answers(cluster, "proxy", vips[version], 80, {"web1", "web2"})
    finally:
        cluster.kubectl("-n", NS, "delete", "clrp", "web")


@both
def test_an_address_is_answered_by_a_pod_of_the_node(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    matcher = {"addressMatcher": {"ip": METADATA[version], "toPorts": [{"port": "80", "protocol": "TCP"}]}}
    cluster.apply(*in_namespace(policy("metadata", matcher, {"app": "proxy"})))
    try:
        eventually_answers(cluster, "client", METADATA[version], 80, {"proxy"})
        assert "curl: " in asks(cluster, "other", METADATA[version]), "no such pod on that node"
    finally:
        cluster.kubectl("-n", NS, "delete", "clrp", "metadata")
    cluster.eventually(lambda: "curl: " in asks(cluster, "client", METADATA[version]), "nobody answers any more")


def test_policies_that_cannot_be_followed_are_named(cluster: Cluster, pods: dict[str, Any]) -> None:
    """What the API server can see it refuses; the rest is in the status and in Events, and nothing else changes."""
    vip = cluster.get("-n", NS, "service", "web")["spec"]["clusterIP"]
    taken = {"addressMatcher": {"ip": vip, "toPorts": [{"port": "80", "protocol": "TCP"}]}}
    nobody = {"serviceMatcher": {"serviceName": "nobody", "namespace": NS}}
    with pytest.raises(CommandError, match="redirectFrontend"):
        cluster.apply(*in_namespace(policy("both", taken | nobody, {"app": "proxy"})))
    ports = [{"port": "80", "protocol": "TCP"}, {"port": "81", "protocol": "TCP"}]
    unnamed = {"addressMatcher": {"ip": METADATA[4], "toPorts": ports}}
    cluster.apply(
        *in_namespace(
            policy("taken", taken, {"app": "proxy"}),
            policy("nobody", nobody, {"app": "proxy"}),
            policy("unnamed", unnamed, {"app": "proxy"}),
        )
    )
    try:
        for message in (
            f"belongs to {NS}/web, whose ClusterIP it is",
            f"Service {NS}/nobody does not exist",
            "spec.redirectFrontend.addressMatcher.toPorts[0].name: is missing: several ports are joined by their names",
        ):
            cluster.eventually(
                lambda message=message: message in cluster.dbg("node1", "status", "--verbose"), f"status: {message}"
            )
        events = cluster.kubectl("-n", NS, "get", "events", "--field-selector=involvedObject.name=unnamed")
        assert "several ports are joined by their names" in events
        eventually_answers(cluster, "client", vip, 80, {"web1", "web2"})
    finally:
        cluster.kubectl("-n", NS, "delete", "clrp", "taken", "nobody", "unnamed")
    cluster.eventually(
        lambda: "CiliumLocalRedirectPolicy" not in cluster.dbg("node1", "status", "--verbose"),
        "nothing is said any more",
    )


@pytest.fixture
def redirected(packets: Cluster) -> Iterator[Cluster]:
    """Where sockets of pods are left alone: a policy in front of a Service, whose backends are not redirected."""
    matcher = {"serviceMatcher": {"serviceName": "web", "namespace": NS}}
    with packets.namespace(NS):
        packets.apply(
            *in_namespace(
                client("client", "node1"),
                server("web2", "node2", group="web"),
                server("proxy", "node1"),
                service("web", {"group": "web"}),
                policy("web", matcher, {"app": "proxy"}, skipRedirectFromBackend=True),
            )
        )
        packets.wait_ready(NS)
        yield packets


def test_redirects_in_packets(redirected: Cluster) -> None:
    for vip in redirected.get("-n", NS, "service", "web")["spec"]["clusterIPs"]:
        eventually_answers(redirected, "client", vip, 80, {"proxy"})
        eventually_answers(redirected, "proxy", vip, 80, {"web2"})
    redirected.kubectl("-n", NS, "delete", "clrp", "web")
    for vip in redirected.get("-n", NS, "service", "web")["spec"]["clusterIPs"]:
        eventually_answers(redirected, "client", vip, 80, {"web2"})


# ----------------------------------------------------------------------------- health checks, ports in use


def health(cluster: Cluster, ip: str, port: int) -> tuple[int, Any]:
    """As a load balancer outside asks."""
    words = ["curl", "-gsS", "-m", "2", "-w", "\n%{http_code}", url(ip, port) + "healthz"]
    body, _, code = cluster.node("external", *words).rpartition("\n")
    return int(code), json.loads(body)


@both
def test_load_balancers_learn_which_nodes_have_backends(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    cluster.apply(*in_namespace(service("balanced", {"app": "web1"}, **local)))
    try:
        port = cluster.get("-n", NS, "service", "balanced")["spec"]["healthCheckNodePort"]
        first, second = node_ip(cluster, "node1", version), node_ip(cluster, "node2", version)
        cluster.eventually(lambda: health(cluster, first, port)[0] == 200, "node1 has a backend")
        code, body = health(cluster, first, port)
        assert body["service"] == {"namespace": NS, "name": "balanced"}
        assert body["localEndpoints"] == 1
        code, body = cluster.eventually(lambda: health(cluster, second, port), "node2 answers")
        assert (code, body["localEndpoints"]) == (503, 0)
        cluster.kubectl("-n", NS, "patch", "service", "balanced", "-p", '{"spec": {"selector": {"app": "web2"}}}')
        cluster.eventually(
            lambda: (health(cluster, first, port)[0], health(cluster, second, port)[0]) == (503, 200), "it moves"
        )
    finally:
        cluster.kubectl("-n", NS, "delete", "service", "balanced")
    gone = ["curl", "-gsS", "-m", "2", url(first, port)]
    cluster.eventually(lambda: "curl: (7)" in cluster.node("external", *gone, check=False), "the port is closed")


def test_a_health_check_port_that_a_process_has(cluster: Cluster, pods: dict[str, Any]) -> None:
    """It is named, the other nodes answer, and so does this one when the port is free."""
    first, second = node_ip(cluster, "node1", 4), node_ip(cluster, "node2", 4)
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31999}
    with listener(cluster, "node1", 31999):
        cluster.apply(*in_namespace(service("balanced", {"app": "web2"}, **local)))
        message = "port 31999 of this node: Address already in use; free it"
        cluster.eventually(lambda: message in cluster.dbg("node1", "status", "--verbose"), "the status names it")
        cluster.eventually(lambda: message in cluster.kubectl("-n", NS, "get", "events"), "an Event names it")
        cluster.eventually(lambda: health(cluster, second, 31999)[0] == 200, "node2 answers")
    try:
        cluster.eventually(lambda: health(cluster, first, 31999)[0] == 503, "node1 answers, too", 40)
        cluster.eventually(
            lambda: message not in cluster.dbg("node1", "status", "--verbose"), "nothing is wrong any more"
        )
    finally:
        cluster.kubectl("-n", NS, "delete", "service", "balanced")


class listener:  # noqa: N801 - reads as a verb
    """A process of a node that listens on a port while the block lasts."""

    def __init__(self, cluster: Cluster, node: str, port: int) -> None:
        script = (
            "import socket, sys; s = socket.create_server(('0.0.0.0', int(sys.argv[1]))); "
            "print('ready', flush=True); sys.stdin.read()"
        )
        words = [BIN / "cilium", "lab", "node", "--name", cluster.name, node, "--", "python3", "-c", script, port]
        self._command, self._environment = [str(word) for word in words], cluster.environment

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=20)


@pytest.mark.parametrize("cluster", ["native"], indirect=True)  # the same in both, and agents look every 30 s only
def test_a_node_port_that_a_process_holds(cluster: Cluster, pods: dict[str, Any]) -> None:
    """The process is named; the Service is served all the same."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 31888}]
    try:
        with listener(cluster, "node1", 31888):
            cluster.apply(*in_namespace(service("busy", {"app": "web2"}, type="NodePort", ports=ports)))
            message = "listens on 0.0.0.0:31888/TCP of node node1"
            cluster.eventually(lambda: message in cluster.dbg("node1", "status", "--verbose"), "the status names it")
            cluster.eventually(lambda: message in cluster.kubectl("-n", NS, "get", "events"), "an Event names it")
            answer = cluster.node("external", *curl(node_ip(cluster, "node1", 4), 31888))
            assert who(answer) == "web2"
        cluster.eventually(
            lambda: message not in cluster.dbg("node1", "status", "--verbose"), "the process has gone", 60
        )
    finally:
        cluster.kubectl("-n", NS, "delete", "service", "busy")


def test_no_agent_has_errors(cluster: Cluster, pods: dict[str, Any]) -> None:
    ip = addresses(pods["web1"])[4]
    assert asks(cluster, "client", ip, 8080) == "web1"
    for node in ("node1", "node2", "node3"):
        cluster.eventually(lambda node=node: "none" in cluster.dbg(node, "status"), f"well on {node}")
