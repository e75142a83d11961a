"""Request bodies: encodings, unknown fields, wrong types."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelab.apiserver.decoding import Cleaner, Decoder, decode
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
    with pytest.raises(UnsupportedMediaType, match="application/xml"):
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


@pytest.mark.parametrize("replicas", ["3", 1.5, True, [3]])
def test_wrong_types_are_refused_with_the_path(replicas):
    node = Schemas().node("apps", "v1", "Deployment")
    with pytest.raises(BadRequest, match=r"spec.replicas: want integer"):
        Cleaner("Deployment").clean({"spec": {"replicas": replicas}}, node)
