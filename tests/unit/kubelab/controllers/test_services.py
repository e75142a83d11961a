"""EndpointSlices and Endpoints of Services."""

from __future__ import annotations

from typing import Any

from unit.kubelab.controllers.cluster import Cluster, Object, deployment

from kubelab.controllers.network.endpoint_addresses import Backend, Port
from kubelab.controllers.network.endpoint_slices import plan

SLICES = "endpointslices.discovery.k8s.io"


def service(name: str, **spec: Any) -> Object:
    ports = [{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": ports, "ipFamilies": ["IPv4", "IPv6"], **spec},
    }


def slices(cluster: Cluster) -> dict[str, Object]:
    return {entry["addressType"]: entry for entry in cluster.store.peek_all(SLICES)}


async def test_slices_follow_pods_in_both_families(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create("services", service("web"))
    await cluster.settle()
    assert {family: found["endpoints"] for family, found in slices(cluster).items()} == {"IPv4": [], "IPv6": []}
    await cluster.store.create("deployments.apps", deployment("web", 2))
    await cluster.roll()
    found = slices(cluster)
    assert len(cluster.store.peek_all(SLICES)) == 2
    assert found["IPv4"]["ports"] == [{"name": "web", "port": 8080, "protocol": "TCP"}]
    assert len(found["IPv4"]["endpoints"]) == len(found["IPv6"]["endpoints"]) == 2
    first = found["IPv6"]["endpoints"][0]
    assert first["addresses"][0].startswith("fd00::")
    assert first["nodeName"] == "n1"
    assert first["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert found["IPv4"]["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert found["IPv4"]["metadata"]["ownerReferences"][0]["kind"] == "Service"


async def test_traffic_that_shall_stay_near_has_hints(cluster: Cluster) -> None:
    for name, zone in (("n1", "east"), ("n2", "")):
        await cluster.node(name)
        labels = {"topology.kubernetes.io/zone": zone} if zone else {}
        await cluster.store.patch("nodes", name, {"metadata": {"labels": labels}})
    await cluster.store.create("services", service("web", trafficDistribution="PreferClose"))
    await cluster.store.create("deployments.apps", deployment("web", 2))
    await cluster.roll()

    def hints() -> dict[str, Any]:
        return {one["nodeName"]: one.get("hints") for one in slices(cluster)["IPv4"]["endpoints"]}

    async def wishes(what: str | None) -> None:
        await cluster.store.patch("services", "web", {"spec": {"trafficDistribution": what}}, namespace="default")
        await cluster.settle()

    east = {"forZones": [{"name": "east"}]}
    assert hints() == {"n1": east, "n2": None}
    await wishes("PreferSameNode")
    assert hints() == {"n1": {"forNodes": [{"name": "n1"}], **east}, "n2": {"forNodes": [{"name": "n2"}]}}
    (away,) = [pod for pod in cluster.pods(app="web") if pod["spec"]["nodeName"] == "n2"]
    await cluster.ready(away, False)
    await cluster.settle()
    assert hints()["n2"] is None
    await wishes(None)
    assert hints() == {"n1": None, "n2": None}


async def test_readiness_termination_and_deletion(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create("services", service("web"))
    await cluster.store.create("deployments.apps", deployment("web", 1))
    await cluster.roll()
    (pod,) = cluster.pods(app="web")
    await cluster.ready(pod, False)
    await cluster.settle()
    endpoints = cluster.store.peek("endpoints", "web", namespace="default") or {}
    assert [list(subset) for subset in endpoints["subsets"]] == [["notReadyAddresses", "ports"]]
    assert slices(cluster)["IPv4"]["endpoints"][0]["conditions"]["ready"] is False
    await cluster.ready(pod, True)
    await cluster.store.delete("pods", pod["metadata"]["name"], namespace="default")
    await cluster.settle()
    terminating = {"ready": False, "serving": True, "terminating": True}
    assert terminating in [entry["conditions"] for entry in slices(cluster)["IPv4"]["endpoints"]]
    await cluster.roll()
    assert len(slices(cluster)["IPv4"]["endpoints"]) == 1
    await cluster.store.delete("services", "web", namespace="default")
    await cluster.settle()
    assert cluster.store.peek_all(SLICES) == []
    assert cluster.store.peek_all("endpoints") == []


async def test_services_without_selector_are_left_alone(cluster: Cluster) -> None:
    await cluster.store.create("services", service("web", selector=None))
    await cluster.settle()
    assert cluster.store.peek_all(SLICES) == []


async def test_a_deleted_slice_comes_back(cluster: Cluster) -> None:
    await cluster.store.create("services", service("web", ipFamilies=["IPv6"], clusterIP="None"))
    await cluster.settle()
    (old,) = cluster.store.peek_all(SLICES)
    assert old["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    await cluster.store.delete(SLICES, old["metadata"]["name"], namespace="default")
    await cluster.settle()
    (new,) = cluster.store.peek_all(SLICES)
    assert new["addressType"] == "IPv6"


def backend(number: int, port: int = 80) -> Backend:
    return Backend(
        family="IPv4",
        address=f"10.0.{number // 250}.{number % 250}",
        ports=(Port("web", "TCP", port),),
        pod=f"p{number}",
        uid=f"u{number}",
        node="n1",
        ready=True,
        serving=True,
        terminating=False,
    )


def stored(objects: list[Object]) -> list[Object]:
    return [{**entry, "metadata": {**entry["metadata"], "name": f"s{number}"}} for number, entry in enumerate(objects)]


def test_plan_splits_and_keeps_endpoints_where_they_are() -> None:
    owner = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "1"},
        "spec": {},
    }
    backends = [backend(number) for number in range(250)]
    first = plan(owner, backends, [], {})
    assert [len(entry["endpoints"]) for entry in first.create] == [100, 100, 50]
    present = stored(first.create)
    assert plan(owner, backends, present, {}).update == []
    fewer = plan(owner, backends[1:], present, {})
    assert [entry["metadata"]["name"] for entry in fewer.update] == ["s0"]
    gap = stored(first.create)
    gap[0]["endpoints"] = gap[0]["endpoints"][1:]
    refilled = plan(owner, backends, gap, {})
    assert (len(refilled.update), refilled.create, refilled.delete) == (1, [], [])
    ports = plan(owner, [backend(1, 81)], present, {})
    assert (sorted(ports.delete), len(ports.create)) == (["s0", "s1", "s2"], 1)
    nobody = plan(owner, [], present, {})
    assert len(nobody.delete) == 3
    assert [entry["endpoints"] for entry in nobody.create] == [[]]
