"""HorizontalPodAutoscalers over a store, with measurements that tests make up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from unit.kubelab.controllers.cluster import Cluster, deployment, template

from kubelab.apiserver.errors import NotFound
from kubelab.metrics.samples import PodUsage, Usage

AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
MIB = 1 << 20


class Measured:
    """Every pod uses the same: thousandths of a core, bytes."""

    def __init__(self) -> None:
        self.cpu, self.memory, self.served, self.at = 0, 10 * MIB, True, 0.0

    async def of_pods(self, pods: Sequence[dict[str, Any]]) -> Mapping[str, PodUsage]:
        if not self.served:
            raise NotFound("the server could not find the requested resource (get pods.metrics.k8s.io)")
        use = Usage(self.at, 15, self.cpu * 1_000_000, self.memory)
        running = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
        return {pod["metadata"]["name"]: PodUsage(self.at, 15, {"main": use}) for pod in running}


class Scaling:
    """A cluster with one node, a Deployment `web` and what measures it."""

    def __init__(self) -> None:
        self.measured = Measured()
        self.cluster = Cluster(metrics=self.measured)
        self.store = self.cluster.store

    async def autoscale(self, name: str = "web", **spec: Any) -> None:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        body = {"scaleTargetRef": target, "maxReplicas": 10, "metrics": [cpu(50)], **spec}
        await self.store.create(AUTOSCALERS, {"metadata": {"name": name}, "spec": body}, namespace="default")
        await self.cluster.settle()

    async def measures(self, cpu: int, *, after: float = 400) -> None:
        """Time passes, pods run, autoscalers look."""
        self.measured.cpu = cpu
        await self.cluster.roll()
        self.cluster.pass_time(after)
        self.measured.at = self.cluster.time.timestamp()
        await self.cluster.roll()

    @property
    def replicas(self) -> int:
        return int((self.store.peek("deployments.apps", "web", namespace="default") or {})["spec"]["replicas"])

    def status(self, name: str = "web") -> dict[str, Any]:
        return dict((self.store.peek(AUTOSCALERS, name, namespace="default") or {}).get("status") or {})

    def condition(self, kind: str, name: str = "web") -> tuple[str, str, str]:
        (found,) = [entry for entry in self.status(name).get("conditions", []) if entry["type"] == kind]
        return found["status"], found["reason"], found["message"]

    def events(self) -> list[tuple[str, str]]:
        found = self.store.peek_all("events", namespace="default")
        kinds = ("HorizontalPodAutoscaler",)
        return [(e["reason"], e["message"]) for e in found if e["involvedObject"]["kind"] in kinds]


def cpu(percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def value(resource: str, text: str) -> dict[str, Any]:
    return {
        "type": "Resource",
        "resource": {"name": resource, "target": {"type": "AverageValue", "averageValue": text}},
    }


@pytest.fixture
async def scaling() -> AsyncIterator[Scaling]:
    made = Scaling()
    await made.store.create("namespaces", {"metadata": {"name": "default"}})
    await made.cluster.node("n1")
    pods = template(app="web")
    pods["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    await made.store.create("deployments.apps", deployment("web", 2, template=pods), namespace="default")
    await made.cluster.roll()
    yield made
    for controller in made.cluster.manager.controllers:
        controller.queue.close()


async def test_more_use_means_more_pods_and_less_fewer(scaling: Scaling) -> None:
    await scaling.autoscale()
    await scaling.measures(100)
    assert scaling.replicas == 4
    assert (
        "SuccessfulRescale",
        "New size: 4; reason: cpu resource utilization (percentage of request) above target",
    ) in (scaling.events())
    status = scaling.status()
    assert status["currentReplicas"] == 2
    assert status["desiredReplicas"] == 4
    assert status["currentMetrics"][0]["resource"]["current"] == {"averageUtilization": 100, "averageValue": "100m"}
    assert status["lastScaleTime"]
    assert scaling.condition("AbleToScale")[1] == "SucceededRescale"
    assert scaling.condition("ScalingActive")[:2] == ("True", "ValidMetricFound")
    assert scaling.condition("ScalingLimited")[:2] == ("False", "DesiredWithinRange")
    await scaling.measures(5)
    assert scaling.replicas == 1
    assert ("SuccessfulRescale", "New size: 1; reason: All metrics below target") in scaling.events()


async def test_the_metric_that_asks_for_most_decides(scaling: Scaling) -> None:
    container = {"name": "cpu", "container": "main", "target": {"type": "Utilization", "averageUtilization": 100}}
    metrics = [cpu(100), value("memory", "4Mi"), {"type": "ContainerResource", "containerResource": container}]
    scaling.measured.served = False
    await scaling.autoscale(metrics=metrics)
    scaling.measured.served = True
    await scaling.measures(100)
    assert scaling.replicas == 4  # as the double is the most; memory asks for five
    assert scaling.condition("ScalingLimited")[:2] == ("True", "ScaleUpLimit")
    assert "calculate a replica count from memory resource" in scaling.condition("ScalingActive")[2]
    current = [
        next(iter(one[key] for key in one if key != "type"))["current"] for one in scaling.status()["currentMetrics"]
    ]
    assert current[1] == {"averageValue": "10485760"}
    assert current[2] == {"averageUtilization": 100, "averageValue": "100m"}


async def test_bounds_come_before_metrics(scaling: Scaling) -> None:
    scaling.measured.served = False
    await scaling.autoscale(minReplicas=3)
    assert scaling.replicas == 3
    assert ("SuccessfulRescale", "New size: 3; reason: Current number of replicas below Spec.MinReplicas") in (
        scaling.events()
    )
    await scaling.store.patch(AUTOSCALERS, "web", {"spec": {"minReplicas": 1, "maxReplicas": 2}}, namespace="default")
    await scaling.cluster.settle()
    assert scaling.replicas == 2
    await scaling.store.patch("deployments.apps", "web", {"spec": {"replicas": 0}}, namespace="default")
    await scaling.measures(100)
    assert scaling.replicas == 0
    assert scaling.condition("ScalingActive")[1] == "ScalingDisabled"


async def test_what_cannot_be_measured_is_told_and_changes_nothing(scaling: Scaling) -> None:
    scaling.measured.served = False
    await scaling.autoscale()
    await scaling.measures(100)
    why = (
        "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource "
        "metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
    )
    expected = ("False", "FailedGetResourceMetric", f"the HPA was unable to compute the replica count: {why}")
    assert scaling.condition("ScalingActive") == expected
    assert ("FailedGetResourceMetric", why) in scaling.events()
    text = f"invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {why}"
    assert ("FailedComputeMetricsReplicas", text) in scaling.events()
    assert scaling.replicas == 2


@pytest.mark.parametrize(
    ("metric", "reason", "words"),
    [
        (
            {"type": "Pods", "pods": {"metric": {"name": "rps"},
             "target": {"type": "AverageValue", "averageValue": "1k"}}},
            "FailedGetPodsMetric",
            "no custom metrics API (custom.metrics.k8s.io) registered",
        ),
        (
            {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}},
            "FailedGetExternalMetric",
            "the server could not find the requested resource (get queue.external.metrics.k8s.io)",
        ),
        (
            {"type": "Object", "object": {"metric": {"name": "hits"}, "target": {"type": "Value", "value": "30"},
             "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "s"}}},
            "FailedGetObjectMetric",
            "unable to get metric hits: Service on default s/unable to fetch metrics from custom metrics API",
        ),
    ],
)  # fmt: skip
async def test_metrics_that_nobody_serves(scaling: Scaling, metric: dict[str, Any], reason: str, words: str) -> None:
    await scaling.autoscale(metrics=[metric])
    await scaling.measures(100)
    assert scaling.condition("ScalingActive")[:2] == ("False", reason)
    assert words in scaling.condition("ScalingActive")[2]
    # Beside one that is known it does not keep pods from coming, but from going.
    await scaling.store.patch(AUTOSCALERS, "web", {"spec": {"metrics": [metric, cpu(50)]}}, namespace="default")
    await scaling.measures(5)
    assert scaling.replicas == 2
    await scaling.measures(100)
    assert scaling.replicas == 4


async def test_what_it_points_to_must_be_there_and_of_one_autoscaler(scaling: Scaling) -> None:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "absent"}
    await scaling.autoscale("lost", scaleTargetRef=reference)
    text = 'the HPA controller was unable to get the target\'s current scale: deployments.apps "absent" not found'
    assert scaling.condition("AbleToScale", "lost") == ("False", "FailedGetScale", text)
    await scaling.autoscale("wrong", scaleTargetRef={**reference, "kind": "DaemonSet"})
    assert scaling.condition("AbleToScale", "wrong")[1] == "FailedGetScale"
    await scaling.autoscale("one")
    await scaling.autoscale("two")
    await scaling.measures(100)
    assert scaling.condition("ScalingActive", "two")[1:] == (
        "AmbiguousSelector", "pods by selector app=web are controlled by multiple HPAs: [default/one default/two]"
    )  # fmt: skip
    assert scaling.replicas == 2
    await scaling.store.delete(AUTOSCALERS, "two", namespace="default")
    await scaling.measures(100)
    assert scaling.replicas == 4


@pytest.mark.parametrize(
    ("kind", "resource", "version"),
    [("ReplicationController", "replicationcontrollers", "v1"), ("StatefulSet", "statefulsets.apps", "apps/v1")],
)
async def test_whatever_has_a_scale_is_scaled(scaling: Scaling, kind: str, resource: str, version: str) -> None:
    pods = template(app="db")
    pods["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    selector = {"app": "db"} if kind == "ReplicationController" else {"matchLabels": {"app": "db"}}
    more = {"serviceName": "db", "podManagementPolicy": "Parallel"} if kind == "StatefulSet" else {}
    spec = {"replicas": 2, "selector": selector, "template": pods, **more}
    await scaling.store.create(resource, {"metadata": {"name": "db"}, "spec": spec}, namespace="default")
    await scaling.autoscale("db", scaleTargetRef={"apiVersion": version, "kind": kind, "name": "db"})
    await scaling.measures(100)
    assert (scaling.store.peek(resource, "db", namespace="default") or {})["spec"]["replicas"] == 4
    assert scaling.replicas == 2


async def test_its_own_status_is_no_reason_to_look_again(scaling: Scaling) -> None:
    scaling.measured.served = False
    await scaling.autoscale()
    await scaling.cluster.roll()
    counts = [
        event["count"] for event in scaling.store.peek_all("events") if event["reason"] == "FailedGetResourceMetric"
    ]
    assert counts == [1]
