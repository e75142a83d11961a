"""OpenAPI documents: their forms, their hashes, and what changes them."""

import copy
import json

import aiohttp
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from unit.kubelab.apiserver.wire import body

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
JSON_SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


async def addresses(http: aiohttp.ClientSession) -> dict[str, str]:
    listed = await body(http, "GET", "/openapi/v3")
    return {path: found["serverRelativeURL"] for path, found in listed["paths"].items()}


async def test_v3_refers_and_describes(http):
    document = await body(http, "GET", "/openapi/v3/apis/apps/v1")
    schemas = document["components"]["schemas"]
    spec = schemas["io.k8s.api.apps.v1.DeploymentSpec"]
    assert spec["required"] == ["selector", "template"]
    assert spec["properties"]["template"]["allOf"] == [
        {"$ref": "#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec"}
    ]
    assert "new revision" in spec["properties"]["template"]["description"]
    assert schemas[INT_OR_STRING]["oneOf"] == [{"type": "integer"}, {"type": "string"}]
    assert schemas[INT_OR_STRING]["format"] == "int-or-string"
    assert schemas[QUANTITY]["oneOf"] == [{"type": "string"}, {"type": "number"}]
    assert schemas["io.k8s.apimachinery.pkg.apis.meta.v1.Time"]["format"] == "date-time"
    assert "io.k8s.api.rbac.v1.Role" not in schemas
    listed = schemas["io.k8s.api.apps.v1.DeploymentList"]
    assert listed["properties"]["items"]["items"] == {"$ref": "#/components/schemas/io.k8s.api.apps.v1.Deployment"}
    assert listed["x-kubernetes-group-version-kind"] == [{"group": "apps", "version": "v1", "kind": "DeploymentList"}]
    assert "CamelCase" in listed["properties"]["kind"]["description"]


async def test_v2_has_the_same_with_its_own_words(http):
    definitions = (await body(http, "GET", "/openapi/v2"))["definitions"]
    probe = definitions["io.k8s.api.core.v1.Probe"]["properties"]["exec"]
    assert probe == {
        "$ref": "#/definitions/io.k8s.api.core.v1.ExecAction",
        "description": "Runs a command in the container; exit code 0 is good.",
    }
    assert definitions[INT_OR_STRING]["type"] == "string"
    assert "oneOf" not in json.dumps(definitions[QUANTITY])
    # A field whose name is a word of schemas is a field.
    assert (
        "not" in definitions["io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"]["properties"]
    )


async def test_an_address_with_a_hash_is_of_one_content(http):
    address = (await addresses(http))["apis/apps/v1"]
    async with http.get(address) as response:
        assert response.headers["Cache-Control"] == "public, immutable"
        assert response.headers["ETag"].strip('"') in address
        etag, expires = response.headers["ETag"], response.headers["Expires"]
        assert expires.endswith("GMT")
    async with http.get(address, headers={"If-None-Match": etag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with http.get("/openapi/v3/apis/apps/v1?hash=OLD", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (301, address)
    async with http.get("/openapi/v3/apis/apps/v1") as response:
        assert "Cache-Control" not in response.headers
    await body(http, "GET", "/openapi/v3/apis/nothing/v1", status=404)


async def test_a_definition_changes_the_hash_of_its_group_only(http, widget_crd):
    before = await addresses(http)
    await body(http, "POST", CRDS, status=201, json=widget_crd)
    with_widgets = await addresses(http)
    assert with_widgets.keys() - before.keys() == {"apis/demo.io/v1"}
    changed = copy.deepcopy(widget_crd)
    schema = changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["size"]["description"] = "How large it is."
    name = widget_crd["metadata"]["name"]
    patch = {"spec": changed["spec"]}
    merge = {"Content-Type": "application/merge-patch+json"}
    await body(http, "PATCH", f"{CRDS}/{name}", json=patch, headers=merge)
    after = await addresses(http)
    assert [path for path in after if after[path] != with_widgets[path]] == ["apis/demo.io/v1"]
    document = await body(http, "GET", after["apis/demo.io/v1"])
    widget = document["components"]["schemas"]["io.demo.v1.Widget"]
    assert widget["properties"]["spec"]["properties"]["size"]["description"] == "How large it is."
    assert "CamelCase" in widget["properties"]["kind"]["description"]
    await body(http, "DELETE", f"{CRDS}/{name}")
    assert await addresses(http) == before


@pytest.fixture(scope="module")
def message():
    """The part of gnostic's `openapi.v2.Document` that is looked at, built from its field numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="openapi.proto", package="o", syntax="proto3")
    text, many = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    one, nested = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    shapes = {
        "Document": [("swagger", 1, one, ""), ("paths", 8, one, "Paths"), ("definitions", 9, one, "Definitions")],
        "Definitions": [("all", 1, many, "NamedSchema")],
        "NamedSchema": [("name", 1, one, ""), ("value", 2, one, "Schema")],
        "Schema": [
            ("ref", 1, one, ""), ("format", 2, one, ""), ("description", 4, one, ""), ("required", 19, many, ""),
            ("enum", 20, many, "Any"), ("additional", 21, one, "Additional"), ("type", 22, one, "Type"),
            ("items", 23, one, "Items"), ("properties", 25, one, "Definitions"), ("extension", 31, many, "NamedAny"),
        ],
        "Any": [("yaml", 2, one, "")],
        "NamedAny": [("name", 1, one, ""), ("value", 2, one, "Any")],
        "Additional": [("schema", 1, one, "Schema")],
        "Type": [("value", 1, many, "")],
        "Items": [("schema", 1, many, "Schema")],
        "Paths": [("path", 2, many, "NamedPath")],
        "NamedPath": [("name", 1, one, ""), ("value", 2, one, "Path")],
        "Path": [("get", 2, one, "Operation"), ("patch", 8, one, "Operation")],
        "Operation": [("consumes", 7, many, ""), ("extension", 13, many, "NamedAny")],
    }  # fmt: skip
    for name, fields in shapes.items():
        made = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            added = made.field.add(name=field, number=number, label=label, type=nested if kind else text)
            if kind:
                added.type_name = f".o.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("o.Document"))


async def test_v2_in_protobuf_is_the_same_document(http, message):
    document = await body(http, "GET", "/openapi/v2")
    async with http.get("/openapi/v2", headers={"Accept": PROTOBUF}) as response:
        assert response.headers["Content-Type"] == PROTOBUF.replace("@", ".")
        read = message.FromString(await response.read())
    assert read.swagger == "2.0"
    schemas = {named.name: named.value for named in read.definitions.all}
    assert schemas.keys() == document["definitions"].keys()
    spec = schemas["io.k8s.api.core.v1.PodSpec"]
    expected = document["definitions"]["io.k8s.api.core.v1.PodSpec"]
    fields = {named.name: named.value for named in spec.properties.all}
    assert (list(fields), list(spec.required)) == (list(expected["properties"]), expected["required"])
    assert fields["containers"].items.schema[0].ref == "#/definitions/io.k8s.api.core.v1.Container"
    assert {e.name: e.value.yaml for e in fields["containers"].extension}["x-kubernetes-patch-merge-key"] == '"name"\n'
    assert fields["nodeSelector"].additional.schema.type.value == ["string"]
    assert [json.loads(value.yaml) for value in fields["restartPolicy"].enum] == ["Always", "Never", "OnFailure"]
    assert fields["activeDeadlineSeconds"].format == "int64"
    assert fields["dnsPolicy"].description == expected["properties"]["dnsPolicy"]["description"]
    paths = {named.name: named.value for named in read.paths.path}
    assert paths.keys() == document["paths"].keys()
    operation = paths["/api/v1/namespaces/{namespace}/pods/{name}"].patch
    assert "application/strategic-merge-patch+json" in operation.consumes
    kind = {e.name: json.loads(e.value.yaml) for e in operation.extension}["x-kubernetes-group-version-kind"]
    assert kind == {"group": "", "version": "v1", "kind": "Pod"}
