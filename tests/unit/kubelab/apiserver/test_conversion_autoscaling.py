"""HorizontalPodAutoscalers in autoscaling/v1 and v2 are the same objects."""

import json

from unit.kubelab.apiserver.wire import MERGE, body

OLD, NEW = (f"/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers" for version in ("v1", "v2"))
REFERENCE = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}
ALPHA = "autoscaling.alpha.kubernetes.io/"


async def test_an_old_client_scales_by_cpu(http):
    spec = {"scaleTargetRef": REFERENCE, "maxReplicas": 5, "targetCPUUtilizationPercentage": 60}
    made = await body(http, "POST", OLD, status=201, json={"metadata": {"name": "a"}, "spec": spec})
    assert (made["apiVersion"], made["spec"]) == ("autoscaling/v1", {**spec, "minReplicas": 1})
    new = await body(http, "GET", f"{NEW}/a")
    assert (new["apiVersion"], new["spec"]["metrics"]) == ("autoscaling/v2", [CPU])
    assert "targetCPUUtilizationPercentage" not in new["spec"]
    change = {"spec": {"targetCPUUtilizationPercentage": 30, "maxReplicas": 9}}
    await body(http, "PATCH", f"{OLD}/a", json=change, headers=MERGE)
    new = await body(http, "GET", f"{NEW}/a")
    assert new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 30
    assert new["spec"]["maxReplicas"] == 9
    plain = await body(http, "POST", OLD, status=201, json={
        "metadata": {"name": "b"}, "spec": {"scaleTargetRef": REFERENCE, "maxReplicas": 5}})  # fmt: skip
    assert plain["spec"]["targetCPUUtilizationPercentage"] == 80
    listed = await body(http, "GET", OLD)
    assert (listed["kind"], len(listed["items"])) == ("HorizontalPodAutoscalerList", 2)
    twice = await body(http, "POST", OLD, status=409, json={"metadata": {"name": "a"}, "spec": spec})
    assert twice["message"] == 'horizontalpodautoscalers.autoscaling "a" already exists'


async def test_an_old_client_loses_nothing_that_it_does_not_know(http):
    memory = {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}
    queue = {"name": "queue", "selector": {"matchLabels": {"a": "b"}}}
    metrics = [
        {"type": "Resource", "resource": memory},
        {"type": "External", "external": {"metric": queue, "target": {"type": "Value", "value": "30"}}},
        {"type": "Object", "object": {
         "metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "2"},
         "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "s"}}},
        {"type": "ContainerResource", "containerResource": {**CPU["resource"], "container": "c"}},
        CPU,
    ]  # fmt: skip
    policy = {"type": "Pods", "value": 2, "periodSeconds": 60}
    behavior = {"scaleDown": {"policies": [policy], "selectPolicy": "Min", "stabilizationWindowSeconds": 10}}
    spec = {"scaleTargetRef": REFERENCE, "maxReplicas": 5, "metrics": metrics, "behavior": behavior}
    before = await body(http, "POST", NEW, status=201, json={"metadata": {"name": "a"}, "spec": spec})
    condition = {"type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale", "message": "fine"}
    current = {
        "type": "Resource",
        "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "7m"}},
    }
    status = {"desiredReplicas": 1, "currentReplicas": 1, "conditions": [condition], "currentMetrics": [current]}
    await body(http, "PATCH", f"{NEW}/a/status", json={"status": status}, headers=MERGE)
    old = await body(http, "GET", f"{OLD}/a")
    assert old["spec"]["targetCPUUtilizationPercentage"] == 60
    assert old["status"]["currentCPUUtilizationPercentage"] == 7
    notes = {name.removeprefix(ALPHA): json.loads(text) for name, text in old["metadata"]["annotations"].items()}
    assert notes["metrics"][0] == {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}
    assert notes["metrics"][1]["external"] == {
        "metricName": "queue", "metricSelector": {"matchLabels": {"a": "b"}}, "targetValue": "30"
    }  # fmt: skip
    assert notes["behavior"]["ScaleDown"]["Policies"] == [{"Type": "Pods", "Value": 2, "PeriodSeconds": 60}]
    assert notes["conditions"][0]["reason"] == "ReadyForNewScale"
    old["spec"]["maxReplicas"] = 7
    await body(http, "PUT", f"{OLD}/a", json=old)
    after = await body(http, "GET", f"{NEW}/a")
    assert after["spec"] == {**before["spec"], "maxReplicas": 7}
    assert after["status"]["conditions"] == [condition]
    assert "annotations" not in after["metadata"]
