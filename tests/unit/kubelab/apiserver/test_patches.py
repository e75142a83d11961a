"""The three patches."""

import copy

import pytest

from kubelab.apiserver.errors import BadRequest, Invalid
from kubelab.apiserver.patches import json_patch, merge_patch, strategic_merge
from kubelab.apiserver.schemas import Schemas


@pytest.fixture(scope="module")
def deployment_node():
    return Schemas().node("apps", "v1", "Deployment")


def deployment(*containers):
    return {"spec": {"template": {"spec": {"containers": list(containers)}}}}


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ],
)
def test_merge_patch(target, patch, expected):
    before = copy.deepcopy(target)
    assert merge_patch(target, patch) == expected
    assert target == before


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "add", "path": "/list/1", "value": "x"}, {"list": ["a", "x", "b"], "m/n": {"~": 1}}),
        ({"op": "add", "path": "/list/-", "value": "x"}, {"list": ["a", "b", "x"], "m/n": {"~": 1}}),
        ({"op": "remove", "path": "/list/0"}, {"list": ["b"], "m/n": {"~": 1}}),
        ({"op": "replace", "path": "/m~1n/~0", "value": 2}, {"list": ["a", "b"], "m/n": {"~": 2}}),
        ({"op": "move", "from": "/list/0", "path": "/x"}, {"list": ["b"], "m/n": {"~": 1}, "x": "a"}),
        ({"op": "copy", "from": "/list", "path": "/x"}, {"list": ["a", "b"], "m/n": {"~": 1}, "x": ["a", "b"]}),
        ({"op": "test", "path": "/list/0", "value": "a"}, {"list": ["a", "b"], "m/n": {"~": 1}}),
    ],
)
def test_json_patch(operation, expected):
    target = {"list": ["a", "b"], "m/n": {"~": 1}}
    assert json_patch(target, [operation]) == expected
    assert target == {"list": ["a", "b"], "m/n": {"~": 1}}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/absent"},
        {"op": "replace", "path": "/absent", "value": 1},
        {"op": "test", "path": "/list/0", "value": "z"},
        {"op": "add", "path": "/list/9", "value": 1},
        {"op": "add", "path": "list", "value": 1},
        {"op": "add", "path": "/list/0"},
        {"op": "jump", "path": "/list/0"},
    ],
)
def test_json_patch_that_does_not_fit_names_the_operation(operation):
    with pytest.raises(Invalid, match="the server rejected our request due to an error in our request") as refused:
        json_patch({"list": ["a"]}, [{"op": "test", "path": "/list/0", "value": "a"}, operation])
    assert refused.value.causes[0].message.startswith("JSON patch operation 1")


def test_strategic_merge_by_key_adds_changes_and_removes(deployment_node):
    current = deployment({"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"})
    patch = deployment(
        {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]},
        {"name": "b", "$patch": "delete"},
        {"name": "c", "image": "3"},
    )
    merged = strategic_merge(current, patch, deployment_node)
    assert merged == deployment(
        {"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
        {"name": "c", "image": "3"},
    )


def test_strategic_merge_replaces_lists_without_key_and_honours_directives(deployment_node):
    current = {"metadata": {"finalizers": ["a", "b"]}, "spec": deployment({"name": "c", "command": ["x", "y"]})["spec"]}
    patch = {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]},
        "spec": {
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
            **deployment({"name": "c", "command": ["z"]})["spec"],
        },
    }
    current["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
    merged = strategic_merge(current, patch, deployment_node)
    assert merged["metadata"]["finalizers"] == ["b"]
    assert merged["spec"]["strategy"] == {"type": "Recreate"}
    assert merged["spec"]["template"]["spec"]["containers"] == [{"name": "c", "command": ["z"]}]


def test_strategic_merge_orders_as_told(deployment_node):
    current = deployment({"name": "a"}, {"name": "b"})
    patch = deployment({"name": "c"})
    patch["spec"]["template"]["spec"]["$setElementOrder/containers"] = [{"name": "c"}, {"name": "a"}]
    names = [
        c["name"] for c in strategic_merge(current, patch, deployment_node)["spec"]["template"]["spec"]["containers"]
    ]
    assert names == ["c", "a", "b"]


def test_strategic_merge_wants_the_merge_key(deployment_node):
    with pytest.raises(BadRequest, match="lacks its merge key 'name'"):
        strategic_merge(deployment(), deployment({"image": "x"}), deployment_node)
