"""The scheduler's filters, its choice, and what it says when there is none."""

from __future__ import annotations

from typing import Any

import pytest
from unit.kubelab.controllers.cluster import Cluster, Object, deployment

from kubelab.controllers.scheduling import fit, placement
from kubelab.quantities import quantity


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
    assert refusal(await pod(cluster, "a")) == "no nodes available to schedule pods"
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
    assert "1 node(s) had untolerated taint(s)" in message
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


async def labelled(cluster: Cluster, zones: dict[str, str]) -> None:
    for name, zone in zones.items():
        await cluster.node(name)
        await cluster.store.patch("nodes", name, {"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}})
    await cluster.settle()


def homes(cluster: Cluster, **labels: str) -> list[str]:
    return sorted(pod["spec"].get("nodeName", "") for pod in cluster.pods(**labels))


async def test_replicas_spread_over_zones_and_nodes(cluster: Cluster) -> None:
    await labelled(cluster, {"n1": "a", "n2": "a", "n3": "b"})
    await cluster.store.create("deployments.apps", deployment("web", 4))
    await cluster.roll()
    assert homes(cluster, app="web") == ["n1", "n2", "n3", "n3"]


async def test_spread_constraints(cluster: Cluster) -> None:
    await labelled(cluster, {"n1": "a", "n2": "b"})
    await cluster.node("n3")  # in no zone
    await cluster.store.patch("nodes", "n2", {"spec": {"unschedulable": True}})
    constraint = {
        "topologyKey": "topology.kubernetes.io/zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "db"}},
    }
    first = await pod(cluster, "a", {"app": "db"}, topologySpreadConstraints=[constraint])
    assert first["spec"]["nodeName"] == "n1"
    text = refusal(await pod(cluster, "b", {"app": "db"}, topologySpreadConstraints=[constraint]))
    assert "1 node(s) didn't match pod topology spread constraints (missing required label)" in text
    assert "1 node(s) didn't match pod topology spread constraints," in text
    await cluster.store.patch("nodes", "n2", {"spec": {"unschedulable": None}})
    await cluster.settle()
    assert (cluster.store.peek("pods", "b", namespace="default") or {})["spec"]["nodeName"] == "n2"


async def test_preferences_count(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.node("n2", taints=[{"key": "old", "effect": "PreferNoSchedule"}])
    await cluster.node("n3")
    assert [(await pod(cluster, name))["spec"]["nodeName"] for name in "abcd"].count("n2") == 0
    wish = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n3"]}]}
    near = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": wish}]}}
    assert [(await pod(cluster, name, affinity=near))["spec"]["nodeName"] for name in "ef"] == ["n3", "n3"]
    await pod(cluster, "cache", {"app": "cache"}, nodeName="n1")
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "cache"}}}
    friend = {"weight": 50, "podAffinityTerm": term}
    company = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [friend]}}
    assert [(await pod(cluster, name, affinity=company))["spec"]["nodeName"] for name in "gh"] == ["n1", "n1"]


async def test_preemption_takes_the_least(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.node("n2")

    def asks(cpu: str) -> list[Object]:
        return [{"name": "main", "image": "none", "resources": {"requests": {"cpu": cpu}}}]

    await pod(cluster, "low", containers=asks("1500m"), priority=1, nodeName="n1")
    await pod(cluster, "middle", containers=asks("1500m"), priority=5, nodeName="n2")
    await pod(cluster, "bystander", containers=asks("100m"), priority=1, nodeName="n1")
    polite = await pod(cluster, "polite", containers=asks("1"), priority=9, preemptionPolicy="Never")
    assert "preemption: not eligible due to preemptionPolicy=Never." in refusal(polite)
    await cluster.store.delete("pods", "polite", namespace="default", grace_seconds=0)
    high = await pod(cluster, "high", containers=asks("1"), priority=9)
    assert high["status"]["nominatedNodeName"] == "n1"
    assert refusal(high) == "0/2 nodes are available: 2 Insufficient cpu."
    ending = [entry["metadata"]["name"] for entry in cluster.pods() if "deletionTimestamp" in entry["metadata"]]
    assert ending == ["low"]
    await cluster.run_pods()
    await cluster.settle()
    placed = cluster.store.peek("pods", "high", namespace="default") or {}
    assert placed["spec"]["nodeName"] == "n1"
    assert "nominatedNodeName" not in placed["status"]


async def test_preemption_spares_what_a_budget_protects(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.node("n2")
    requests = [{"name": "main", "image": "none", "resources": {"requests": {"cpu": "1500m"}}}]
    budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}}}
    await cluster.store.create("poddisruptionbudgets.policy", budget, namespace="default")
    body = {"metadata": {"name": "kept", "labels": {"app": "kept"}}, "spec": {"containers": requests, "priority": 1}}
    await cluster.store.create("pods", {**body, "spec": {**body["spec"], "nodeName": "n1"}}, namespace="default")
    await pod(cluster, "open", containers=requests, priority=5, nodeName="n2")
    await cluster.roll()
    assert (await pod(cluster, "high", containers=requests, priority=9))["status"]["nominatedNodeName"] == "n2"
    # Another one has no choice.
    other = await pod(cluster, "other", containers=requests, priority=9)
    assert other["status"]["nominatedNodeName"] == "n1"


async def test_gates_and_hopeless_pods(cluster: Cluster) -> None:
    await cluster.node("n1")
    gated = await pod(cluster, "a", schedulingGates=[{"name": "example.com/wait"}])
    (condition,) = gated["status"]["conditions"]
    assert (condition["reason"], condition["status"]) == ("SchedulingGated", "False")
    await cluster.store.patch("pods", "a", {"spec": {"schedulingGates": None}}, namespace="default")
    await cluster.settle()
    assert (cluster.store.peek("pods", "a", namespace="default") or {})["spec"]["nodeName"] == "n1"
    text = refusal(await pod(cluster, "b", nodeSelector={"x": "y"}))
    assert text == (
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, "
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )


def test_requests_of_init_containers_and_sidecars() -> None:
    def asks(cpu: str, **more: Any) -> Object:
        return {"name": cpu, "resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "containers": [asks("1"), asks("500m")],
        "initContainers": [asks("200m", restartPolicy="Always"), asks("3")],
        "overhead": {"cpu": "100m"},
    }
    assert fit.requests_of({"spec": spec})["cpu"] == quantity("3300m")  # the sidecar, the largest, the overhead


async def test_room_that_was_made_is_kept(cluster: Cluster) -> None:
    await cluster.node("n1")
    low = deployment("low", 1)
    low["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1500m"}}
    await cluster.store.create("deployments.apps", low)
    await cluster.roll()
    big = [{"name": "main", "image": "none", "resources": {"requests": {"cpu": "1500m"}}}]
    await pod(cluster, "high", containers=big, priority=9)
    await cluster.roll()  # the victim's successor waits, too
    assert (cluster.store.peek("pods", "high", namespace="default") or {})["spec"]["nodeName"] == "n1"
    assert homes(cluster, app="low") == [""]
    events = [event for event in cluster.store.peek_all("events") if event["reason"] == "Preempted"]
    assert [event["count"] for event in events] == [1]
