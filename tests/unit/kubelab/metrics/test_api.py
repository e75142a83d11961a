"""metrics.k8s.io over HTTP, of a kubelet that says what the test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from unit.kubelab.apiserver.wire import body, context

from kubelab.apiserver.computed import API_SERVICES
from kubelab.apiserver.kubelets import SOCKET_ANNOTATION
from kubelab.apiserver.server import ApiServer
from kubelab.metrics.api import NodeMetrics, PodMetrics
from kubelab.metrics.collector import FRESHNESS, Collector

NODES = "/apis/metrics.k8s.io/v1beta1/nodes"
PODS = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods"
API_SERVICE = {
    "metadata": {"name": "v1beta1.metrics.k8s.io"},
    "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100},
}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


class Kubelet:
    """Answers /stats/summary; `spent` is CPU seconds of everything."""

    def __init__(self) -> None:
        self.now, self.spent, self.asked, self.away = 1000.0, 1.0, 0, False
        self.node: dict[str, Any] = {}

    def clock(self) -> float:
        return self.now

    def passes(self, seconds: float, spent: float) -> None:
        self.now, self.spent = self.now + seconds, self.spent + spent

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.away:
            raise web.HTTPServiceUnavailable
        used = {"cpu": {"usageCoreNanoSeconds": int(self.spent * 1e9)}, "memory": {"workingSetBytes": 2048 * 1024}}
        pod = {"podRef": {"namespace": "default", "name": "web"}, "containers": [{"name": "c", **used}]}
        return web.json_response({"node": {**used, **self.node}, "pods": [pod]})


@pytest.fixture
async def kubelet(tmp_path: Path) -> AsyncIterator[Kubelet]:
    made = Kubelet()
    application = web.Application()
    application.router.add_get("/stats/summary", made.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "kubelet.sock")).start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def server(tmp_path: Path, kubelet: Kubelet) -> AsyncIterator[ApiServer]:
    made = ApiServer(data_dir=tmp_path / "data")
    collector = Collector(made.store, made.kubelets, clock=kubelet.clock)
    made.computed.add(NodeMetrics(made.store, collector))
    made.computed.add(PodMetrics(made.store, collector))
    async with made:
        annotations = {SOCKET_ANNOTATION: str(tmp_path / "kubelet.sock")}
        await made.store.create("nodes", {"metadata": {"name": "n1", "annotations": annotations}})
        await made.store.create(API_SERVICES, API_SERVICE)
        yield made


@pytest.fixture
async def http(server: ApiServer, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=context(server, tmp_path))
    async with aiohttp.ClientSession(server.url, connector=connector) as session:
        yield session


async def _run_pod(server: ApiServer, phase: str = "Running") -> None:
    spec = {"containers": [{"name": "c", "image": "x"}], "nodeName": "n1"}
    pod: dict[str, Any] = {"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": spec}
    await server.store.create("pods", pod, namespace="default")
    await server.store.patch("pods", "web", {"status": {"phase": phase}}, namespace="default", subresource="status")


async def test_use_is_known_from_the_second_look_on(
    server: ApiServer, http: aiohttp.ClientSession, kubelet: Kubelet
) -> None:
    await _run_pod(server)
    assert (await body(http, "GET", NODES))["items"] == []
    refused = await body(http, "GET", f"{NODES}/n1", status=404)
    assert refused["message"] == 'nodemetrics.metrics.k8s.io "n1" not found'
    kubelet.passes(FRESHNESS + 5, spent=2.5)
    node = await body(http, "GET", f"{NODES}/n1")
    assert node["kind"] == "NodeMetrics"
    assert (node["usage"], node["window"]) == ({"cpu": "250000000n", "memory": "2048Ki"}, "10s")
    assert node["timestamp"] == "1970-01-01T00:16:50Z"
    listed = await body(http, "GET", f"{PODS}?labelSelector=app=web")
    assert (listed["kind"], listed["apiVersion"]) == ("PodMetricsList", "metrics.k8s.io/v1beta1")
    (pod,) = listed["items"]
    assert pod["containers"] == [{"name": "c", "usage": {"cpu": "250000000n", "memory": "2048Ki"}}]
    assert pod["metadata"]["labels"] == {"app": "web"}
    assert (await body(http, "GET", f"{PODS}?labelSelector=app=other"))["items"] == []
    table = await body(http, "GET", PODS, headers=TABLE)
    assert table["rows"][0]["cells"] == ["web", "250000000n", "2048Ki", "10s"]
    assert kubelet.asked == 2  # who asks again at once gets what is there


async def test_nobody_knows_what_does_not_run_or_does_not_answer(
    server: ApiServer, http: aiohttp.ClientSession, kubelet: Kubelet
) -> None:
    await _run_pod(server, phase="Pending")
    refused = await body(http, "GET", f"{PODS}/absent", status=404)
    assert refused["message"] == 'pods "default/absent" not found'
    for _ in range(2):
        kubelet.passes(FRESHNESS + 5, spent=1)
        refused = await body(http, "GET", f"{PODS}/web", status=404)
    assert refused["message"] == 'podmetrics.metrics.k8s.io "default/web" not found'
    assert len((await body(http, "GET", NODES))["items"]) == 1
    kubelet.away = True
    kubelet.passes(FRESHNESS + 5, spent=1)
    assert (await body(http, "GET", NODES))["items"] == []


async def test_a_node_that_is_nowhere_keeps_nobody_from_measuring_the_others(
    server: ApiServer, http: aiohttp.ClientSession, kubelet: Kubelet
) -> None:
    """Whoever writes Nodes must not end the collector, and with it the control plane."""
    addresses = [{"type": "InternalIP", "address": "a..b"}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}
    await server.store.create("nodes", {"metadata": {"name": "n0"}})
    await server.store.patch("nodes", "n0", {"status": status}, subresource="status")
    for _ in range(2):
        kubelet.passes(FRESHNESS + 5, spent=1)
        found = await body(http, "GET", NODES)
    assert [item["metadata"]["name"] for item in found["items"]] == ["n1"]


async def test_a_summary_that_makes_no_sense_is_none(
    server: ApiServer, http: aiohttp.ClientSession, kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubelet, "node", {"startTime": "yesterday"})
    kubelet.passes(FRESHNESS + 5, spent=1)
    assert (await body(http, "GET", NODES))["items"] == []


async def test_the_group_is_served_while_there_is_its_api_service(
    server: ApiServer, http: aiohttp.ClientSession
) -> None:
    async def groups() -> list[str]:
        return [group["name"] for group in (await body(http, "GET", "/apis"))["groups"]]

    assert "metrics.k8s.io" in await groups()
    await body(http, "POST", PODS, status=405, json={})
    await body(http, "GET", f"{PODS}?watch=1", status=405)
    document = await body(http, "GET", "/openapi/v3/apis/metrics.k8s.io/v1beta1")
    assert "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics" in document["components"]["schemas"]
    await server.store.delete(API_SERVICES, "v1beta1.metrics.k8s.io")
    assert "metrics.k8s.io" not in await groups()
    await body(http, "GET", NODES, status=404)
    await server.store.create(API_SERVICES, API_SERVICE)
    assert "metrics.k8s.io" in await groups()
