"""Budgets, evictions that ask them, and Endpoints that somebody wrote by hand."""

from __future__ import annotations

import pytest
from unit.kubelab.controllers.cluster import Cluster, Object, deployment

from kubelab.apiserver.errors import InternalError, TooManyRequests
from kubelab.apiserver.evictions import evict

BUDGETS, SLICES = "poddisruptionbudgets.policy", "endpointslices.discovery.k8s.io"


async def budget(cluster: Cluster, name: str = "web", **spec: object) -> None:
    body = {"selector": {"matchLabels": {"app": "web"}}, **spec}
    await cluster.store.create(BUDGETS, {"metadata": {"name": name}, "spec": body}, namespace="default")
    await cluster.settle()


def status(cluster: Cluster) -> Object:
    return (cluster.store.peek(BUDGETS, "web", namespace="default") or {})["status"]


async def web(cluster: Cluster, replicas: int) -> list[str]:
    await cluster.node("n1")
    await cluster.store.create("deployments.apps", deployment("web", replicas))
    await cluster.roll()
    return sorted(pod["metadata"]["name"] for pod in cluster.pods(app="web"))


async def test_an_eviction_takes_from_the_budget(cluster: Cluster) -> None:
    names = await web(cluster, 3)
    await budget(cluster, minAvailable=2)
    found = status(cluster)
    assert [found[name] for name in ("expectedPods", "currentHealthy", "desiredHealthy", "disruptionsAllowed")] == [
        3, 3, 2, 1]  # fmt: skip
    assert found["conditions"][0]["reason"] == "SufficientPods"
    await evict(cluster.store, "default", names[0], dry_run=True)
    await evict(cluster.store, "default", names[0])
    # Also in the same moment, before any controller has run.
    with pytest.raises(TooManyRequests) as refused:
        await evict(cluster.store, "default", names[1])
    assert refused.value.message == "Cannot evict pod as it would violate the pod's disruption budget."
    text = "The disruption budget web needs 2 healthy pods and has 3 currently"
    assert [(cause.reason, cause.message) for cause in refused.value.causes] == [("DisruptionBudget", text)]
    await cluster.settle()
    assert (status(cluster)["disruptionsAllowed"], "disruptedPods" in status(cluster)) == (0, False)
    victim = cluster.store.peek("pods", names[0], namespace="default") or {}
    assert victim["status"]["conditions"][-1]["reason"] == "EvictionByEvictionAPI"
    await cluster.roll()
    assert status(cluster)["disruptionsAllowed"] == 1


async def test_shares_are_of_what_is_wanted(cluster: Cluster) -> None:
    names = await web(cluster, 4)
    await budget(cluster, maxUnavailable="25%")
    assert (status(cluster)["desiredHealthy"], status(cluster)["disruptionsAllowed"]) == (3, 1)
    for name in names[:2]:
        await cluster.ready({"metadata": {"name": name, "namespace": "default"}}, False)
    await cluster.settle()
    assert (status(cluster)["currentHealthy"], status(cluster)["disruptionsAllowed"]) == (2, 0)
    # A pod that is not ready goes only while enough others are.
    with pytest.raises(TooManyRequests):
        await evict(cluster.store, "default", names[0])
    change = {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}
    await cluster.store.patch(BUDGETS, "web", change, namespace="default")
    await evict(cluster.store, "default", names[0])


async def test_two_budgets_are_one_too_many(cluster: Cluster) -> None:
    names = await web(cluster, 2)
    await budget(cluster, minAvailable=0)
    await budget(cluster, "second", minAvailable=0)
    with pytest.raises(InternalError, match="more than one PodDisruptionBudget"):
        await evict(cluster.store, "default", names[0])


async def test_a_user_taint_wears_patience_out(cluster: Cluster) -> None:
    body = deployment("web", 1)
    toleration = {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
    body["spec"]["template"]["spec"]["tolerations"] = [toleration]
    await cluster.node("n1")
    await cluster.store.create("deployments.apps", body)
    await cluster.roll()
    (pod,) = cluster.pods(app="web")
    await cluster.store.patch("nodes", "n1", {"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}})
    await cluster.settle()
    for seconds, gone in ((20, False), (9, False), (2, True)):  # the taint bears no time of its own
        cluster.pass_time(seconds)
        await cluster.settle()
        found = cluster.store.peek("pods", pod["metadata"]["name"], namespace="default") or {}
        assert ("deletionTimestamp" in found["metadata"]) is gone


async def test_endpoints_by_hand_are_mirrored(cluster: Cluster) -> None:
    service = {"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}}
    await cluster.store.create("services", service, namespace="default")
    subset = {
        "addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
        "notReadyAddresses": [{"ip": "192.0.2.2"}],
        "ports": [{"port": 5432}],
    }
    body = {"metadata": {"name": "db"}, "subsets": [subset]}
    await cluster.store.create("endpoints", body, namespace="default")
    await cluster.settle()

    def mirrored() -> dict[str, list[tuple[str, bool]]]:
        return {
            entry["addressType"]: [(e["addresses"][0], e["conditions"]["ready"]) for e in entry["endpoints"]]
            for entry in cluster.store.peek_all(SLICES)
        }

    assert mirrored() == {"IPv4": [("192.0.2.1", True), ("192.0.2.2", False)], "IPv6": [("2001:db8::1", True)]}
    found = cluster.store.peek("endpoints", "db", namespace="default") or {}
    await cluster.store.update("endpoints", {**found, "subsets": [{**subset, "notReadyAddresses": None}]})
    await cluster.settle()
    assert mirrored()["IPv4"] == [("192.0.2.1", True)]
    await cluster.store.delete("endpoints", "db", namespace="default")
    await cluster.settle()
    assert mirrored() == {}
