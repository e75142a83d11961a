"""Custom resources in several versions: without conversion, and with a webhook that converts."""

import json

import pytest
from aiohttp import web
from unit.kubelab.apiserver.webhook import allow, configuration, running
from unit.kubelab.apiserver.wire import MERGE, body, read_events

from kubelab.apiserver.strategies.definitions import CRDS

OLD, NEW = (f"/apis/demo.io/{version}/namespaces/default/hosts" for version in ("v1beta1", "v1"))
APPLY = {"Content-Type": "application/apply-patch+yaml"}


def definition(conversion=None):
    def version(name, properties, **more):
        spec = {"type": "object", "properties": properties}
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
        return {"name": name, "served": True, "storage": name == "v1", "schema": schema, **more}

    text = {"type": "string"}
    old = version("v1beta1", {"address": {**text, "maxLength": 21}, "note": text})
    new = version("v1", {"host": text, "port": text, "note": text, "mode": {**text, "default": "auto"}})
    spec = {"group": "demo.io", "scope": "Namespaced", "names": {"plural": "hosts", "kind": "Host"}}
    spec |= {"versions": [old, new], **({"conversion": conversion} if conversion else {})}
    return {"metadata": {"name": "hosts.demo.io"}, "spec": spec}


def convert(request):
    """`address` of v1beta1 is `host` and `port` of v1."""
    converted = []
    for obj in request["objects"]:
        spec = dict(obj.get("spec") or {})
        if request["desiredAPIVersion"] == "demo.io/v1" and "address" in spec:
            spec["host"], _, spec["port"] = spec.pop("address").partition(":")
        elif request["desiredAPIVersion"] == "demo.io/v1beta1" and "host" in spec:
            spec["address"] = f"{spec.pop('host')}:{spec.pop('port', '')}"
        converted.append({**obj, "apiVersion": request["desiredAPIVersion"], "spec": spec})
    return {"convertedObjects": converted, "result": {"status": "Success"}}


@pytest.fixture
async def webhook(tmp_path):
    async with running(tmp_path) as found:
        yield found


@pytest.fixture
async def converted(server, webhook):
    rule = {"clientConfig": webhook.at("/convert", convert), "conversionReviewVersions": ["v1"]}
    await server.store.create(CRDS, definition({"strategy": "Webhook", "webhook": rule}))
    return webhook


async def test_without_conversion_fields_are_as_the_version_has_them(server, http):
    await server.store.create(CRDS, definition())
    made = await body(http, "POST", OLD, status=201, json={"metadata": {"name": "a"}, "spec": {"note": "x"}})
    assert (made["apiVersion"], made["spec"]) == ("demo.io/v1beta1", {"note": "x"})
    new = await body(http, "GET", f"{NEW}/a")
    assert (new["apiVersion"], new["spec"]) == ("demo.io/v1", {"note": "x", "mode": "auto"})
    wrong = {"apiVersion": "demo.io/v1", "metadata": {"name": "b"}}
    refused = await body(http, "POST", OLD, status=400, json=wrong)
    assert refused["message"] == (
        "the API version in the data (demo.io/v1) does not match the expected API version (demo.io/v1beta1)"
    )


async def test_who_asks_for_a_version_that_is_going_is_told(server, http):
    crd = definition()
    crd["spec"]["versions"][0]["deprecated"] = True
    await server.store.create(CRDS, crd)
    async with http.get(OLD) as response:
        assert response.headers["Warning"] == '299 - "demo.io/v1beta1 Host is deprecated; use demo.io/v1 Host"'
    async with http.get(NEW) as response:
        assert "Warning" not in response.headers
    crd = await server.store.get(CRDS, "hosts.demo.io")
    own = {"versions": [{**crd["spec"]["versions"][0], "deprecationWarning": "move on"}, crd["spec"]["versions"][1]]}
    await server.store.patch(CRDS, "hosts.demo.io", {"spec": own})
    async with http.get(OLD) as response:
        assert response.headers["Warning"] == '299 - "move on"'


async def test_a_webhook_converts_what_is_written_read_and_watched(server, http, converted):
    await body(http, "POST", OLD, status=201, json={"metadata": {"name": "a"}, "spec": {"address": "h:80"}})
    new = await body(http, "GET", f"{NEW}/a")
    assert new["spec"] == {"host": "h", "port": "80", "mode": "auto"}
    assert (await body(http, "GET", f"{OLD}/a"))["spec"] == {"address": "h:80"}
    patched = await body(http, "PATCH", f"{OLD}/a", json={"spec": {"address": "h:81"}}, headers=MERGE)
    assert patched["spec"] == {"address": "h:81"}
    assert patched["metadata"]["uid"] == new["metadata"]["uid"]
    applied = {"apiVersion": "demo.io/v1beta1", "kind": "Host", "metadata": {"name": "b"}, "spec": {"note": "n"}}
    url = f"{OLD}/b?fieldManager=me"
    await body(http, "PATCH", url, status=201, data=json.dumps(applied), headers=APPLY)
    listed = await body(http, "GET", OLD)
    assert [(item["apiVersion"], item["spec"]) for item in listed["items"]] == [
        ("demo.io/v1beta1", {"address": "h:81"}),
        ("demo.io/v1beta1", {"note": "n"}),
    ]
    # One question for all objects of a list.
    assert len(converted.seen["/convert"][-1]["objects"]) == 2
    async with http.get(OLD, params={"watch": "true", "resourceVersion": "0"}) as response:
        events = await read_events(response, 2)
    assert {event["object"]["apiVersion"] for event in events} == {"demo.io/v1beta1"}
    too_long = {"metadata": {"name": "c"}, "spec": {"address": "a-name-that-is-long:80"}}
    refused = await body(http, "POST", OLD, status=422, json=too_long)
    assert refused["details"]["causes"][0]["field"] == "spec.address"


async def test_what_a_conversion_webhook_does_wrong_is_told(server, http, converted):
    await body(http, "POST", NEW, status=201, json={"metadata": {"name": "a"}, "spec": {"host": "h"}})

    async def fails(answer):
        converted.at("/convert", answer)
        return (await body(http, "GET", f"{OLD}/a", status=500))["message"]

    subject = "conversion webhook for demo.io/v1, Kind=Host"
    failed = {"result": {"status": "Failure", "message": "I cannot"}}
    assert await fails(lambda _: failed) == f"{subject} failed: I cannot"
    none = {"result": {"status": "Success"}, "convertedObjects": []}
    assert await fails(lambda _: none) == f"{subject} returned 0 objects, expected 1"
    same = await fails(lambda request: {**convert(request), "convertedObjects": request["objects"]})
    assert same.endswith("invalid groupVersion (expected demo.io/v1beta1, received demo.io/v1)")

    def renamed(request):
        made = convert(request)
        made["convertedObjects"][0]["metadata"]["name"] = "b"
        return made

    assert "must have the same name: a != b" in await fails(renamed)
    assert "the server could not find the requested resource" in await fails(lambda _: web.Response(status=404))
    # The version that is stored needs nobody.
    await body(http, "GET", f"{NEW}/a")


async def test_admission_webhooks_see_the_version_of_their_rule(server, http, converted):
    rule = {"apiGroups": ["demo.io"], "apiVersions": ["v1beta1"], "operations": ["CREATE"], "resources": ["hosts"]}
    equivalent = {"clientConfig": converted.at("/equivalent", allow), "rules": [rule]}
    exact = {"clientConfig": converted.at("/exact", allow), "rules": [rule], "matchPolicy": "Exact"}
    resource = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    await server.store.create(resource, configuration("Validating", "v", equivalent, exact))
    await body(http, "POST", NEW, status=201, json={"metadata": {"name": "a"}, "spec": {"host": "h", "port": "1"}})
    await body(http, "POST", OLD, status=201, json={"metadata": {"name": "b"}, "spec": {"address": "h:2"}})
    first, second = converted.seen["/equivalent"]
    assert [request["object"]["spec"]["address"] for request in (first, second)] == ["h:1", "h:2"]
    assert first["kind"]["version"] == first["resource"]["version"] == "v1beta1"
    assert first["requestKind"]["version"] == first["requestResource"]["version"] == "v1"
    (asked,) = converted.seen["/exact"]
    assert asked["name"] == "b"
