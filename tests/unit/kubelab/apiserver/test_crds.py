"""Custom resources: served at once, judged by their schema, gone with their definition."""

import copy

import pytest

from kubelab.apiserver import errors
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.strategies.definitions import CRDS

WIDGETS = "widgets.demo.io"


def widget(name: str = "w", **spec):
    return {"metadata": {"name": name}, "spec": {"size": 3, **spec}}


@pytest.fixture
async def served(store, widget_crd):
    await store.create(CRDS, widget_crd)
    return store


async def test_a_crd_is_established_and_served_at_once(store, widget_crd):
    with pytest.raises(errors.NotFound):
        await store.list(WIDGETS)
    crd = await store.create(CRDS, widget_crd)
    assert {c["type"]: c["status"] for c in crd["status"]["conditions"]} == {
        "NamesAccepted": "True",
        "Established": "True",
    }
    created = await store.create(WIDGETS, widget(), namespace="default")
    assert created["apiVersion"] == "demo.io/v1"
    assert created["kind"] == "Widget"
    assert store.registry.get(WIDGETS).short_names == ("wd",)


async def test_defaults_and_pruning(served):
    created = await served.create(WIDGETS, widget(unknown=1, free={"kept": [1, {"a": "b"}]}), namespace="default")
    assert created["spec"] == {"size": 3, "mode": "a", "free": {"kept": [1, {"a": "b"}]}}


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"size": 11}, "spec.size", "FieldValueInvalid"),
        ({"size": "3"}, "spec.size", "FieldValueTypeInvalid"),
        ({"size": True}, "spec.size", "FieldValueTypeInvalid"),
        ({"mode": "z"}, "spec.mode", "FieldValueNotSupported"),
        ({"port": []}, "spec.port", "FieldValueInvalid"),
    ],
)
async def test_faults_name_field_and_reason(served, spec, field, reason):
    with pytest.raises(errors.Invalid) as caught:
        await served.create(WIDGETS, widget(**spec), namespace="default")
    assert [(c.field, c.reason) for c in caught.value.causes] == [(field, reason)]
    status = caught.value.status()
    assert status["code"] == 422
    assert status["details"]["kind"] == "Widget"


async def test_required_fields(served):
    with pytest.raises(errors.Invalid, match=r"spec.size: Required value"):
        await served.create(WIDGETS, {"metadata": {"name": "w"}, "spec": {}}, namespace="default")
    with pytest.raises(errors.Invalid, match="spec: Required value"):
        await served.create(WIDGETS, {"metadata": {"name": "w"}}, namespace="default")


async def test_the_status_subresource_touches_nothing_else(served):
    await served.create(WIDGETS, {**widget(), "status": {"phase": "mine"}}, namespace="default")
    assert "status" not in await served.get(WIDGETS, "w", namespace="default")
    change = {"metadata": {"labels": {"a": "b"}}, "spec": {"size": 9}, "status": {"phase": "Ready"}}
    changed = await served.patch(WIDGETS, "w", change, namespace="default", subresource="status")
    assert changed["status"] == {"phase": "Ready"}
    assert changed["spec"]["size"] == 3
    assert "labels" not in changed["metadata"]
    assert changed["metadata"]["generation"] == 1
    with pytest.raises(errors.Invalid, match=r"status.phase"):
        await served.patch(WIDGETS, "w", {"status": {"phase": 1}}, namespace="default", subresource="status")


async def test_a_crd_takes_its_objects_along_but_waits_for_finalizers(served):
    await served.create(WIDGETS, widget("free"), namespace="default")
    held = widget("held")
    held["metadata"]["finalizers"] = ["demo.io/hold"]
    await served.create(WIDGETS, held, namespace="default")
    with served.watch(WIDGETS, since=served.version) as watch:
        await served.delete(CRDS, WIDGETS)
        assert [o["metadata"]["name"] for o in (await served.list(WIDGETS)).items] == ["held"]
        assert served.peek(CRDS, WIDGETS) is not None
        await served.patch(WIDGETS, "held", {"metadata": {"finalizers": None}}, namespace="default")
        assert served.peek(CRDS, WIDGETS) is None
        with pytest.raises(errors.NotFound):
            await served.list(WIDGETS)
        await watch.wait()
        assert await watch.wait() == [], "the watch ends with the resource"


async def test_a_served_crd_can_change_its_schema(served, widget_crd):
    changed = copy.deepcopy(served.peek(CRDS, WIDGETS))
    schema = changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["size"]["maximum"] = 100
    await served.update(CRDS, changed)
    created = await served.create(WIDGETS, widget(size=50), namespace="default")
    assert created["spec"]["size"] == 50


async def test_what_a_narrower_schema_forbids_may_stay_as_it_is(served, widget_crd):
    made = await served.create(WIDGETS, widget(size=9, free={"a": 1}), namespace="default")
    narrower = copy.deepcopy(widget_crd)
    spec = narrower["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["size"]["maximum"] = 5
    spec["required"] = ["size", "port"]
    await served.update(CRDS, {**await served.get(CRDS, WIDGETS), "spec": narrower["spec"]})
    labelled = {**made, "metadata": {**made["metadata"], "labels": {"a": "b"}}}
    made = await served.update(WIDGETS, labelled)
    assert made["metadata"]["labels"] == {"a": "b"}
    with pytest.raises(errors.Invalid, match=r"spec\.size: Invalid value: 8"):
        await served.update(WIDGETS, {**made, "spec": {**made["spec"], "size": 8}})
    with pytest.raises(errors.Invalid, match=r"spec\.port: Required value"):
        await served.update(WIDGETS, {**made, "spec": {**made["spec"], "mode": "b"}})


async def test_names_already_in_use_are_not_accepted(served, widget_crd):
    other = copy.deepcopy(widget_crd)
    other["metadata"]["name"] = "gadgets.demo.io"
    other["spec"]["names"] = {"plural": "gadgets", "kind": "Widget"}
    crd = await served.create(CRDS, other)
    conditions = {c["type"]: (c["status"], c["message"]) for c in crd["status"]["conditions"]}
    assert conditions["NamesAccepted"] == ("False", '"Widget" is already in use')
    assert conditions["Established"][0] == "False"
    with pytest.raises(errors.NotFound):
        await served.list("gadgets.demo.io")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda crd: crd["metadata"].update(name="wrong.demo.io"), "metadata.name"),
        (lambda crd: crd["spec"].update(scope="Galaxy"), "spec.scope"),
        (lambda crd: crd["spec"]["versions"][0].update(storage=False), "spec.versions"),
        (lambda crd: crd["spec"]["versions"][0].pop("schema"), "spec.versions[0].schema.openAPIV3Schema"),
        (
            lambda crd: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].pop("type"),
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].type",
        ),
        (
            lambda crd: crd["spec"]["versions"][0].update(
                additionalPrinterColumns=[{"name": "X", "type": "string", "jsonPath": ".a[?(b]"}]
            ),
            "spec.versions[0].additionalPrinterColumns[0].jsonPath",
        ),
    ],
)
async def test_bad_definitions_are_refused_with_the_field(store, widget_crd, change, field):
    change(widget_crd)
    with pytest.raises(errors.Invalid) as caught:
        await store.create(CRDS, widget_crd)
    assert field in [c.field for c in caught.value.causes]


async def test_custom_objects_survive_a_restart(open_store, widget_crd, tmp_path):
    first = open_store(tmp_path / "db")
    await first.create("namespaces", {"metadata": {"name": "default"}})
    await first.create(CRDS, widget_crd)
    created = await first.create(WIDGETS, widget(), namespace="default")
    first.close()
    second = open_store(tmp_path / "db")
    assert (await second.list(WIDGETS)).items == [created]
    second.close()


def test_every_builtin_kind_has_a_schema():
    schemas = Schemas()
    for group, version, kind in (
        ("", "v1", "Pod"),
        ("apps", "v1", "Deployment"),
        ("networking.k8s.io", "v1", "NetworkPolicy"),
    ):
        node = schemas.node(group, version, kind)
        assert node is not None
        assert node.child("spec").properties
