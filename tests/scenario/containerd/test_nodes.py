"""Kubelets, containerd and nodes end and come back; at last nothing is left of anything."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from scenario.cluster import BIN, Cluster
from scenario.containerd.world import NS, RICH, pod, state

from kubelab.lab import containerd
from kubelab.lab.lab import Lab
from kubelab.underlay import cgroups, controllers

pytestmark = pytest.mark.scenario


def group_of(cluster: Cluster, name: str) -> Path:
    """The cgroup of its container on node1."""
    found = cluster.get("-n", NS, "pod", name)
    identifier = found["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    return containerd.container_group(cgroups.node_path(cluster.name, "node1"), found["metadata"]["uid"], identifier)


def ready(cluster: Cluster, node: str) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = cluster.get("node", node)["status"]["conditions"]
    return next(entry for entry in conditions if entry["type"] == "Ready")


def test_containers_outlive_kubelet_and_containerd(lab: Cluster, web: str) -> None:
    before = state(lab, web)
    made = Lab(lab.name)
    made.stop("containerd-node1", kill=True)
    down = lab.eventually(lambda: (entry := ready(lab, "node1"))["status"] == "False" and entry, "node1 is not ready")
    assert (down["reason"], down["message"]) == ("KubeletNotReady", "container runtime is down")
    made.stop("kubelet-node1", kill=True)
    made.start_kubelet("node1")  # and containerd, which it needs
    lab.eventually(lambda: ready(lab, "node1")["status"] == "True", "node1 is ready")
    lab.eventually(lambda: lab.exec(NS, web, "echo", "here") == "here\n", "exec works again")
    assert state(lab, web) == before
    init = next(pid for pid in cgroups.members(group_of(lab, web)) if pid)
    made.stop("kubelet-node1", kill=True)
    os.kill(init, signal.SIGKILL)
    made.start_kubelet("node1")
    last = lab.eventually(lambda: state(lab, web)["lastState"].get("terminated"), "an end that no kubelet saw")
    assert last["exitCode"] == 137
    lab.eventually(lambda: lab.exec(NS, web, "echo", "again") == "again\n", "it was started again")


def test_a_node_loses_its_power_and_boots(lab: Cluster) -> None:
    """Its image came before it joined; its pods get new sandboxes; a pod that has ended has none, but its address."""
    lab.apply(
        pod("stays", RICH, nodeName="node2", tolerations=[{"operator": "Exists"}]),
        pod("done", RICH, nodeName="node2", container={"command": ["true"]}, restartPolicy="Never",
            tolerations=[{"operator": "Exists"}]),
    )  # fmt: skip
    lab.kubectl("-n", NS, "wait", "pod/stays", "--for=condition=Ready", "--timeout=20s")
    lab.kubectl("-n", NS, "wait", "pod/done", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s")
    before, address = state(lab, "stays")["containerID"], lab.get("-n", NS, "pod", "done")["status"]["podIP"]
    for step in ("stop", "start"):
        lab.run(BIN / "cilium", "lab", "node", step, "node2", "--name", lab.name)
    lab.eventually(lambda: state(lab, "stays")["containerID"] != before, "a new container")
    lab.eventually(lambda: lab.exec(NS, "stays", "echo", "here") == "here\n", "it works")
    assert lab.get("-n", NS, "pod", "done")["status"]["podIP"] == address
    assert len(containers(lab, "node2", "stays")) == 2, "a sandbox and a container"
    assert containers(lab, "node2", "done") == []


def containers(cluster: Cluster, node: str, name: str) -> list[str]:
    """What a node's containerd has of a pod, the sandbox included."""
    wanted = f'labels."io.kubernetes.pod.name"=={name}'
    return cluster.node(node, "ctr", "-n", "k8s.io", "containers", "list", "-q", wanted).split()


def test_removal_leaves_nothing(lab: Cluster, web: str) -> None:
    """Of a pod: sandbox, containers, shims. Of the lab: processes, cgroups, mounts."""
    lab.kubectl("delete", "namespace", NS, "--wait=true", timeout=60)
    for node in ("node1", "node2"):
        listed = lab.node(node, "ctr", "-n", "k8s.io", "containers", "list", "-q")
        assert listed.split() == []
        group = cgroups.node_path(lab.name, node)
        kept = {item["metadata"]["uid"] for item in lab.get("pods", "-A")["items"]}
        for root in (group, *(each.group(lab.name, node) for each in controllers.hierarchies())):
            lab.eventually(lambda root=root, kept=kept: {path.name[3:] for path in root.glob("kubepods/pod*")} <= kept,
                           f"no cgroups of containers in {root}")  # fmt: skip
        programs = [Path(f"/proc/{pid}/comm").read_text() for pid in cgroups.members(group / containerd.GROUP)]
        assert programs == ["containerd\n"]
    assert "down" in lab.down()
    assert not cgroups.lab_path(lab.name).exists()
    assert not any(each.group(lab.name).exists() for each in controllers.hierarchies())
    mounts = Path("/proc/self/mounts").read_text()
    assert lab.name not in mounts
