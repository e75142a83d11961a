"""Server-side apply and the managers of fields, through a store with the built-in kinds and a CRD."""

import copy
from typing import Any

import msgspec
import pytest

from kubelab.apiserver.errors import BadRequest, Conflict, ServerFault
from kubelab.apiserver.ownership.apply import Applier
from kubelab.apiserver.ownership.managers import decode

Object = dict[str, Any]
DEPLOYMENTS, CONFIG_MAPS = "deployments.apps", "configmaps"


def deployment(*containers: Object, **spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": list(containers)}}
    wanted = {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": wanted}


def config(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


async def apply(
    store, obj: Object, manager: str, *, force: bool = False, key: str = CONFIG_MAPS, sub: str = ""
) -> Object:
    applier = Applier(manager, force=force, subresource=sub)
    return (await store.apply(key, obj["metadata"]["name"], obj, applier, namespace="default"))[0]


def owned(obj: Object) -> dict[str, Any]:
    """Manager -> its field set."""
    return {f"{e['manager']} {e['operation']}": decode(e) for e in obj["metadata"]["managedFields"]}


def containers(obj: Object) -> list[Object]:
    found: list[Object] = obj["spec"]["template"]["spec"]["containers"]
    return found


async def test_what_a_manager_leaves_out_goes_and_what_others_own_stays(store):
    await apply(store, config(a="1", b="1"), "one")
    await apply(store, config(b="1"), "two")
    third = await apply(store, config(c="3"), "one")
    assert third["data"] == {"b": "1", "c": "3"}
    assert owned(third) == {"one Apply": {"f:data": {"f:c": {}}}, "two Apply": {"f:data": {"f:b": {}}}}
    assert await apply(store, config(c="3"), "one") is not None
    assert (await store.get(CONFIG_MAPS, "c", namespace="default")) is third, "the same again commits nothing"


async def test_a_conflict_names_every_field_and_force_takes_them(store):
    await apply(store, config(a="1", b="1"), "one")
    with pytest.raises(Conflict) as caught:
        await apply(store, config(a="2"), "two")
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "one": .data.a'
    assert [(c.reason, c.field, c.message) for c in caught.value.causes] == [
        ("FieldManagerConflict", ".data.a", 'conflict with "one"')
    ]
    with pytest.raises(Conflict) as caught:
        await apply(store, config(a="2", b="2"), "two")
    assert caught.value.message == 'Apply failed with 2 conflicts: conflicts with "one":\n- .data.a\n- .data.b'
    taken = await apply(store, config(a="2"), "two", force=True)
    assert owned(taken) == {"one Apply": {"f:data": {"f:b": {}}}, "two Apply": {"f:data": {"f:a": {}}}}


async def test_an_update_takes_fields_and_is_named_with_time_and_version(store):
    made = await apply(store, deployment({"name": "c", "image": "i:1"}, replicas=1), "one", key=DEPLOYMENTS)
    changed = await store.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, namespace="default", manager="scaler")
    assert owned(changed)["scaler Update"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in owned(changed)["one Apply"]["f:spec"]
    with pytest.raises(Conflict, match=r'conflict with "scaler" using apps/v1 at 20.*Z: \.spec\.replicas'):
        await apply(store, deployment({"name": "c", "image": "i:1"}, replicas=1), "one", key=DEPLOYMENTS)
    without = await apply(store, deployment({"name": "c", "image": "i:1"}), "one", key=DEPLOYMENTS)
    assert without["spec"]["replicas"] == 3
    assert made["spec"]["replicas"] == 1


async def test_lists_of_maps_merge_by_all_their_keys(store):
    first = {"name": "c", "image": "i:1", "ports": [{"containerPort": 53}], "env": [{"name": "A", "value": "1"}]}
    await apply(store, deployment(first), "one", key=DEPLOYMENTS)
    udp = {"name": "c", "ports": [{"containerPort": 53, "protocol": "UDP"}]}
    both = await apply(store, deployment(udp, {"name": "d", "image": "i:2"}), "two", key=DEPLOYMENTS)
    assert [(p["containerPort"], p["protocol"]) for p in containers(both)[0]["ports"]] == [(53, "TCP"), (53, "UDP")]
    assert containers(both)[0]["env"] == [{"name": "A", "value": "1"}]
    gone = await apply(store, deployment({"name": "c", "image": "i:1"}), "one", key=DEPLOYMENTS)
    assert [c["name"] for c in containers(gone)] == ["c", "d"], "defaults under an entry do not keep or drop it"
    assert [p["protocol"] for p in containers(gone)[0]["ports"]] == ["UDP"]
    assert "env" not in containers(gone)[0]
    alone = await apply(store, deployment({"name": "c", "image": "i:1"}), "two", key=DEPLOYMENTS)
    assert [c["name"] for c in containers(alone)] == ["c"]


async def test_defaults_belong_to_nobody_and_stay(store):
    made = await apply(store, deployment({"name": "c", "image": "i:1"}), "one", key=DEPLOYMENTS)
    assert made["spec"]["progressDeadlineSeconds"] == 600
    assert set(owned(made)["one Apply"]["f:spec"]) == {"f:selector", "f:template"}
    again = await apply(store, deployment({"name": "c", "image": "i:2"}), "one", key=DEPLOYMENTS)
    assert again["spec"]["progressDeadlineSeconds"] == 600
    assert containers(again)[0]["terminationMessagePath"] == "/dev/termination-log"


async def test_what_was_never_applied_belongs_to_its_writer(store):
    made = await store.create(CONFIG_MAPS, config(a="1"), namespace="default", manager="kubectl-create")
    assert owned(made) == {"kubectl-create Update": {"f:data": {".": {}, "f:a": {}}}}
    with pytest.raises(Conflict, match=r"kubectl-create.*\.data\.a"):
        await apply(store, config(a="2"), "one")
    shared = await apply(store, config(a="1"), "one")
    assert owned(shared)["one Apply"] == {"f:data": {"f:a": {}}}


async def test_an_object_without_entries_is_owned_before_its_first_apply(store):
    await store.create(CONFIG_MAPS, config(a="1", b="1"), namespace="default")
    stripped = await store.get(CONFIG_MAPS, "c", namespace="default")
    emptied = copy.deepcopy(stripped)
    emptied["metadata"]["managedFields"] = [{}]
    assert "managedFields" not in (await store.update(CONFIG_MAPS, emptied))["metadata"]
    applied = await apply(store, config(a="1"), "one")
    assert owned(applied)["before-first-apply Update"] == {"f:data": {".": {}, "f:a": {}, "f:b": {}}}


async def test_clients_may_rewrite_the_entries(store):
    """As kubectl does when an object moves from apply on the client to apply on the server."""
    made = await store.create(CONFIG_MAPS, config(a="1"), namespace="default", manager="kubectl-client-side-apply")
    entry = {**made["metadata"]["managedFields"][0], "manager": "kubectl", "operation": "Apply"}
    entry["fieldsV1"] = decode(entry)
    moved = await store.patch(CONFIG_MAPS, "c", {"metadata": {"managedFields": [entry]}}, namespace="default")
    assert list(owned(moved)) == ["kubectl Apply"]
    assert (await apply(store, config(b="1"), "kubectl"))["data"] == {"b": "1"}


@pytest.mark.parametrize(
    "entry",
    [
        {"manager": "x", "operation": "Sideways", "fieldsV1": {"f:data": {}}},
        {"manager": "x", "operation": "Apply", "fieldsV1": {"f:data": "no set"}},
        {"manager": "x", "operation": "Apply", "fieldsV1": {"data": {}}},
        {"manager": 5, "operation": "Apply", "fieldsV1": {"f:data": {}}},
    ],
)
async def test_entries_that_are_none_change_nothing(store, entry):
    made = await store.create(CONFIG_MAPS, config(a="1"), namespace="default", manager="m")
    patch = {"metadata": {"managedFields": [entry]}, "data": {"b": "1"}}
    changed = await store.patch(CONFIG_MAPS, "c", patch, namespace="default", manager="m")
    assert owned(changed) == {"m Update": {"f:data": {".": {}, "f:a": {}, "f:b": {}}}}
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]


async def test_status_has_managers_of_its_own(store, pod):
    await store.create("pods", pod(), namespace="default", manager="me")
    running = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    changed = await store.patch("pods", "web", running, namespace="default", subresource="status", manager="kubelet")
    entry = next(e for e in changed["metadata"]["managedFields"] if e["manager"] == "kubelet")
    assert entry["subresource"] == "status"
    ready = 'k:{"type":"Ready"}'
    assert decode(entry) == {
        "f:status": {"f:conditions": {".": {}, ready: {".": {}, "f:status": {}, "f:type": {}}}, "f:phase": {}}
    }
    assert "f:status" not in owned(changed)["me Update"]


async def test_atomic_lists_and_maps_are_one_field(store):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    await apply(store, {**service, "spec": {"selector": {"a": "b"}, "ports": [{"port": 1}]}}, "one", key="services")
    with pytest.raises(Conflict, match=r'conflict with "one": \.spec\.selector$'):
        await apply(store, {**service, "spec": {"selector": {"a": "b", "c": "d"}}}, "two", key="services")


async def test_custom_resources_merge_as_their_schema_says(store, widget_crd):
    spec = widget_crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    text = {"type": "string"}
    rows = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]}
    rows["items"] = {"type": "object", "required": ["id"], "properties": {"id": text, "v": text}}
    tags = {"type": "array", "x-kubernetes-list-type": "set", "items": text}
    spec["properties"].update(rows=rows, tags=tags, plain={"type": "array", "items": text})
    await store.create("customresourcedefinitions.apiextensions.k8s.io", widget_crd)
    base = {"apiVersion": "demo.io/v1", "kind": "Widget", "metadata": {"name": "w"}}
    key = "widgets.demo.io"
    one = {**base, "spec": {"size": 1, "rows": [{"id": "a", "v": "1"}], "tags": ["x"], "plain": ["p"]}}
    two = {**base, "spec": {"rows": [{"id": "b", "v": "2"}], "tags": ["y"]}}
    await apply(store, one, "one", key=key)
    both = await apply(store, two, "two", key=key)
    assert both["spec"]["rows"] == [{"id": "a", "v": "1"}, {"id": "b", "v": "2"}]
    assert both["spec"]["tags"] == ["x", "y"]
    assert owned(both)["two Apply"]["f:spec"]["f:tags"] == {'v:"y"': {}}
    with pytest.raises(Conflict, match=r"\.spec\.plain$"):
        await apply(store, {**base, "spec": {"plain": ["q"]}}, "two", key=key)
    with pytest.raises(Conflict, match=r'\.spec\.rows\[id="a"\]\.v$'):
        await apply(store, {**base, "spec": {"rows": [{"id": "a", "v": "9"}]}}, "two", key=key)
    with pytest.raises(ServerFault, match=r'omits key field "id"'):
        await apply(store, {**base, "spec": {"rows": [{"v": "9"}]}}, "two", key=key)
    left = await apply(store, {**base, "spec": {"size": 1}}, "one", key=key)
    assert (left["spec"]["rows"], left["spec"]["tags"]) == ([{"id": "b", "v": "2"}], ["y"])
    assert "plain" not in left["spec"]


async def test_a_configuration_that_brings_entries_is_refused(store):
    wanted = config(a="1")
    wanted["metadata"]["managedFields"] = [{"manager": "x"}]
    with pytest.raises(BadRequest, match=r"metadata\.managedFields must be nil"):
        await apply(store, wanted, "one")


async def test_many_updaters_become_one(store):
    await store.create(CONFIG_MAPS, config(), namespace="default", manager="m0")
    for number in range(1, 15):
        patch = {"data": {f"k{number}": "v"}}
        changed = await store.patch(CONFIG_MAPS, "c", patch, namespace="default", manager=f"m{number:02}")
    names = [e["manager"] for e in changed["metadata"]["managedFields"]]
    assert len(names) == 10
    assert "ancient-changes" in names
    known = {field for e in changed["metadata"]["managedFields"] for field in decode(e)["f:data"]} - {"."}
    assert known == {f"f:k{n}" for n in range(1, 15)}


async def test_entries_survive_a_restart_and_are_sent_as_json(open_store, tmp_path):
    first = open_store(tmp_path / "db")
    await first.create("namespaces", {"metadata": {"name": "default"}})
    made = await apply(first, config(a="1"), "one")
    first.close()
    second = open_store(tmp_path / "db")
    again = await apply(second, config(a="1"), "one")
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    sent = msgspec.json.decode(msgspec.json.encode(again))
    assert sent["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {"f:a": {}}}
    second.close()
