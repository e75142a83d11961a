"""What pods use, and autoscalers that follow it: `kubectl top`, `autoscale`, `get hpa`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kernel.kubelab.conftest import unique
from scenario.kubelab.small_lab import Namespace, SmallLab

pytestmark = pytest.mark.scenario

BUSY = (
    "while [ ! -e /tmp/quiet ]; do i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; sleep 0.05; done; exec sleep 1000"
)
"""A few percent of a core, until somebody asks for silence."""


@pytest.fixture(scope="module")
def here(small_lab: SmallLab) -> Iterator[Namespace]:
    """A namespace with a Deployment `busy` of one pod and two containers."""
    with small_lab.namespace(unique("hpa")) as made:
        requests = {"resources": {"requests": {"cpu": "10m"}}}
        busy = {"name": "busy", "image": "test", "command": ["sh", "-c", BUSY], **requests}
        idle = {"name": "idle", "image": "test", "command": ["sleep", "1000"], **requests}
        pods = {"terminationGracePeriodSeconds": 0, "containers": [busy, idle]}
        labels = {"app": "busy"}
        spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pods}}
        made.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "busy"}, "spec": spec})
        yield made


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_top_tells_what_nodes_pods_and_containers_use(here: Namespace) -> None:
    assert "error: metrics not available yet" in here.kubectl("top", "pods", check=False)
    here.until(lambda: here.kubectl("top", "pods", check=False).startswith("NAME"), "pods are measured")
    head, (name, cpu, memory) = cells(here.kubectl("top", "pods", "-l", "app=busy"))
    assert head == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert 5 <= int(cpu.removesuffix("m")) < 900
    assert memory.endswith("Mi")
    assert here.kubectl("top", "pods", "-l", "app=other", check=False).startswith("No resources found")
    rows = {row[1]: int(row[2].removesuffix("m")) for row in cells(here.kubectl("top", "pods", "--containers"))[1:]}
    assert rows["busy"] > rows["idle"]
    here.until(lambda: here.kubectl("top", "nodes", check=False).startswith("NAME"), "nodes are measured")
    head, *nodes = cells(here.kubectl("top", "nodes"))
    assert head == ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]
    assert [row[0] for row in nodes] == [node["metadata"]["name"] for node in here.get("nodes")["items"]]
    assert int(nodes[0][1].removesuffix("m")) > 0
    absent = here.kubectl("top", "pod", "absent", check=False)
    assert f'Error from server (NotFound): pods "{here.name}/absent" not found' in absent
    assert here.get("apiservice", "v1beta1.metrics.k8s.io")["status"]["conditions"][0]["status"] == "True"
    page = here.kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/metrics/resource")
    assert f'container_cpu_usage_seconds_total{{container="busy",namespace="{here.name}",pod="{name}"}}' in page


def test_who_may_read_a_namespace_may_read_what_its_pods_use(here: Namespace) -> None:
    here.kubectl("create", "serviceaccount", "reader")
    account = f"--as=system:serviceaccount:{here.name}:reader"
    assert "Forbidden" in here.kubectl("top", "pods", account, check=False)
    here.kubectl("create", "rolebinding", "reader", "--clusterrole=view", f"--serviceaccount={here.name}:reader")
    assert here.kubectl("top", "pods", account).startswith("NAME")
    assert "Forbidden" in here.kubectl("top", "nodes", account, check=False)


def test_an_autoscaler_follows_what_pods_use(here: Namespace) -> None:
    def scaler() -> Any:
        return here.get("hpa", "busy")

    def replicas(wanted: int) -> bool:
        return bool(here.get("deployment", "busy")["spec"]["replicas"] == wanted)

    here.kubectl("autoscale", "deployment", "busy", "--cpu=50%", "--min=1", "--max=2")
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    here.kubectl("patch", "hpa", "busy", "-p", json.dumps({"spec": {"behavior": behavior}}))
    here.until(lambda: replicas(2), "more pods", timeout=40)
    here.kubectl("rollout", "status", "deployment/busy", "--timeout=20s")
    head, row = cells(here.kubectl("get", "hpa"))
    assert head == ["NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE"]
    assert row[:3] == ["busy", "Deployment/busy", "cpu:"]
    conditions = {entry["type"]: (entry["status"], entry["reason"]) for entry in scaler()["status"]["conditions"]}
    assert conditions["ScalingActive"] == ("True", "ValidMetricFound")
    assert conditions["ScalingLimited"] == ("True", "TooManyReplicas")
    described = here.kubectl("describe", "hpa", "busy")
    assert "New size: 2; reason: cpu resource utilization (percentage of request) above target" in described
    for pod in here.get("pods", "-l", "app=busy")["items"]:
        here.kubectl("exec", pod["metadata"]["name"], "-c", "busy", "--", "touch", "/tmp/quiet")
    here.until(lambda: replicas(1), "fewer pods", timeout=40)
    assert ("SuccessfulRescale", "New size: 1; reason: All metrics below target") in here.events("busy")
    # An older client sees the same object.
    old = json.loads(here.kubectl("get", "horizontalpodautoscalers.v1.autoscaling", "busy", "-o", "json"))
    assert old["spec"]["targetCPUUtilizationPercentage"] == 50
    taken = here.kubectl("autoscale", "deployment", "busy", "--cpu=50%", "--max=2", check=False)
    assert 'horizontalpodautoscalers.autoscaling "busy" already exists' in taken
