"""Request bodies: encodings, unknown fields, wrong types."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelab.apiserver.decoding import Cleaner, Decoder, decode, decode_apply, duplicates
from kubelab.apiserver.errors import ApiError, BadRequest, UnsupportedMediaType
from kubelab.apiserver.protobuf import MEDIA_TYPE, ProtobufDecoder
from kubelab.apiserver.schemas import Schemas

DECODER = ProtobufDecoder()


def field(number: int, value: bytes | int | str) -> bytes:
    """One protobuf field, written by hand from the encoding's documentation."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def envelope(version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, version) + field(2, kind)) + field(2, raw)


def test_a_config_map_in_protobuf():
    metadata = field(1, "c") + field(3, "") + field(8, b"") + field(11, field(1, "app") + field(2, "web"))
    body = envelope(
        "v1",
        "ConfigMap",
        field(1, metadata) + field(2, field(1, "k") + field(2, "")) + field(3, field(1, "b") + field(2, b"\xff")),
    )
    assert DECODER.decode(body) == {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "c", "labels": {"app": "web"}},
        "data": {"k": ""},
        "binaryData": {"b": "/w=="},
    }


def test_numbers_quantities_times_and_inlined_fields_in_protobuf():
    port = field(1, "http") + field(2, "TCP") + field(3, 80) + field(4, field(1, 1) + field(2, 0) + field(3, "web"))
    body = envelope(
        "v1", "Service", field(1, field(1, "s") + field(8, field(1, 1_700_000_000))) + field(2, field(1, port))
    )
    decoded = DECODER.decode(body)
    assert decoded["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert decoded["spec"]["ports"] == [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web"}]


def test_a_pointer_keeps_its_zero():
    decoded = DECODER.decode(envelope("v1", "DeleteOptions", field(1, 0)))
    assert decoded["gracePeriodSeconds"] == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"k8s\x00\xff", b"{}", envelope("v1", "Pod", b"\x0a\xff"), envelope("v1", "Pod", field(1, 7))],
)
def test_malformed_protobuf_is_refused(body):
    with pytest.raises(ApiError) as caught:
        DECODER.decode(body)
    assert caught.value.code in (400, 415)


@given(st.binary(max_size=200))
def test_no_protobuf_body_breaks_the_decoder(raw):
    try:
        DECODER.decode(envelope("v1", "Pod", raw))
    except BadRequest:
        return


def test_other_encodings():
    decoder = Decoder()
    assert decoder.object(b'{"kind": "Pod"}', "application/json; charset=utf-8") == {"kind": "Pod"}
    assert decoder.object(b"kind: Pod", "application/yaml") == {"kind": "Pod"}
    with pytest.raises(UnsupportedMediaType, match="accepted media types include: application/json, application/yaml"):
        decode(b"<x/>", "application/xml")
    with pytest.raises(BadRequest):
        decoder.object(b"[]", "application/json")
    with pytest.raises(BadRequest):
        decode(b"{", "application/json")
    with pytest.raises(UnsupportedMediaType, match="Widget"):
        decoder.object(envelope("demo.io/v1", "Widget", b""), MEDIA_TYPE)


def test_unknown_fields_are_listed_and_dropped_and_nulls_go():
    node = Schemas().node("apps", "v1", "Deployment")
    cleaner = Cleaner("Deployment")
    body = {
        "metadata": {"name": "a", "creationTimestamp": None},
        "spec": {"replica": 1, "template": {"spec": {"containers": [{"name": "c", "imag": "x"}]}}},
    }
    assert cleaner.clean(body, node) == {
        "metadata": {"name": "a"},
        "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}},
    }
    assert cleaner.unknown == ["spec.replica", "spec.template.spec.containers[0].imag"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"replicas": "3"},
            "unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"replicas": 1.5},
            "unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        ({"replicas": True}, "cannot unmarshal bool into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (
            {"template": []},
            "array into Go struct field DeploymentSpec.spec.template of type v1.PodTemplateSpec",
        ),
        (
            {"template": {"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}}},
            "string into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
        ),
        (
            {"template": {"metadata": {"labels": {"a": 1}}}},
            "cannot unmarshal number into Go struct field ObjectMeta.spec.template.metadata.labels of type string",
        ),
        (
            {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "lots"}}}]}}},
            r"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            {"template": {"spec": {"containers": [{"resources": {"limits": {"memory": "1e"}}}]}}},
            "unable to parse quantity's suffix",
        ),
    ],
)
def test_wrong_types_are_refused_in_the_words_of_the_real_server(spec, message):
    node = Schemas().node("apps", "v1", "Deployment")
    with pytest.raises(BadRequest) as caught:
        Cleaner("Deployment").clean({"spec": spec}, node)
    assert caught.value.message.startswith('Deployment in version "v1" cannot be handled as a Deployment: ')
    assert caught.value.message.endswith(message)


def test_amounts_of_resources_are_kept_in_the_canonical_form_and_other_quantities_as_written():
    resources = {"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": 0.0001, "example.com/x": 2}}
    spec = {"containers": [{"resources": resources}], "volumes": [{"emptyDir": {"sizeLimit": "1024Mi"}}]}
    kept = Cleaner("Pod").clean({"spec": spec}, Schemas().node("", "v1", "Pod"))["spec"]
    assert kept["containers"][0]["resources"] == {
        "limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "1m", "example.com/x": "2"}
    }  # fmt: skip
    assert kept["volumes"] == spec["volumes"]


def test_fields_that_stand_twice_are_told():
    body = b'{"a": {"b": 1, "b": 2, "c": ["x:y", {"d": 1, "d": 1}]}, "a": {"b": 1, "b": 3}}'
    assert duplicates(body, "application/json") == ['duplicate field "a"', 'duplicate field "a.b"']
    assert duplicates(b'{"a": ":", "b": {"c": 1}}', "application/json") == []
    value, faults = decode_apply(b"a: 1\nb:\n  c: 2020-01-01\n  c: 2\n")
    assert value == {"a": 1, "b": {"c": 2}}
    assert faults == ['yaml: unmarshal errors:\n  line 4: key "c" already set in map']
    assert decode(b"day: 2020-01-01", "application/yaml") == {"day": "2020-01-01"}
