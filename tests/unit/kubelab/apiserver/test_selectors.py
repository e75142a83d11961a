"""Selectors and paths."""

import pytest

from kubelab.apiserver import jsonpath, selectors
from kubelab.apiserver.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "db"}, False),
        ("app!=web", {}, True),
        ("app in (web, db),tier", {"app": "db", "tier": "x"}, True),
        ("app in (web, db),tier", {"app": "db"}, False),
        ("app notin (web)", {"app": "web"}, False),
        ("!app", {"tier": "x"}, True),
        ("k8s.io/name=a.b_c", {"k8s.io/name": "a.b_c"}, True),
        ("n>3", {"n": "4"}, True),
        ("n>3", {"n": "four"}, False),
        ("app=", {"app": ""}, True),
    ],
)
def test_label_selectors(text, labels, expected):
    assert selectors.parse_labels(text).matches(labels) is expected


@pytest.mark.parametrize("text", ["a in b", "=x", "a=b=c", "a in (b", "-bad=1"])
def test_label_selectors_that_cannot_be_read(text):
    with pytest.raises(BadRequest):
        selectors.parse_labels(text)


def test_selector_structs():
    spec = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["b", "a"]},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    }
    parsed = selectors.from_spec(spec)
    assert parsed is not None
    assert parsed.matches({"app": "web", "tier": "a"})
    assert not parsed.matches({"app": "web", "tier": "a", "old": ""})
    assert selectors.to_text(spec) == "app=web,tier in (a,b),!old"
    assert selectors.from_spec(None) is None


OBJECT = {
    "spec": {"list": [{"n": 1}, {"n": 2}], "a.b": "dotted"},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Idle", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".spec.list[0].n", [1]),
        (".spec.list[-1].n", [2]),
        (".spec.list[*].n", [1, 2]),
        ("{.spec.list[5].n}", []),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type!='Ready')].status", ["False"]),
        (".spec['a.b']", ["dotted"]),
        (".spec.a\\.b", ["dotted"]),
        (".absent.deeper", []),
    ],
)
def test_json_paths(path, expected):
    assert jsonpath.find(OBJECT, path) == expected


def test_a_path_that_cannot_be_read_is_named():
    with pytest.raises(ValueError, match=r"cannot read '\[\?"):
        jsonpath.find({}, ".a[?(bad)]")
