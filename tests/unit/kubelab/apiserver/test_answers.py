"""The answers that clients see most, word for word as the real server gives them.

Source: kubernetes/kubernetes: apimachinery/pkg/api/errors, apiserver/pkg/endpoints/handlers, apiserver/pkg/admission.
"""

import json

import aiohttp
import pytest
from unit.kubelab.apiserver.wire import CONFIG_MAPS, MERGE, body, context

PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def status(code, reason, message, **details):
    """A Status as it goes over the wire."""
    shown = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return {**shown, "reason": reason, **({"details": details} if details else {}), "code": code}


async def test_there_is_one_already_and_there_is_none(http):
    await body(http, "POST", CONFIG_MAPS, status=201, json={"metadata": {"name": "a"}})
    again = await body(http, "POST", CONFIG_MAPS, status=409, json={"metadata": {"name": "a"}})
    assert again == status(409, "AlreadyExists", 'configmaps "a" already exists', name="a", kind="configmaps")
    none = await body(http, "GET", f"{DEPLOYMENTS}/a", status=404)
    missing = 'deployments.apps "a" not found'
    assert none == status(404, "NotFound", missing, name="a", group="apps", kind="deployments")
    unknown = status(404, "NotFound", "the server could not find the requested resource")
    for path in ("/api/v1/things", f"{PODS}/a/things", "/api/v1/pods/a", "/apis/nowhere.io/v1/things"):
        assert await body(http, "GET", path, status=404) == unknown
    nowhere = "/api/v1/namespaces/nowhere/configmaps"
    lost = await body(http, "POST", nowhere, status=404, json={"metadata": {"name": "a"}})
    assert lost == status(404, "NotFound", 'namespaces "nowhere" not found', name="nowhere", kind="namespaces")


async def test_somebody_was_faster(http):
    made = await body(http, "POST", CONFIG_MAPS, status=201, json={"metadata": {"name": "a"}})
    await body(http, "PATCH", f"{CONFIG_MAPS}/a", json={"data": {"k": "v"}}, headers=MERGE)
    late = await body(http, "PUT", f"{CONFIG_MAPS}/a", status=409, json=made)
    why = "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on configmaps "a": {why}'
    assert late == status(409, "Conflict", message, name="a", kind="configmaps")
    options = {"preconditions": {"uid": "x"}}
    other = await body(http, "DELETE", f"{CONFIG_MAPS}/a", status=409, json=options)
    uid = made["metadata"]["uid"]
    assert f"Precondition failed: UID in precondition: x, UID in object meta: {uid}" in other["message"]


async def test_faulty_fields_are_told_one_by_one(http):
    pod = {"metadata": {"name": "P"}, "spec": {"containers": [{"name": "c"}]}}
    two = await body(http, "POST", PODS, status=422, json=pod)
    assert two["message"].startswith(
        'Pod "P" is invalid: [metadata.name: Invalid value: "P": a lowercase RFC 1123 subd'
    )
    assert two["message"].endswith(", spec.containers[0].image: Required value]")
    assert {k: two["details"][k] for k in ("name", "kind")} == {"name": "P", "kind": "Pod"}
    image = {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers[0].image"}
    assert image in two["details"]["causes"]


async def test_what_may_not_change(server, http, pod):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    made = await server.store.create("deployments.apps", {"metadata": {"name": "d"}, "spec": spec}, namespace="default")
    patch = {"spec": {"selector": {"matchLabels": {"a": "c"}}, "template": {"metadata": {"labels": {"a": "c"}}}}}
    refused = await body(http, "PATCH", f"{DEPLOYMENTS}/d", status=422, json=patch, headers=MERGE)
    assert refused["message"] == (
        'Deployment.apps "d" is invalid: spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable'
    )
    assert made["metadata"]["generation"] == 1
    frozen = {"metadata": {"name": "f"}, "data": {"k": "v"}, "immutable": True}
    await body(http, "POST", CONFIG_MAPS, status=201, json=frozen)
    refused = await body(http, "PATCH", f"{CONFIG_MAPS}/f", status=422, json={"data": {"k": "w"}}, headers=MERGE)
    why = "data: Forbidden: field is immutable when `immutable` is set"
    assert refused["message"] == f'ConfigMap "f" is invalid: {why}'
    await server.store.create("pods", pod(), namespace="default")
    refused = await body(http, "PATCH", f"{PODS}/web", status=422, json={"spec": {"hostname": "x"}}, headers=MERGE)
    why = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    assert refused["message"].startswith(f'Pod "web" is invalid: {why}')


async def test_who_may_not(server, http, tmp_path):
    bob = {"Impersonate-User": "bob"}
    refused = await body(http, "GET", f"{PODS}/web", status=403, headers=bob)
    why = 'User "bob" cannot get resource "pods" in API group "" in the namespace "default"'
    assert refused == status(403, "Forbidden", f'pods "web" is forbidden: {why}', name="web", kind="pods")
    everywhere = await body(http, "GET", "/apis/apps/v1/deployments", status=403, headers=bob)
    why = 'User "bob" cannot list resource "deployments" in API group "apps" at the cluster scope'
    assert everywhere["message"] == f"deployments.apps is forbidden: {why}"
    expired, _ = server.tokens.issue(
        await server.store.get("serviceaccounts", "default", namespace="default"), seconds=-1
    )
    connector = aiohttp.TCPConnector(ssl=context(server, tmp_path, known=False))
    async with aiohttp.ClientSession(server.url, connector=connector) as stranger:
        answer = await body(stranger, "GET", PODS, status=401, headers={"Authorization": f"Bearer {expired}"})
    assert answer == status(401, "Unauthorized", "Unauthorized")


async def test_a_quota_is_used_up(server, http, pod):
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "1", "pods": "5"}}}
    await server.store.create("resourcequotas", quota, namespace="default")
    web = pod()
    refused = await body(http, "POST", PODS, status=403, json=web)
    assert refused["message"] == 'pods "web" is forbidden: failed quota: q: must specify requests.cpu for: main'
    web["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1500m"}}
    refused = await body(http, "POST", PODS, status=403, json=web)
    amounts = "requested: requests.cpu=1500m, used: requests.cpu=0, limited: requests.cpu=1"
    message = f'pods "web" is forbidden: exceeded quota: q, {amounts}'
    assert refused == status(403, "Forbidden", message, name="web", kind="pods")


async def test_bodies_of_another_form(http, pod):
    said = "the body of the request was in an unknown format - accepted media types include: "
    html = {"Content-Type": "text/html"}
    refused = await body(http, "POST", PODS, status=415, data="<p>", headers=html)
    encodings = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    assert refused == status(415, "UnsupportedMediaType", said + encodings)
    patches = ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml")
    plain = {"Content-Type": "application/json"}
    refused = await body(http, "PATCH", f"{PODS}/x", status=415, data="{}", headers=plain)
    assert refused["message"] == said + ", ".join(f"application/{name}" for name in patches)
    refused = await body(http, "GET", PODS, status=406, headers={"Accept": "text/html"})
    assert refused["message"] == "only the following media types are accepted: application/json"
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    refused = await body(http, "POST", PODS, status=400, json=service)
    conversion = "converting (v1.Service) to (core.Pod): unknown conversion"
    assert refused["message"] == f'Service in version "v1" cannot be handled as a Pod: {conversion}'
    elsewhere = {**pod(), "metadata": {"name": "p", "namespace": "kube-system"}}
    refused = await body(http, "POST", PODS, status=400, json=elsewhere)
    assert refused["message"] == (
        "the namespace of the provided object does not match the namespace sent on the request"
    )
    huge = json.dumps({"metadata": {"name": "h"}, "data": {"k": "v" * (3 << 20)}})
    refused = await body(http, "POST", CONFIG_MAPS, status=413, data=huge, headers=plain)
    assert refused == status(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")


async def test_fields_that_the_kind_does_not_have(http, pod):
    web = pod()
    web["spec"]["nodeSelecter"] = {}
    refused = await body(http, "POST", f"{PODS}?fieldValidation=Strict", status=400, json=web)
    why = 'strict decoding error: unknown field "spec.nodeSelecter"'
    assert refused == status(400, "BadRequest", f'Pod in version "v1" cannot be handled as a Pod: {why}')
    async with http.post(PODS, json=web) as response:
        assert response.headers["Warning"] == '299 - "unknown field \\"spec.nodeSelecter\\""'
    for field, path in (("spec.image=x", PODS), ("spec.x=y", CONFIG_MAPS)):
        refused = await body(http, "GET", path, status=400, params={"fieldSelector": field})
        known = '"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"'
        assert refused["message"] == (known if path == CONFIG_MAPS else "field label not supported: spec.image")


@pytest.mark.parametrize("watch", [False, True])
async def test_a_past_that_is_forgotten(server, http, watch, monkeypatch):
    monkeypatch.setattr("kubelab.apiserver.watch.WINDOW", 2)
    channel = server.store._channel("configmaps")
    channel._window = 2
    before = server.store.version
    for number in range(5):
        await server.store.create("configmaps", {"metadata": {"name": f"c{number}"}}, namespace="default")
    query = {"resourceVersion": str(before), **({"watch": "true"} if watch else {"resourceVersionMatch": "Exact"})}
    async with http.get(CONFIG_MAPS, params=query) as response:
        answer = json.loads(await response.text())
    if watch:
        assert answer["type"] == "ERROR"
        answer = answer["object"]
        assert answer["message"] == f"too old resource version: {before} ({channel.floor})"
    else:
        assert answer["message"] == "The resourceVersion for the provided list is too old."
    assert (answer["reason"], answer["code"]) == ("Expired", 410)
