"""Policies on nodes: who reaches a process of the node, whom it reaches, and how a node that locks itself out comes
back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scenario.cluster import BIN, Cluster, addresses, client, curl, server
from scenario.node import LabNode
from scenario.test_kube_apiserver import api_servers
from scenario.test_north_south import node_ip

from cilium.tables.audit import ANNOTATION

pytestmark = pytest.mark.scenario
NS, PORT, NODE_PORT = "hosts", 9191, 30919
VERSIONS = (4, 6)
WORLD = {4: "203.0.113.10", 6: "2001:db8::10"}
KUBELET = {"fromEntities": ["all"], "toPorts": [{"ports": [{"port": "10250", "protocol": "TCP"}]}]}
"""The API server executes commands through it."""


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[dict[str, Any]]:
    web = server("hostweb", "node1", ports=[("TCP", PORT)])
    web["spec"]["hostNetwork"] = True
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hostweb", "namespace": NS},
        "spec": {"type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "selector": {"app": "hostweb"},
                 "ports": [{"port": 80, "targetPort": PORT, "nodePort": NODE_PORT}]},
    }  # fmt: skip
    with cluster.namespace(NS):
        for manifest in (web, client("near", "node1"), client("far", "node2"), server("there", "node2")):
            manifest["metadata"]["namespace"] = NS
            cluster.apply(manifest)
        cluster.apply(service)
        cluster.wait_ready(NS)
        yield {item["metadata"]["name"]: item for item in cluster.get("-n", NS, "pods")["items"]}


@pytest.fixture(autouse=True)
def policies(cluster: Cluster) -> Iterator[None]:
    try:
        yield
    finally:
        cluster.kubectl("delete", "ciliumclusterwidenetworkpolicies", "--all", timeout=90)
        cluster.kubectl("label", "node", "node1", "guarded-")


def ccnp(name: str, **sections: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": name},
        "spec": {"nodeSelector": {"matchLabels": {"guarded": "yes"}}, **sections},
    }  # fmt: skip


def guard(cluster: Cluster) -> None:
    cluster.kubectl("label", "node", "node1", "guarded=yes")


def trials(cluster: Cluster) -> dict[str, str]:
    """State by object, of node 1; asked without the API server."""
    rows = json.loads(cluster.node("node1", BIN / "cilium-dbg", "statedb", "host-policy-trials", "-o", "json"))
    return {row["name"]: f"{row['state']} {row['generation']}" for row in rows}


def ask(cluster: Cluster, source: str, ip: str, port: int = PORT) -> bool:
    if source in ("near", "far"):
        return '"pod"' in cluster.exec(NS, source, *curl(ip, port), check=False)
    return '"pod"' in cluster.node(source, *curl(ip, port), check=False)


def expect(cluster: Cluster, *sources: str, reached: bool, port: int = PORT, node: str = "node1") -> None:
    for version in VERSIONS:
        ip = node_ip(cluster, node, version)
        for source in sources:
            cluster.eventually(
                lambda source=source, ip=ip: ask(cluster, source, ip, port) is reached,
                f"{source} {'reaches' if reached else 'does not reach'} {ip} {port}",
            )


EVERYBODY = ("near", "far", "node2", "external")


def test_a_port_of_the_node_is_closed_for_all_but_one(cluster: Cluster, pods: dict[str, Any]) -> None:
    expect(cluster, *EVERYBODY, reached=True)
    for node in ("node1", "node2"):
        expect(cluster, "external", reached=True, port=NODE_PORT, node=node)
    near = {"fromEndpoints": [{"matchLabels": {"app": "near"}}],
            "toPorts": [{"ports": [{"port": str(PORT), "protocol": "TCP"}]}]}  # fmt: skip
    cluster.apply(ccnp("closed", ingress=[KUBELET, near]))
    expect(cluster, *EVERYBODY, reached=True)  # it selects nobody yet
    guard(cluster)
    expect(cluster, "far", "node2", "external", reached=False)
    expect(cluster, "near", reached=True)
    for node in ("node1", "node2"):
        expect(cluster, "external", reached=False, port=NODE_PORT, node=node)
    # What the node asks itself, what its pods do, and the tunnel between nodes are as they were.
    there = addresses(pods["there"])
    for version in VERSIONS:
        assert ask(cluster, "node1", there[version], 8080)
        assert ask(cluster, "near", there[version], 8080)
        assert ask(cluster, "node1", WORLD[version], 80)
    rows = json.loads(cluster.dbg("node1", "endpoint", "list", "-o", "json"))
    (host,) = [row["status"]["policy"] for row in rows if row["id"] == 65535]
    assert [host[direction]["enforcing"] for direction in ("ingress", "egress")] == [True, False]
    assert "closed ingress[1]" in cluster.dbg("node1", "bpf", "policy", "get", "65535")
    assert "Host firewall:          Enabled   [eth0]" in cluster.dbg("node1", "status")
    drops = cluster.hubble("node1", "--verdict", "DROPPED", "--to-port", str(PORT), "--last", "20")
    assert any("reserved:host" in flow["destination"]["labels"] for flow in drops)
    cluster.kubectl("label", "node", "node1", "guarded-")
    expect(cluster, *EVERYBODY, reached=True)


def test_what_the_node_may_ask(cluster: Cluster, pods: dict[str, Any]) -> None:
    there = addresses(pods["there"])
    guard(cluster)
    cluster.apply(
        ccnp(
            "egress", egress=[{"toEntities": ["kube-apiserver"]}, {"toEndpoints": [{"matchLabels": {"app": "there"}}]}]
        )
    )
    for version in VERSIONS:
        cluster.eventually(
            lambda version=version: not ask(cluster, "node1", WORLD[version], 80),
            f"the world is closed over IPv{version}",
        )
        assert ask(cluster, "node1", there[version], 8080)
    expect(cluster, "far", "external", reached=True)  # answers are no questions
    assert trials(cluster)["egress"] in ("trying 1", "kept 1")
    cluster.kubectl("delete", "ccnp", "egress")
    for version in VERSIONS:
        cluster.eventually(
            lambda version=version: ask(cluster, "node1", WORLD[version], 80),
            f"the world is open again over IPv{version}",
        )


def audited(cluster: Cluster) -> bool:
    """Whether the node has reported a question to its port that it would have dropped."""
    flows = cluster.hubble("node1", "--verdict", "AUDIT", "--to-port", str(PORT), "--last", "5")
    return any("reserved:host" in flow["destination"]["labels"] for flow in flows)


@pytest.fixture
def dry_run(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """Switches audit mode of the host firewall on, on node 1."""
    config = {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNodeConfig",
        "metadata": {"name": "dry-run", "namespace": "kube-system"},
        "spec": {"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "node1"}},
                 "defaults": {"host-firewall-audit-mode": "true"}},
    }  # fmt: skip

    def switch_on() -> None:
        cluster.apply(config)
        cluster.kill_agent("node1")

    yield switch_on
    cluster.kubectl("-n", "kube-system", "delete", "ciliumnodeconfig", "dry-run", "--ignore-not-found")
    cluster.kill_agent("node1")
    cluster.eventually(lambda: "audit mode" not in cluster.dbg("node1", "status"), "node 1 is as it was", seconds=30)


@pytest.mark.parametrize("cluster", ["tunnel"], indirect=True)
def test_dry_runs(cluster: Cluster, pods: dict[str, Any], dry_run: Callable[[], None]) -> None:
    guard(cluster)
    policy = ccnp("closed", ingress=[KUBELET])
    cluster.apply(policy | {"metadata": {"name": "closed", "annotations": {ANNOTATION: "enabled"}}})
    cluster.eventually(lambda: ask(cluster, "far", node_ip(cluster, "node1", 4)) and audited(cluster), "one policy")
    cluster.kubectl("annotate", "ccnp", "closed", f"{ANNOTATION}-")
    expect(cluster, "far", "external", reached=False)
    dry_run()
    expect(cluster, "far", "external", reached=True)
    assert "(audit mode: nothing is dropped)" in cluster.dbg("node1", "status")
    cluster.eventually(lambda: audited(cluster), "the whole node")


@pytest.mark.parametrize("cluster", ["tunnel"], indirect=True)
class TestLockOut:
    """The API server is out of reach with these policies; everything is watched from the node itself."""

    @pytest.fixture(autouse=True)
    def guarded(self, cluster: Cluster, pods: dict[str, Any]) -> None:
        """With one policy that is kept."""
        guard(cluster)
        cluster.apply(ccnp("kept", ingress=[KUBELET]))
        cluster.eventually(lambda: trials(cluster) == {"kept": "kept 1"}, "the first policy is kept", seconds=30)

    cut = ccnp("cut", egress=[{"toEntities": ["health"]}])

    def reaches_api(self, cluster: Cluster) -> bool:
        address = next(ip for ip in api_servers(cluster) if ":" not in ip)
        command = ["curl", "-gksS", "-m", "1", "-o", "/dev/null", f"https://{address}:6443/version"]
        return "curl:" not in cluster.node("node1", *command, check=False)

    def test_the_node_gets_back_what_it_had(self, cluster: Cluster) -> None:
        assert self.reaches_api(cluster)
        cluster.apply(self.cut)
        cluster.eventually(lambda: not self.reaches_api(cluster), "the API server is out of reach")
        assert trials(cluster)["cut"] == "trying 1"
        cluster.eventually(lambda: self.reaches_api(cluster), "contact comes back by itself")
        assert trials(cluster) == {"kept": "kept 1", "cut": "rolled-back 1"}
        expect(cluster, "far", "external", reached=False)  # the other policy is enforced as before

        def told() -> bool:
            events = cluster.get("-n", "default", "events")["items"]
            return any(e["reason"] == "HostPolicyRolledBack" and "node1: " in e["message"] for e in events)

        cluster.eventually(told, "an Event says so")
        rows = json.loads(cluster.dbg("node1", "statedb", "policy-status", "-o", "json"))
        (status,) = [row for row in rows if row["name"] == "cut"]
        assert "generation 1 was rolled back" in status["warnings"][0]

        def written() -> bool:
            said = cluster.get("ccnp", "cut")["status"]["nodes"]["node1"]
            return not said["ok"] and "was rolled back" in said["error"]

        cluster.eventually(written, "so does the object's own status")
        cluster.apply(ccnp("cut", egress=[{"toEntities": ["kube-apiserver", "cluster"]}]))
        cluster.eventually(lambda: trials(cluster)["cut"] == "kept 2", "a better one is tried and kept", seconds=30)

    def test_also_if_the_agent_dies_meanwhile(self, cluster: Cluster) -> None:
        node = LabNode(cluster, "node1")
        cluster.apply(self.cut)
        cluster.eventually(lambda: not self.reaches_api(cluster), "the API server is out of reach")
        cluster.kill_agent("node1")
        cluster.eventually(lambda: self.reaches_api(cluster), "contact comes back by itself", seconds=30)
        cluster.eventually(node.ready, "the agent serves again", seconds=30)
        cluster.eventually(lambda: trials(cluster) == {"kept": "kept 1", "cut": "rolled-back 1"}, "the trial was ended")
        expect(cluster, "far", "external", reached=False)
