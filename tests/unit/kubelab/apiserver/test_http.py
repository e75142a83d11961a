"""The HTTP surface: identity, forms of answers, pages, watches, errors."""

import asyncio

import aiohttp
import pytest
from unit.kubelab.apiserver.wire import CONFIG_MAPS, MERGE, body, context, make, read_events

from kubelab.apiserver.strategies.definitions import CRDS

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


async def test_health_says_each_check_when_it_is_asked_to(server, tmp_path):
    connector = aiohttp.TCPConnector(ssl=context(server, tmp_path, known=False))
    async with aiohttp.ClientSession(server.url, connector=connector) as stranger:
        async with stranger.get("/readyz?verbose&exclude=log") as answer:
            lines = (await answer.text()).splitlines()
        assert lines[:2] == ["[+]ping ok", "[+]log excluded: ok"]
        assert lines[-1] == "readyz check passed"
        for path, status in (("/livez/ping", 200), ("/livez/", 200), ("/livez/nosuch", 404)):
            async with stranger.get(path) as answer:
                assert answer.status == status, path


async def test_strangers_see_health_and_version_only(server, tmp_path):
    connector = aiohttp.TCPConnector(ssl=context(server, tmp_path, known=False))
    async with aiohttp.ClientSession(server.url, connector=connector) as stranger:
        for path in ("/healthz", "/readyz", "/livez", "/version"):
            async with stranger.get(path) as response:
                assert response.status == 200
        refused = await body(stranger, "GET", "/api/v1/namespaces", status=401)
        assert refused["kind"] == "Status"
        assert refused["reason"] == "Unauthorized"
        await body(stranger, "GET", "/openapi/v2", status=401)


async def test_what_was_read_can_be_written_to_a_subresource_and_again(http):
    """`kubectl replace --raw .../finalize` and `kubectl certificate approve` send back all that they were given."""
    name = "/api/v1/namespaces/stuck"
    made = await body(http, "POST", "/api/v1/namespaces", json={"metadata": {"name": "stuck"}}, status=201)
    assert made["metadata"]["managedFields"]
    final = {**made, "spec": {"finalizers": ["example.com/mine", "kubernetes"]}}
    after = await body(http, "PUT", f"{name}/finalize", json=final)
    assert after["spec"] == final["spec"]
    patch = {"metadata": {"labels": {"a": "b"}}}
    patched = await body(http, "PATCH", name, json=patch, headers=MERGE)
    assert (patched["metadata"]["labels"]["a"], patched["spec"]) == ("b", final["spec"])


async def test_the_service_kubernetes_is_there_again_when_it_was_deleted(http):
    services = "/api/v1/namespaces/default/services"
    before = await body(http, "GET", f"{services}/kubernetes")
    await body(http, "DELETE", f"{services}/kubernetes")
    after = await body(http, "GET", f"{services}/kubernetes")
    assert after["spec"] == before["spec"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


async def test_both_families_are_served(server, tmp_path):
    host, port = server.addresses[1]
    connector = aiohttp.TCPConnector(ssl=context(server, tmp_path))
    async with aiohttp.ClientSession(f"https://[{host}]:{port}", connector=connector) as session:
        assert (await body(session, "GET", "/api"))["versions"] == ["v1"]


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/api/v1/nothing", 404, "NotFound"),
        ("GET", "/apis/apps/v9/deployments", 404, "NotFound"),
        ("GET", "/nowhere", 404, "NotFound"),
        ("GET", "/api/v1/pods/x", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/nodes", 404, "NotFound"),
        ("GET", CONFIG_MAPS + "/absent", 404, "NotFound"),
        ("GET", CONFIG_MAPS + "/absent/status", 404, "NotFound"),
        ("PUT", CONFIG_MAPS, 405, "MethodNotAllowed"),
        ("POST", CONFIG_MAPS, 415, "UnsupportedMediaType"),
        ("GET", CONFIG_MAPS + "?labelSelector=a%20b%20c", 400, "BadRequest"),
        ("GET", CONFIG_MAPS + "?watch=1&resourceVersion=abc", 400, "BadRequest"),
        ("DELETE", CONFIG_MAPS + "/absent?propagationPolicy=Sideways", 422, "Invalid"),
    ],
)
async def test_errors_are_status_objects(http, method, path, status, reason):
    refused = await body(http, method, path, status=status)
    assert (refused["kind"], refused["status"], refused["code"]) == ("Status", "Failure", status)
    assert refused["reason"] == reason
    assert refused["message"]


async def test_a_body_that_is_too_large_is_refused_and_the_server_lives(http):
    async with http.post(CONFIG_MAPS, data=b" " * (9 << 20), headers={"Content-Type": "application/json"}) as response:
        assert response.status == 413
    await make(http, "a")


async def test_unknown_fields_warn_or_refuse_as_asked(http):
    wrong = {"metadata": {"name": "c"}, "dat": {"a": "b"}}
    refused = await body(http, "POST", CONFIG_MAPS + "?fieldValidation=Strict", status=400, json=wrong)
    assert 'unknown field "dat"' in refused["message"]
    async with http.post(CONFIG_MAPS + "?fieldValidation=Warn", json=wrong) as response:
        assert response.status == 201
        assert response.headers["Warning"] == '299 - "unknown field \\"dat\\""'


async def test_versions_that_should_not_be_used_any_more_warn(http, server):
    async with http.get("/api/v1/namespaces/default/endpoints") as response:
        expected = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
        assert response.headers["Warning"] == f'299 - "{expected}"'
    schema = {"openAPIV3Schema": {"type": "object"}}
    versions = [
        {"name": "v1", "served": True, "storage": True, "schema": schema},
        {"name": "v1beta1", "served": True, "storage": False, "schema": schema, "deprecated": True},
        {"name": "v1alpha1", "served": True, "storage": False, "schema": schema, "deprecated": True,
         "deprecationWarning": "use v1"},
    ]  # fmt: skip
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    spec = {"group": "demo.io", "scope": "Cluster", "names": names, "versions": versions}
    await server.store.create(CRDS, {"metadata": {"name": "widgets.demo.io"}, "spec": spec})
    for version, warning in (
        ("v1", None),
        ("v1beta1", '299 - "demo.io/v1beta1 Widget is deprecated; use demo.io/v1 Widget"'),
        ("v1alpha1", '299 - "use v1"'),
    ):
        async with http.get(f"/apis/demo.io/{version}/widgets") as response:
            assert response.headers.get("Warning") == warning


async def test_collections_are_deleted_by_selector(http):
    await make(http, "a", "b", "c")
    await body(http, "DELETE", CONFIG_MAPS + "?labelSelector=n+in+(a,c)")
    left = await body(http, "GET", CONFIG_MAPS)
    assert [o["metadata"]["name"] for o in left["items"]] == ["b"]


async def test_metadata_only(http):
    await make(http, "a")
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    listed = await body(http, "GET", CONFIG_MAPS, headers=accept)
    assert listed["kind"] == "PartialObjectMetadataList"
    assert set(listed["items"][0]) == {"kind", "apiVersion", "metadata"}


async def test_a_watch_as_table_prints_headers_once(http):
    async with http.get(CONFIG_MAPS + "?watch=1", headers=TABLE) as response:
        await make(http, "a", "b")
        first, second = await read_events(response, 2)
    assert first["object"]["kind"] == "Table"
    assert [c["name"] for c in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert second["object"]["columnDefinitions"] is None
    assert second["object"]["rows"][0]["cells"][:2] == ["b", 0]


async def test_a_watch_from_the_future_or_forgotten_past_is_told_so(http, server):
    async with http.get(CONFIG_MAPS + f"?watch=1&resourceVersion={server.store.version + 99}") as response:
        (event,) = await read_events(response, 1)
        assert await response.content.read() == b""
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_watches_end_by_time_by_client_and_with_the_server(http, server, tmp_path):
    async with asyncio.timeout(20):
        version = server.store.version
        async with http.get(f"{CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}") as timed:
            assert await timed.content.read() == b""
        gone = await http.get(CONFIG_MAPS + "?watch=1&fieldSelector=metadata.name=x")
        stays = await http.get(CONFIG_MAPS + "?watch=1")
        await make(http, "a")
        await read_events(stays, 1)
        gone.close()
        while len(server.store.watchers("configmaps")) > 1:  # noqa: ASYNC110 - only the loop sees a connection close
            await asyncio.sleep(0)
        await server.stop()
        assert await stays.content.read() == b""


async def test_discovery_in_both_forms(http):
    classic = await body(http, "GET", "/apis/apps/v1")
    names = {r["name"] for r in classic["resources"]}
    assert {"deployments", "deployments/scale", "deployments/status", "daemonsets"} <= names
    assert "daemonsets/scale" not in names
    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    async with http.get("/apis", headers=accept) as response:
        assert "APIGroupDiscoveryList" in response.headers["Content-Type"]
        tag = response.headers["ETag"]
    async with http.get("/apis", headers={**accept, "If-None-Match": tag}) as response:
        assert response.status == 304


async def test_scale_binding_and_eviction(http, server):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    path = "/apis/apps/v1/namespaces/default/deployments"
    await body(http, "POST", path, status=201, json=deployment)
    scale = await body(http, "GET", path + "/d/scale")
    assert (scale["spec"]["replicas"], scale["status"]["selector"]) == (1, "a=b")
    await body(http, "PATCH", path + "/d/scale", json={"spec": {"replicas": 4}}, headers=MERGE)
    assert server.store.peek("deployments.apps", "d", namespace="default")["spec"]["replicas"] == 4
    refused = await body(http, "PATCH", path + "/d/scale", status=422, json={"spec": {"replicas": -1}}, headers=MERGE)
    assert refused["details"]["causes"][0]["field"] == "spec.replicas"

    pods = "/api/v1/namespaces/default/pods"
    await body(http, "POST", pods, status=201, json={"metadata": {"name": "p"}, "spec": template["spec"]})
    await body(http, "POST", pods + "/p/binding", status=201, json={"target": {"kind": "Node", "name": "n1"}})
    pod = await body(http, "GET", pods + "/p")
    assert pod["spec"]["nodeName"] == "n1"
    assert pod["status"]["conditions"][0]["type"] == "PodScheduled"
    again = await body(http, "POST", pods + "/p/binding", status=409, json={"target": {"name": "n2"}})
    assert "already assigned to node 'n1'" in again["message"]
    await body(http, "POST", pods + "/p/eviction", status=201, json={"metadata": {"name": "p"}})
    assert "deletionTimestamp" in (await body(http, "GET", pods + "/p"))["metadata"]


async def test_reviews_answer_and_store_nothing(http, server):
    base = "/apis/authentication.k8s.io/v1"
    me = await body(http, "POST", f"{base}/selfsubjectreviews", status=201, json={})
    assert me["status"]["userInfo"] == {"username": "admin", "groups": ["system:masters", "system:authenticated"]}
    refused = await body(http, "POST", f"{base}/tokenreviews", status=201, json={"spec": {"token": "a.b.c"}})
    assert "invalid bearer token" in refused["status"]["error"]
    assert not refused["status"].get("authenticated")
    access = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    spec = {"resourceAttributes": {"verb": "get", "resource": "pods"}}
    assert (await body(http, "POST", access, status=201, json={"spec": spec}))["status"] == {"allowed": True}
    await body(http, "POST", access, status=422, json={"spec": {}})
    await body(http, "GET", access, status=405)
    assert server.store.peek_all("tokenreviews.authentication.k8s.io") == []
