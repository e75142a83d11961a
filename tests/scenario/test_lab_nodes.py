"""Nodes of a lab that join, lose their power, come back and leave; links between them that break and heal."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kernel.kubelab.conftest import unique
from scenario.cluster import BIN, Cluster, lacks

from kubelab.lab import Lab, state
from kubelab.underlay import cgroups, network

pytestmark = pytest.mark.scenario
QUICK = ("--node-monitor-grace-period", "4", "--default-toleration-seconds", "1", "--zones", "2")
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Nodes:
    """A lab of two nodes, whose nodes may change."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.lab = Lab(cluster.name)

    def command(self, *words: str, check: bool = True) -> str:
        return self.cluster.run(BIN / "cilium", "lab", words[0], *words[1:], "--name", self.cluster.name, check=check)

    def ready(self, name: str) -> str:
        conditions = self.cluster.get("node", name)["status"]["conditions"]
        return "".join(str(c["status"]) for c in conditions if c["type"] == "Ready")

    def pods(self, app: str, node: str = "") -> list[dict[str, Any]]:
        """Those that are to stay."""
        found = self.cluster.get("pods", "-l", f"app={app}")["items"]
        alive = [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]
        return [pod for pod in alive if node in ("", pod["spec"].get("nodeName"))]

    def deploy(self, app: str, replicas: int, **more: Any) -> None:
        container = {"name": "web", "image": "example/web", "ports": [{"containerPort": 8080}]}
        spec = {"terminationGracePeriodSeconds": 1, "containers": [container], **more}
        template = {"metadata": {"labels": {"app": app}}, "spec": spec}
        self.cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": app}}, "template": template}})  # fmt: skip
        self.cluster.kubectl("rollout", "status", f"deployment/{app}", "--timeout=30s")

    def reaches(self, node: str, address: str) -> bool:
        argv = self.lab.node_argv(node, ["ping", "-c1", "-W1", address])
        return subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode == 0

    def left_of(self, node: str) -> list[str]:
        paths = state.paths(self.lab.name)
        places = [paths.directory / "nodes" / node, cgroups.node_path(self.lab.name, node),
                  network.netns(self.lab.name, node), *paths.namespaces.glob(f"{node}.*")]  # fmt: skip
        ports = ["nsenter", f"--net={network.netns(self.lab.name, 'underlay')}", "ip", "-br", "link"]
        links = subprocess.run(ports, capture_output=True, text=True, check=True).stdout.splitlines()
        kept = self.lab.api().get("/api/v1/nodes")["items"] + self.lab.api().get(LEASES)["items"]
        return [
            *(str(place) for place in places if place.exists()),
            *(line for line in links if line.startswith(f"{node}@")),
            *(item["metadata"]["name"] for item in kept if item["metadata"]["name"] == node),
        ]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    if reason := lacks():
        pytest.skip(reason)
    cluster = Cluster(unique("n"))
    try:
        cluster.up(*QUICK, nodes=2)
        yield Nodes(cluster)
    finally:
        cluster.down()


def test_a_node_without_power_is_not_ready_and_boots_with_what_was_on_its_disk(nodes: Nodes) -> None:
    nodes.deploy("moving", 4)
    pinned = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pinned", "labels": {"app": "pinned"}}, "spec": {
        "nodeName": "node2", "tolerations": [{"operator": "Exists"}], "containers": [
            {"name": "c", "image": "example/web", "ports": [{"containerPort": 8080}]}]}}  # fmt: skip
    nodes.cluster.apply(pinned)
    nodes.cluster.kubectl("wait", "--for=condition=Ready", "pod/pinned", "--timeout=30s")
    nodes.cluster.node("node2", "sh", "-c", "echo kept > /var/lib/kept; echo lost > /run/lost")
    boot = nodes.cluster.get("node", "node2")["status"]["nodeInfo"]["bootID"]
    assert nodes.pods("moving", "node2")

    assert "node2 is stopped" in nodes.command("node", "stop", "node2")
    assert not cgroups.populated(cgroups.node_path(nodes.lab.name, "node2"))
    assert "node stopped" in nodes.command("status"), "and that is no fault of the lab"
    nodes.cluster.eventually(lambda: nodes.ready("node2") == "Unknown", "node2 is not ready", 20)
    nodes.cluster.eventually(lambda: len(nodes.pods("moving", "node1")) == 4, "all pods run on node1", 20)
    nodes.cluster.kubectl("rollout", "status", "deployment/moving", "--timeout=30s")
    refused = nodes.command("node", "exec", "node2", "true", check=False)
    assert "node2 is stopped: cilium lab node start node2" in refused

    assert "node2 is ready" in nodes.command("node", "start", "node2")
    assert nodes.ready("node2") == "True"
    nodes.cluster.node(
        "node2", "cilium-dbg", "status"
    )  # the agent of this boot is there, not only the word of the last
    assert nodes.cluster.get("node", "node2")["status"]["nodeInfo"]["bootID"] != boot
    assert nodes.cluster.node("node2", "sh", "-c", "cat /var/lib/kept; ls /run/lost 2>&1 || true").startswith("kept\n")
    nodes.cluster.kubectl("wait", "--for=condition=Ready", "pod/pinned", "--timeout=30s")
    back = nodes.cluster.get("pod", "pinned")["status"]
    assert back["containerStatuses"][0]["restartCount"] == 1
    assert "pinned" in nodes.cluster.node("node1", "curl", "-s", "-m3", f"http://{back['podIP']}:8080/")
    nodes.cluster.eventually(
        lambda: len(nodes.cluster.get("pods", "-l", "app=moving")["items"]) == 4, "pods that were moved are forgotten"
    )
    nodes.cluster.kubectl("delete", "deployment/moving", "pod/pinned", "--timeout=30s")
    attachments = "ls /var/lib/cni/results | wc -l"
    nodes.cluster.eventually(
        lambda: nodes.cluster.node("node2", "sh", "-c", attachments) == "0\n", "no attachment of before is left"
    )


def test_a_node_joins_and_leaves(nodes: Nodes) -> None:
    assert "node3 is ready" in nodes.command("node", "add", "--zone", "zone9")
    assert nodes.cluster.get("node", "node3")["metadata"]["labels"]["topology.kubernetes.io/zone"] == "zone9"
    nodes.deploy("guest", 1, nodeName="node3")
    (pod,) = nodes.pods("guest")
    assert "guest" in nodes.cluster.node("node1", "curl", "-s", "-m3", f"http://{pod['status']['podIP']}:8080/")
    nodes.cluster.kubectl("delete", "deployment/guest", "--timeout=30s")
    nodes.deploy("moving", 3, affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node3"]}]}}]}})  # fmt: skip
    assert nodes.pods("moving", "node3")
    nodes.command("cut", "node1", "node3")

    assert "node3 is gone" in nodes.command("node", "delete", "node3")
    assert nodes.left_of("node3") == []
    assert "cut:" not in nodes.command("status")
    nodes.cluster.kubectl("rollout", "status", "deployment/moving", "--timeout=30s")
    nodes.cluster.eventually(
        lambda: {item["metadata"]["name"] for item in nodes.cluster.get("ciliumnodes")["items"]} == {"node1", "node2"},
        "the CiliumNode goes with its Node",
    )
    assert "node node3: lab" in nodes.command("node", "delete", "node3", check=False)
    nodes.cluster.kubectl("delete", "deployment/moving", "--timeout=30s")


def test_what_a_crash_leaves_of_a_new_node_can_be_deleted(nodes: Nodes) -> None:
    script = (
        "import os, signal, sys; from kubelab.lab import Lab; from kubelab.lab.nodes import Nodes\n"
        "Nodes.start_kubelet = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nLab(sys.argv[1]).add_node()"
    )
    done = subprocess.run([sys.executable, "-c", script, nodes.lab.name], check=False)
    assert done.returncode == -signal.SIGKILL
    assert "node stopped" in nodes.command("status")
    assert "node3 is gone" in nodes.command("node", "delete", "node3")
    assert nodes.left_of("node3") == []


def test_a_link_breaks_and_heals(nodes: Nodes) -> None:
    plan = state.paths(nodes.lab.name).require().plan
    assert "are cut off" in nodes.command("cut", "node2", "node1")
    try:
        assert "were cut off already" in nodes.command("cut", "node1", "node2")
        assert "cut: node1 - node2" in nodes.command("status")
        assert not any(nodes.reaches("node1", address) for address in plan.node(2))
        assert not any(nodes.reaches("node2", address) for address in plan.node(1))
        assert all(nodes.reaches("node1", address) for address in (*plan.host, *plan.router))
        assert nodes.ready("node1") == nodes.ready("node2") == "True"
    finally:
        nodes.command("heal", "node1", "node2")
    assert all(nodes.reaches("node1", address) for address in plan.node(2))
    nodes.command("cut", "control-plane", "node2")
    nodes.command("cut", "node2", "external")
    try:
        nodes.cluster.eventually(lambda: nodes.ready("node2") == "Unknown", "nothing is heard of node2", 20)
        assert nodes.reaches("node2", plan.node(1)[0])
        assert not nodes.reaches("node2", plan.router[0])
    finally:
        assert "control-plane" in nodes.command("heal")
    nodes.cluster.eventually(lambda: nodes.ready("node2") == "True", "node2 is back", 20)
    assert "nothing was cut" in nodes.command("heal")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("cut", "node1", "node9"), "node9: lab .* has node1, node2, external, control-plane"),
        (("cut", "node1", "node1"), "node1: a link has two ends"),
        (("heal", "node1"), "name both ends of a link, or none"),
        (("node", "stop", "external"), "node external: lab .* has node1, node2"),
        (("node", "start", "node1"), "node node1 runs already"),
    ],
)
def test_what_cannot_be_done_is_named(nodes: Nodes, words: tuple[str, ...], problem: str) -> None:
    said = nodes.command(*words, check=False)
    assert re.search(problem, said), said


def test_logs_and_costs_of_components(nodes: Nodes) -> None:
    assert "kubelet-node1 | timestamp=" in nodes.command("logs", "--tail", "3")
    assert "node registered" in nodes.command("logs", "node1")
    assert "became leader" in nodes.command("logs", "operator")
    assert "node9: lab" in nodes.command("logs", "node9", check=False)
    rows = {line.split()[0]: line.split()[1:] for line in nodes.command("top", "--interval", "0.5").splitlines()[1:]}
    assert {"control-plane", "kubelet", "cilium-agent", "cilium-operator", "external", "total"} <= rows.keys()
    memory = {name: int(row[-1].removesuffix("Mi")) for name, row in rows.items()}
    assert memory["total"] >= memory["cilium-agent"] > 10
    assert "kube-system/cilium-" in nodes.command("top", "--interval", "0.1", "--containers")


def test_a_node_that_cannot_be_drained_stays(nodes: Nodes) -> None:
    nodes.deploy("needed", 1, nodeSelector={"kubernetes.io/hostname": "node2"})
    (pod,) = nodes.pods("needed")
    held = json.dumps({"metadata": {"finalizers": ["example.org/held"]}})
    nodes.cluster.kubectl("patch", "pod", pod["metadata"]["name"], "--type=merge", "-p", held)
    said = nodes.command("node", "delete", "node2", "--timeout", "1", check=False)
    assert "node node2 is not empty after 1 s: default/needed-" in said
    assert "kubectl uncordon node2" in said
    assert nodes.cluster.get("node", "node2")["spec"]["unschedulable"]
    assert "node2 is gone" in nodes.command("node", "delete", "node2", "--force")
    assert nodes.left_of("node2") == []
