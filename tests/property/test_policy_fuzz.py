"""Parsers of policies get what nobody would write: whatever it is, the answer is a row, with rules or with the field
that is wrong, and it comes soon."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property.effort import examples
from property.policy_node import DECODERS
from property.policy_world import policies

from cilium.tables.rules import PolicyObject

PATH = re.compile(r"(spec|specs\[(\d+|\.\.\.)\]|metadata|object)([.\[].*)?", re.DOTALL)
relaxed = settings(max_examples=examples(600), deadline=None, suppress_health_check=list(HealthCheck))

ODD = (
    "", "²", "٣", "9" * 5000, "0" * 5000, "-1", "0x10", "1e3", "65536", "10.0.0.0/255.0.0.0", "fe80::1%e/64",
    "::ffff:10.0.0.1", "a" * 300, "\x00", "any:", ":x", "reserved:", "k8s:a/b/c", "host", "*", "\U0001f4a5",
)  # fmt: skip
odd_texts = st.text(max_size=20) | st.sampled_from(ODD)
odd_numbers = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from((-1, 2**63, 2**64, 10**30, 65536, 256))
)
leaves = st.one_of(st.none(), st.booleans(), odd_numbers, odd_texts)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_texts, inner, max_size=4), max_leaves=8
)
FIELDS = (
    "endpointSelector", "nodeSelector", "ingress", "egressDeny", "fromEndpoints", "toCIDRSet", "toPorts", "icmps",
    "fields", "matchLabels", "matchExpressions", "key", "operator", "values", "cidr", "except", "cidrGroupRef", "port",
    "endPort", "protocol", "rules", "http", "dns", "toFQDNs", "toServices", "authentication", "mode", "specs",
    "podSelector",
    "namespaceSelector", "ipBlock", "policyTypes", "labels", "enableDefaultDeny", "nonsense",
    "tier", "priority", "subject", "namespaces", "pods", "networks", "domainNames", "action", "protocols",
    "destinationPort",
)  # fmt: skip


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below `document`."""
    keys: Any = document.keys() if isinstance(document, dict) else range(len(document))
    for key in list(keys):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from places(document[key])


def take_away(draw: Any, where: Any, key: Any) -> None:
    del where[key]


def put(draw: Any, where: Any, key: Any) -> None:
    where[key] = draw(values)


def add(draw: Any, where: Any, key: Any) -> None:
    if isinstance(where, dict):
        where[draw(st.sampled_from(FIELDS))] = draw(values)
    else:
        where.insert(key, draw(values))


def repeat(draw: Any, where: Any, key: Any) -> None:
    where[key] = [where[key]] * draw(st.sampled_from((2, 41, 300)))


def bury(draw: Any, where: Any, key: Any) -> None:
    wrap: Callable[[Any], Any] = draw(st.sampled_from((lambda inner: [inner], lambda inner: {"rules": inner})))
    for _ in range(draw(st.sampled_from((1, 50, 400)))):
        where[key] = wrap(where[key])


@st.composite
def mutants(draw: st.DrawFn) -> dict[str, Any]:
    """A policy with some places changed."""
    document = json.loads(json.dumps(draw(policies())))
    kind = document["kind"]
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(document))
        if found:
            change: Callable[[Any, Any, Any], None] = draw(
                st.sampled_from((take_away, put, put, add, add, repeat, bury))
            )
            change(draw, *draw(st.sampled_from(found)))
    return {**document, "kind": kind}


def judge(policy: PolicyObject) -> None:
    """Rules, or an error that names a field; never both, never neither."""
    assert isinstance(policy, PolicyObject)
    if not policy.error:
        assert policy.rules
        return
    assert policy.rules == ()
    path, colon, reason = policy.error.partition(": ")
    assert colon, policy.error
    assert reason
    assert PATH.fullmatch(path), policy.error


@relaxed
@given(mutants())
def test_every_mutant_is_a_row(document: dict[str, Any]) -> None:
    judge(DECODERS[document["kind"]](json.dumps(document).encode()))


@relaxed
@given(policies(), st.data())
def test_every_damage_is_a_row(document: dict[str, Any], data: st.DataObject) -> None:
    raw = bytearray(msgspec.json.encode(document))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    judge(DECODERS[document["kind"]](bytes(raw)))


def document(**spec: Any) -> bytes:
    return json.dumps({"metadata": {"name": "p", "namespace": "n"}, "spec": {"endpointSelector": {}, **spec}}).encode()


def ingress(**element: Any) -> bytes:
    return document(ingress=[element])


def deep(field: bytes, opening: bytes, closing: bytes) -> bytes:
    nested = opening * 100_000 + b"1" + closing * 100_000
    return b'{"metadata":{"name":"p"},"spec":{"endpointSelector":{},"ingress":[{"' + field + b'":' + nested + b"}]}}"


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (
            ingress(toPorts=[{"ports": [{"port": "9" * 5000}]}]),
            "spec.ingress[0].toPorts[0].ports[0].port: 65536 is not",
        ),
        (
            ingress(toPorts=[{"ports": [{"port": "07" * 5000}]}]),
            "spec.ingress[0].toPorts[0].ports[0].port: 65536 is not",
        ),
        (ingress(icmps=[{"fields": [{"type": "²"}]}]), "spec.ingress[0].icmps[0].fields[0].type: '²' is not an ICMP"),
        (ingress(icmps=[{"fields": [{"type": "9" * 5000}]}]), "spec.ingress[0].icmps[0].fields[0].type: '999"),
        (ingress(fromCIDR=["10.0.0.0/255.0.0.0"]), "spec.ingress[0].fromCIDR[0]: '10.0.0.0/255.0.0.0' is not a CIDR"),
        (ingress(fromCIDR=["10.0.0.0/0.0.0.255"]), "spec.ingress[0].fromCIDR[0]: '10.0.0.0/0.0.0.255' is not a CIDR"),
        (ingress(fromCIDR=["fe80::1%eth0/64"]), "spec.ingress[0].fromCIDR[0]: 'fe80::1%eth0/64' is not a CIDR"),
        (ingress(fromCIDR=["10.0.0.0/08"]), "spec.ingress[0].fromCIDR[0]: '10.0.0.0/08' is not a CIDR"),
        (deep(b"toPorts", b"[", b"]"), "object: is nested too deeply"),
        (deep(b"unknown", b'{"a":', b"}"), "object: is nested too deeply"),
        (b'{"metadata":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "object: is nested too deeply"),
        (b'{"metadata":{"name":"p"},"spec":{"\x80":1}}', "object: "),
    ],
)
def test_found_by_fuzzing(raw: bytes, error: str) -> None:
    policy = DECODERS["CiliumNetworkPolicy"](raw)
    assert policy.error.startswith(error)
    judge(policy)


def many(make: Callable[[int], Any], count: int = 20_000) -> list[Any]:
    return [make(number) for number in range(count)]


@pytest.mark.parametrize(
    "raw",
    [
        ingress(fromEndpoints=many(lambda n: {"matchLabels": {"a": str(n)}})),
        ingress(fromCIDRSet=[{"cidr": "10.0.0.0/8", "except": many(lambda n: f"10.{n >> 8}.{n & 255}.0/24")}]),
        ingress(toPorts=many(lambda n: {"ports": [{"port": "80"}]})),
        document(
            endpointSelector={
                "matchExpressions": many(
                    lambda n: {"key": "k8s:io.kubernetes.pod.namespace", "operator": "In", "values": [f"v{n}"]}
                )
            },
            ingress=[{}],
        ),
        json.dumps({"metadata": {}, "specs": many(lambda n: {"endpointSelector": {}, "ingress": [{}]})}).encode(),
        b'{"metadata":{},"spec":{"' + b"- at `" * 200_000 + b'":1}}',
        ingress(fromEntities=["x" * 1_000_000]),
        document(endpointSelector={"matchLabels": {"a/" + "b" * 1_000_000: "v"}}, ingress=[{}]),
        ingress(toPorts=[{"ports": [{"port": "a-" * 500_000}]}]),
    ],
    ids=("peers", "excepts", "ports", "namespaces", "specs", "field name", "entity", "label", "port name"),
)
def test_as_much_as_the_api_takes_is_read_soon(raw: bytes) -> None:
    """Around a megabyte, in CPU time: what grows with the square takes minutes."""
    begin = time.process_time()
    policy = DECODERS["CiliumNetworkPolicy"](raw)
    assert time.process_time() - begin < 2
    judge(policy)
    assert len(policy.error) < 1200
