"""What `kubectl explain` says of built-in kinds: everything, and nothing about what is not there."""

import re
from pathlib import Path

import pytest

import kubelab
from kubelab.apiserver.builtins import builtin_resources
from kubelab.apiserver.openapi.descriptions import TYPE_META, Descriptions
from kubelab.apiserver.schemas import Schemas

KUBELAB = Path(kubelab.__file__).parent
NOT_DONE = re.compile(r"([Nn]ot acted upon in a lab|[Nn]ot mounted in a lab|A lab does not set it)\.")
GVK = "x-kubernetes-group-version-kind"
POD_SPEC = "io.k8s.api.core.v1.PodSpec"


@pytest.fixture(scope="module")
def descriptions() -> Descriptions:
    return Descriptions()


@pytest.fixture(scope="module")
def definitions():
    return dict(Schemas().items())


def test_every_definition_and_every_field_has_a_description(descriptions, definitions):
    missing = []
    for name, schema in definitions.items():
        described = descriptions.described(name, schema)
        fields = described.get("properties") or {}
        missing += [] if described.get("description") else [name]
        missing += [f"{name}.{field}" for field, child in fields.items() if not child.get("description")]
    assert not missing, f"write what they mean into openapi/descriptions: {missing}"


def test_no_description_is_of_something_that_is_not_there(descriptions, definitions):
    unknown = []
    for name, entry in descriptions.entries.items():
        if name == TYPE_META:
            continue
        fields = definitions.get(name, {}).get("properties") or {}
        unknown += [] if name in definitions else [name]
        unknown += [f"{name}.{field}" for field in entry.get("properties", {}) if field not in fields]
        unknown += [f"{name}: like {entry['like']}"] if entry.get("like", name) not in definitions else []
        unknown += [f"{name}.{key}" for key in entry.keys() - {"description", "like", "properties"}]
    assert not unknown


def test_texts_are_sentences(descriptions):
    """With a capital and a full stop: none was cut off by the syntax of its file."""
    odd = []
    for name, entry in descriptions.entries.items():
        for field, found in {"": entry.get("description"), **entry.get("properties", {})}.items():
            text = found["description"] if isinstance(found, dict) else found
            if text is not None and (text[0].islower() or not text.endswith(".") or "  " in text):
                odd.append(f"{name}.{field}: {text}")
    assert not odd


def test_enums_are_of_strings_and_listed_in_the_text(descriptions, definitions):
    seen = 0
    for name, entry in descriptions.entries.items():
        for field, text in entry.get("properties", {}).items():
            if isinstance(text, str):
                continue
            schema = definitions[name]["properties"][field]
            described = descriptions.described(name, definitions[name])["properties"][field]
            values = described["items"]["enum"] if schema["type"] == "array" else described["enum"]
            assert schema.get("items", schema)["type"] == "string", f"{name}.{field}"
            assert values == sorted(text["enum"])
            assert all(f' - `"{value}"`' in described["description"] for value in values)
            seen += 1
    assert seen > 80


def test_what_a_lab_does_not_do_it_does_not_do(descriptions):
    """A field of which all texts say so is nowhere in kubelets and controllers. Who adds it there changes the text."""
    claims: dict[str, set[bool]] = {}
    for entry in descriptions.entries.values():
        for field, found in entry.get("properties", {}).items():
            text = found["description"] if isinstance(found, dict) else found
            claims.setdefault(field, set()).add(NOT_DONE.search(text) is not None)
    idle = sorted(field for field, said in claims.items() if said == {True})
    assert "hostUsers" in idle
    code = "".join(file.read_text() for room in ("kubelet", "controllers") for file in (KUBELAB / room).rglob("*.py"))
    done = [field for field in idle if f'"{field}"' in code]
    assert not done, f"their texts in openapi/descriptions say that a lab does nothing with them: {done}"


def test_one_field_in_full(descriptions, definitions):
    field = descriptions.described(POD_SPEC, definitions[POD_SPEC])["properties"]["restartPolicy"]
    assert field["enum"] == ["Always", "Never", "OnFailure"]
    assert field["description"].splitlines()[:4] == [
        "What happens to a container that ends.",
        "",
        "Possible enum values:",
        ' - `"Always"` it is started again. The default',
    ]


def test_all_kinds_say_what_apiversion_kind_and_metadata_are(descriptions):
    schema = {"properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string", "description": "Own."}}}
    described = descriptions.described("io.demo.v1.Widget", {**schema, GVK: [{}]})["properties"]
    assert "group/version" in described["apiVersion"]["description"]
    assert described["kind"]["description"] == "Own."
    assert "description" not in descriptions.described("io.demo.v1.Part", schema)["properties"]["apiVersion"]


def test_schemas_themselves_stay_without_prose(definitions):
    """Decoding and validation have no use for it; an idle server does not hold it."""
    assert not any("description" in schema for schema in definitions.values())
    assert "enum" not in definitions[POD_SPEC]["properties"]["restartPolicy"]


def test_every_resource_has_a_definition():
    schemas = Schemas()
    for resource in builtin_resources():
        for version in resource.versions:
            assert schemas.node(resource.group, version, resource.kind), resource.key
