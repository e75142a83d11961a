"""x-kubernetes-validations of CRDs: what they see, what they say, and when they are asked."""

import copy

import pytest

from kubelab.apiserver import errors
from kubelab.apiserver.strategies.definitions import CRDS
from kubelab.apiserver.users import WARNINGS

GATES = "gates.demo.io"


def definition(spec, *, rules=(), subresources=True):
    root = {"type": "object", "properties": {"spec": {"type": "object", **spec}, "status": {"type": "object"}}}
    root["properties"]["status"]["properties"] = {"seen": {"type": "integer"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": root}}
    if rules:
        root["x-kubernetes-validations"] = list(rules)
    if subresources:
        version["subresources"] = {"status": {}}
    names = {"plural": "gates", "kind": "Gate"}
    spec = {"group": "demo.io", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": GATES}, "spec": spec}


@pytest.fixture
def serve(store):
    async def make(properties, *rules, root=(), **more):
        spec = {"properties": properties, "x-kubernetes-validations": list(rules), **more}
        return await store.create(CRDS, definition(spec, rules=root))

    return make


async def write(store, name="g", **spec):
    return await store.create(GATES, {"metadata": {"name": name}, "spec": spec}, namespace="default")


async def causes(store, name="g", **spec):
    with pytest.raises(errors.Invalid) as refused:
        await write(store, name, **spec)
    return {(cause.field, cause.reason): cause.message for cause in refused.value.causes}


async def test_a_rule_refuses_in_its_own_words(store, serve):
    await serve(
        {"min": {"type": "integer"}, "max": {"type": "integer"}, "ratio": {"type": "number"}},
        {"rule": "self.min <= self.max", "message": "min is larger than max"},
        {"rule": "!has(self.ratio) || self.ratio < 1.0"},
        {
            "rule": "self.max < 100",
            "messageExpression": "'max is ' + string(self.max)",
            "reason": "FieldValueForbidden",
            "fieldPath": ".max",
        },
    )
    await write(store, min=1, max=2, ratio=0)
    assert await causes(store, "a", min=2, max=1) == {
        ("spec", "FieldValueInvalid"): 'Invalid value: "object": min is larger than max'
    }
    with pytest.raises(errors.Invalid, match=r'Gate\.demo\.io "b" is invalid: spec: Invalid value: "object": min is'):
        await write(store, "b", min=2, max=1)
    found = await causes(store, "c", min=1, max=100, ratio=1)
    assert found[("spec.max", "FieldValueForbidden")] == "Forbidden: max is 100"
    assert found[("spec", "FieldValueInvalid")] == (
        'Invalid value: "object": failed rule: !has(self.ratio) || self.ratio < 1.0'
    )
    assert "no such key: max evaluating rule" in (await causes(store, "d", min=1))[("spec", "FieldValueInvalid")]


async def test_values_have_the_types_of_their_schema(store, serve):
    await serve(
        {
            "from": {"type": "string", "format": "date-time"},
            "every": {"type": "string", "format": "duration"},
            "key": {"type": "string", "format": "byte"},
            "namespace": {"type": "string"},
            "a-b": {"type": "string"},
            "size": {"x-kubernetes-int-or-string": True},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "memory": {"type": "string"},
            "pods": {"type": "string"},
        },
        {"rule": "self.from > timestamp('2020-01-01T00:00:00Z')"},
        {"rule": "self.every >= duration('1h')"},
        {"rule": "size(self.key) == 3"},
        {"rule": "self.__namespace__ != self.a__dash__b"},
        {"rule": "type(self.size) == string ? self.size.endsWith('%') : self.size > 0"},
        {"rule": "self.labels.all(name, name.matches('^[a-z-]+$')) && self.labels['x-y'] == 'z'"},
        {"rule": "quantity(self.memory).isLessThan(quantity('2Gi'))"},
        {"rule": "isCIDR(self.pods) && cidr(self.pods).containsIP('fd00::1')"},
    )
    good = {
        "from": "2024-02-03T04:05:06Z",
        "every": "1h30m",
        "key": "YWJj",
        "namespace": "x",
        "a-b": "y",
        "size": "10%",
        "labels": {"x-y": "z"},
        "memory": "512Mi",
        "pods": "fd00::/8",
    }
    await write(store, **good)
    for name, value in (
        ("from", "2019-01-01T00:00:00Z"),
        ("every", "59m"),
        ("key", "YQ=="),
        ("namespace", "y"),
        ("size", 0),
        ("labels", {"X": "z"}),
        ("memory", "2Gi"),
        ("pods", "10.0.0.0/8"),
    ):
        assert ("spec", "FieldValueInvalid") in await causes(store, "bad", **{**good, name: value}), name


async def test_transition_rules_judge_changes_of_what_can_be_found_again(store, serve):
    entry = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
        "required": ["name"],
        "x-kubernetes-validations": [{"rule": "self.port == oldSelf.port", "message": "port is immutable"}],
    }
    keyed = {"type": "array", "items": entry, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    fixed = {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]}
    optional = {"rule": "oldSelf.hasValue() || self.fixed != 'never'", "optionalOldSelf": True}
    await serve({"listeners": keyed, "fixed": fixed}, optional)
    made = await write(store, listeners=[{"name": "a", "port": 1}, {"name": "b", "port": 2}], fixed="x")

    async def change(**spec):
        return await store.update(GATES, {**made, "spec": {**made["spec"], **spec}})

    with pytest.raises(errors.Invalid, match=r'spec\.fixed: Invalid value: "string": is immutable'):
        await change(fixed="y")
    moved = [{"name": "b", "port": 2}, {"name": "c", "port": 9}, {"name": "a", "port": 7}]
    with pytest.raises(errors.Invalid, match=r'spec\.listeners\[2\]: Invalid value: "object": port is immutable'):
        await change(listeners=moved)
    moved[2]["port"] = 1
    made = await change(listeners=moved)
    assert [entry["name"] for entry in made["spec"]["listeners"]] == ["b", "c", "a"]
    assert ("spec", "FieldValueInvalid") in await causes(store, "other", fixed="never")


async def test_rules_see_the_whole_object_also_when_its_status_is_written(store, serve):
    rule = {"rule": "!has(self.status) || self.status.seen <= self.spec.size", "message": "more than there is"}
    name = {"rule": "self.metadata.name.startsWith('g')", "message": "not that name"}
    await serve({"size": {"type": "integer"}}, root=(rule, name))
    await write(store, size=2)
    await store.patch(GATES, "g", {"status": {"seen": 2}}, namespace="default", subresource="status")
    with pytest.raises(errors.Invalid) as refused:
        await store.patch(GATES, "g", {"status": {"seen": 3}}, namespace="default", subresource="status")
    assert refused.value.causes[0].message == 'Invalid value: "object": more than there is'
    assert refused.value.causes[0].field == "<nil>"
    assert ("<nil>", "FieldValueInvalid") in await causes(store, "other", size=1)


async def test_what_was_wrong_before_may_stay(store, serve):
    """Ratcheting: a new rule does not make old objects unwritable."""
    crd = await serve({"mode": {"type": "string"}, "note": {"type": "string"}})
    made = await write(store, mode="old")
    stricter = copy.deepcopy(crd)
    schema = stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rule = {"rule": "self != 'old'", "message": "out of fashion"}
    schema["properties"]["mode"]["x-kubernetes-validations"] = [rule]
    await store.update(CRDS, stricter)
    said = []
    token = WARNINGS.set(said)
    try:
        await store.update(GATES, {**made, "spec": {"mode": "old", "note": "x"}})
    finally:
        WARNINGS.reset(token)
    assert said == ['spec.mode: Invalid value: "string": out of fashion']
    with pytest.raises(errors.Invalid, match="out of fashion"):
        await write(store, "new", mode="old")


async def test_rules_are_not_asked_about_what_has_the_wrong_shape(store, serve):
    await serve({"size": {"type": "integer"}}, {"rule": "self.size > 1"}, required=["size"])
    found = await causes(store)
    assert set(found) == {("spec.size", "FieldValueRequired"), ("<nil>", "FieldValueInvalid")}
    assert (
        "some validation rules were not checked because the object was invalid" in found["<nil>", "FieldValueInvalid"]
    )


@pytest.mark.parametrize(
    ("rule", "field", "words"),
    [
        ({"rule": "self.size >"}, "rule", "compilation failed: ERROR: <input>:1:12: Syntax error"),
        ({"rule": "other.size > 1"}, "rule", "undeclared reference to 'other.size'"),
        ({"rule": "size(self)"}, "rule", "must evaluate to a bool"),
        ({"rule": "'a' + 1 == 'a1'"}, "rule", "found no matching overload for '_+_' applied to '(string, int)'"),
        ({"rule": ""}, "rule", "rule is not specified"),
        ({"rule": "true", "messageExpression": "1"}, "messageExpression", "must evaluate to a string"),
    ],
)
async def test_a_definition_with_a_broken_rule_is_refused(serve, rule, field, words):
    with pytest.raises(errors.Invalid) as refused:
        await serve({"size": {"type": "integer"}}, rule)
    (cause,) = refused.value.causes
    place = "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]"
    assert cause.field == f"{place}.{field}"
    assert words in cause.message


async def test_a_rule_that_this_server_cannot_know_is_said_and_let_be(store, serve):
    said = []
    token = WARNINGS.set(said)
    try:
        await serve(
            {"sizes": {"type": "array", "items": {"type": "integer"}}},
            {"rule": "self.sizes.all(i, v, v > i)"},
            {"rule": "self.sizes.all(v, v > 0)", "message": "too small"},
        )
    finally:
        WARNINGS.reset(token)
    assert "is not enforced: this server does not know comprehensions of two variables" in said[0]
    await write(store, sizes=[1, 1])
    assert ("spec", "FieldValueInvalid") in await causes(store, "zero", sizes=[0])
