"""The scheduler's filters, its choice, and what it says when there is none."""

from __future__ import annotations

from typing import Any

import pytest
from unit.kubelab.controllers.cluster import Cluster, Object, deployment

from kubelab.apiserver.quantities import quantity
from kubelab.controllers.scheduling import placement


async def pod(cluster: Cluster, name: str, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    body = {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"containers": [{"name": "main", "image": "none"}], **spec},
    }
    await cluster.store.create("pods", body, namespace="default")
    await cluster.settle()
    return cluster.store.peek("pods", name, namespace="default") or {}


def refusal(pod: Object) -> str:
    (found,) = (entry for entry in pod["status"]["conditions"] if entry["type"] == "PodScheduled")
    assert (found["status"], found["reason"]) == ("False", "Unschedulable")
    return str(found["message"])


async def test_no_nodes(cluster: Cluster) -> None:
    assert refusal(await pod(cluster, "a")) == "0/0 nodes are available."
    events = [event for event in cluster.store.peek_all("events") if event["reason"] == "FailedScheduling"]
    assert [event["type"] for event in events] == ["Warning"]
    await cluster.node("n1")
    bound = cluster.store.peek("pods", "a", namespace="default") or {}
    assert bound["spec"]["nodeName"] == "n1"
    assert [entry["status"] for entry in bound["status"]["conditions"]] == ["True"]


async def test_why_not(cluster: Cluster) -> None:
    await cluster.node("n1", unschedulable=True)
    await cluster.node("n2", taints=[{"key": "gpu", "value": "a", "effect": "NoSchedule"}])
    await cluster.node("n3")
    message = refusal(await pod(cluster, "a", nodeSelector={"disk": "ssd"}))
    assert message.startswith("0/3 nodes are available: ")
    assert "1 node(s) were unschedulable" in message
    assert "1 node(s) had untolerated taint {gpu: a}" in message
    assert "1 node(s) didn't match Pod's node affinity/selector" in message
    assert (await pod(cluster, "b", tolerations=[{"key": "gpu", "value": "a"}]))["spec"]["nodeName"] in ("n2", "n3")


async def test_resources_and_ports(cluster: Cluster) -> None:
    await cluster.node("n1")
    big = [{"name": "main", "image": "none", "resources": {"requests": {"cpu": "1500m", "memory": "1Gi"}}}]
    assert (await pod(cluster, "a", containers=big))["spec"]["nodeName"] == "n1"
    assert "Insufficient cpu" in refusal(await pod(cluster, "b", containers=big))
    listener = [{"name": "main", "image": "none", "ports": [{"containerPort": 9234}]}]
    assert (await pod(cluster, "c", containers=listener, hostNetwork=True))["spec"]["nodeName"] == "n1"
    assert "free ports" in refusal(await pod(cluster, "d", containers=listener, hostNetwork=True))
    await cluster.store.delete("pods", "c", namespace="default", grace_seconds=0)
    await cluster.settle()
    assert (cluster.store.peek("pods", "d", namespace="default") or {})["spec"]["nodeName"] == "n1"


def affinity(kind: str, app: str) -> dict[str, Any]:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


async def test_affinity_between_pods(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.node("n2")
    first = await pod(cluster, "a", {"app": "db"}, affinity=affinity("podAntiAffinity", "db"))
    second = await pod(cluster, "b", {"app": "db"}, affinity=affinity("podAntiAffinity", "db"))
    assert {first["spec"]["nodeName"], second["spec"]["nodeName"]} == {"n1", "n2"}
    assert "anti-affinity" in refusal(await pod(cluster, "c", {"app": "db"}))  # the others' rule counts
    assert "pod affinity" in refusal(await pod(cluster, "d", affinity=affinity("podAffinity", "nobody")))
    await pod(cluster, "e", {"app": "cache"}, nodeName="n2")
    near = await pod(cluster, "f", affinity=affinity("podAffinity", "cache"))
    assert near["spec"]["nodeName"] == "n2"
    group = await pod(cluster, "g", {"app": "new"}, affinity=affinity("podAffinity", "new"))
    assert group["spec"]["nodeName"] in ("n1", "n2")  # the first of its group


async def test_replicas_spread(cluster: Cluster) -> None:
    for name in ("n1", "n2", "n3"):
        await cluster.node(name)
    await cluster.store.create("deployments.apps", deployment("web", 6))
    await cluster.settle()
    nodes = [pod["spec"]["nodeName"] for pod in cluster.pods(app="web")]
    assert sorted(nodes) == ["n1", "n1", "n2", "n2", "n3", "n3"]


async def test_other_schedulers_pods_are_left_alone(cluster: Cluster) -> None:
    await cluster.node("n1")
    assert "nodeName" not in (await pod(cluster, "a", schedulerName="mine"))["spec"]


@pytest.mark.parametrize(
    ("text", "value"), [("100m", "0.1"), ("2", "2"), ("1.5", "1.5"), ("1Ki", "1024"), ("2G", "2000000000")]
)
def test_quantities(text: str, value: str) -> None:
    assert str(quantity(text).normalize()) == str(quantity(value).normalize())


@pytest.mark.parametrize("text", ["", "abc", "1x", "--1"])
def test_bad_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="no resource quantity"):
        quantity(text)


@pytest.mark.parametrize(
    ("expression", "labels", "holds"),
    [
        ({"key": "a", "operator": "In", "values": ["1"]}, {"a": "1"}, True),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, {}, True),
        ({"key": "a", "operator": "Exists"}, {}, False),
        ({"key": "a", "operator": "DoesNotExist"}, {}, True),
        ({"key": "a", "operator": "Gt", "values": ["3"]}, {"a": "4"}, True),
        ({"key": "a", "operator": "Lt", "values": ["3"]}, {"a": "x"}, False),
    ],
)
def test_node_affinity(expression: Object, labels: dict[str, str], holds: bool) -> None:
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    spec = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}
    assert placement.selects_node(spec, {"metadata": {"name": "n", "labels": labels}}) is holds
