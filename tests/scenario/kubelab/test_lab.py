"""Labs as a whole: up, kubectl, restart, two at once, down after success, failure and crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel.kubelab.conftest import unique

from kubelab.lab import Lab, LabError, LabOptions
from kubelab.underlay import cgroups, network

pytestmark = pytest.mark.scenario
PLUGIN = Path(__file__).parents[2] / "kernel" / "kubelab" / "ptp.sh"
CONFLIST = json.dumps({"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": "ptp"}]})


def left_behind(name: str) -> list[str]:
    """Whatever of a lab is still on the machine."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    mounts = Path("/proc/self/mounts").read_text()
    found = [str(path) for path in network.pinned(name)]
    found += [str(cgroups.lab_path(name))] if cgroups.lab_path(name).exists() else []
    found += [line for line in mounts.splitlines() if f"/kubelab/{name}" in line]
    found += [f"/run/kubelab/{name}"] if Path(f"/run/kubelab/{name}").exists() else []
    found += [pid for pid in os.listdir("/proc") if pid.isdigit() and f"/kubelab/{name}/" in _cmdline(pid)]
    return found + [line for line in links.splitlines() if ": kubelab" in line and name in line]


def _cmdline(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def install_plugin(lab: Lab) -> None:
    """A trivial CNI plugin on every node: each its own block, no routes between nodes."""
    for number, node in enumerate(lab.status().nodes, start=1):
        script = f"""echo {number} > /run/ptp.base; cat > /opt/cni/bin/ptp; chmod +x /opt/cni/bin/ptp
            echo '{CONFLIST}' > /etc/cni/net.d/10-test.conflist"""
        subprocess.run(lab.node_argv(node.name, ["sh", "-ec", script]), input=PLUGIN.read_bytes(), check=True)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab(unique("s"))
    made.up(LabOptions(nodes=3))
    try:
        install_plugin(made)
        made.wait_ready()
        yield made
    finally:
        made.down()
        assert left_behind(made.name) == []


def kubectl(lab: Lab, *args: str, stdin: str = "", check: bool = True) -> str:
    environment = {**os.environ, **lab.env()}
    done = subprocess.run(
        ["kubectl", *args], env=environment, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 or not check, f"kubectl {args}: {done.stdout}{done.stderr}"
    return done.stdout


def pod(name: str, script: str = "exec sleep 10000", **spec: Any) -> str:
    container = {"name": "c", "image": "test", "command": ["sh", "-c", script]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                       "spec": {"containers": [container], **spec}})  # fmt: skip


def test_deployment_runs_and_answers(lab: Lab) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
        {"name": "web", "image": "example/web", "ports": [{"containerPort": 8080}],
         "readinessProbe": {"httpGet": {"path": "/", "port": 8080}}}]}}  # fmt: skip
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
                "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}}  # fmt: skip
    kubectl(lab, "apply", "-f", "-", stdin=json.dumps(manifest))
    kubectl(lab, "rollout", "status", "deployment/web", "--timeout=30s")
    for item in json.loads(kubectl(lab, "get", "pods", "-l", "app=web", "-o", "json"))["items"]:
        argv = lab.node_argv(item["spec"]["nodeName"], ["curl", "-s", f"http://{item['status']['podIP']}:8080/"])
        answer = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert item["metadata"]["name"] in answer
    kubectl(lab, "delete", "deployment", "web", "--wait")
    kubectl(lab, "wait", "--for=delete", "pod", "-l", "app=web", "--timeout=30s")


def test_kubectl_exec_and_logs(lab: Lab) -> None:
    kubectl(lab, "apply", "-f", "-", stdin=pod("a", "echo hello; exec sleep 10000"))
    kubectl(lab, "wait", "--for=condition=Ready", "pod/a", "--timeout=30s")
    assert kubectl(lab, "logs", "a") == "hello\n"
    assert kubectl(lab, "exec", "a", "--", "hostname") == "a\n"
    assert kubectl(lab, "exec", "-i", "a", "--", "cat", stdin="over the wire") == "over the wire"
    kubectl(lab, "delete", "pod", "a", "--wait", "--timeout=30s")


def test_world_is_reached_from_nodes(lab: Lab) -> None:
    for address in ("203.0.113.10", "2001:db8::10"):
        subprocess.run(lab.node_argv("node2", ["ping", "-c1", "-W2", address]), check=True, stdout=subprocess.DEVNULL)


def test_pods_survive_kubelet_and_control_plane(lab: Lab) -> None:
    kubectl(lab, "apply", "-f", "-", stdin=pod("b", nodeName="node1"))
    kubectl(lab, "wait", "--for=condition=Ready", "pod/b", "--timeout=30s")
    before = json.loads(kubectl(lab, "get", "pod", "b", "-o", "json"))["status"]["containerStatuses"][0]
    lab.stop("kubelet-node1", kill=True)
    lab.stop("control-plane", kill=True)
    assert lab.start() == ["control-plane", "kubelet-node1"]
    kubectl(lab, "apply", "-f", "-", stdin=pod("c", nodeName="node1"))
    kubectl(lab, "wait", "--for=condition=Ready", "pod/c", "--timeout=30s")
    after = json.loads(kubectl(lab, "get", "pod", "b", "-o", "json"))["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    kubectl(lab, "delete", "pod", "b", "c", "--wait", "--timeout=30s")


def test_second_lab_of_the_same_name_is_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match="already up"):
        Lab(lab.name).up(LabOptions(nodes=1))
    assert all(lab.status().processes.values())


def test_second_lab_of_another_name_lives_beside(lab: Lab) -> None:
    other = Lab(unique("s"))
    try:
        other.up(LabOptions(nodes=1))
        assert set(other.status().subnets).isdisjoint(lab.status().subnets)
        assert "node3" not in kubectl(other, "get", "nodes")
    finally:
        other.down()
    assert left_behind(other.name) == []
    assert all(lab.status().processes.values())
    assert "node3" in kubectl(lab, "get", "nodes")


def test_unknown_node_is_named(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"node node9: lab .* has node1, node2, node3"):
        lab.node_exec("node9", ["true"])


def test_failed_up_leaves_nothing() -> None:
    lab = Lab(unique("s"))
    with pytest.raises(LabError, match="Nonsense"):
        lab.up(LabOptions(nodes=1), manifests=[{"apiVersion": "v1", "kind": "Nonsense", "metadata": {"name": "x"}}])
    assert left_behind(lab.name) == []


@pytest.mark.parametrize("word", ["starting the control plane", "starting node2", "waiting for the nodes"])
def test_down_after_a_crash_in_the_middle(word: str) -> None:
    lab = Lab(unique("s"))
    script = (
        "import os, signal, sys; from kubelab.lab import Lab, LabOptions\n"
        "def step(text):\n    if sys.argv[2] in text: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Lab(sys.argv[1]).up(LabOptions(nodes=2), progress=step)"
    )
    done = subprocess.run([sys.executable, "-c", script, lab.name, word], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(LabError, match="half-finished"):
        lab.up(LabOptions(nodes=1))
    assert lab.down()
    assert left_behind(lab.name) == []
    assert not lab.down(), "nothing is left to take down"


@pytest.mark.parametrize("name", ["", "A", "-x", "x-", "x" * 31, "a/b", "..", "a_b"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(LabError, match="lab name"):
        Lab(name)
