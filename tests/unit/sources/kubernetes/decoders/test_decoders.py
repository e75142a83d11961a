"""Objects as the API serves them become rows, and the odd ones are refused by field."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest

from cilium.sources.kubernetes.decoders import (
    decode_cilium_endpoint,
    decode_cilium_identity,
    decode_cilium_node,
    decode_kube_apiservers,
    decode_namespace,
    decode_node,
    decode_pod,
)
from cilium.sources.kubernetes.errors import ObjectError
from cilium.tables.kubernetes import (
    CiliumEndpoint,
    CiliumIdentity,
    CiliumNode,
    HostPort,
    KubeApiservers,
    KubeNode,
    NamedPort,
    Namespace,
    Pod,
)
from cilium.tables.types import Identity


def encode(**body: Any) -> bytes:
    return msgspec.json.encode(body)


def test_pod_in_full() -> None:
    raw = encode(
        metadata={
            "name": "web-5d4f-x",
            "namespace": "shop",
            "uid": "u",
            "labels": {"app": "web", "pod-template-hash": "5d4f"},
            "annotations": {"a": "b"},
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-5d4f", "uid": "r", "controller": True}],
            "managedFields": [{"manager": "whoever"}],
        },
        spec={
            "nodeName": "n1",
            "serviceAccountName": "shop",
            "hostNetwork": True,
            "containers": [
                {"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}]},
                {"ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
            ],
            "initContainers": [
                {"ports": [{"name": "once", "containerPort": 1}]},
                {"restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 15001}]},
            ],
        },
        status={"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    )
    assert decode_pod(raw) == Pod(
        namespace="shop",
        name="web-5d4f-x",
        uid="u",
        node="n1",
        labels={"app": "web", "pod-template-hash": "5d4f"},
        annotations={"a": "b"},
        service_account="shop",
        host_network=True,
        phase="Running",
        ips=(ip_address("10.0.0.1"), ip_address("fd00::1")),
        named_ports=(
            NamedPort("http", 80, "TCP"),
            NamedPort("dns", 53, "UDP"),
            NamedPort("mesh", 15001, "TCP"),
        ),
        workload_kind="Deployment",
        workload_name="web",
        deleting=True,
    )


def test_pod_with_host_ports() -> None:
    """When it was created is kept for those alone; a pod in its node's network needs no help to be reached there."""
    ports = [
        {"containerPort": 80, "hostPort": 8080},
        {"containerPort": 53, "hostPort": 53, "hostIP": "192.0.2.1", "protocol": "UDP"},
        {"containerPort": 81, "hostPort": 0},
    ]
    metadata = {"name": "p", "namespace": "d", "creationTimestamp": "2026-01-01T00:00:00Z"}
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]
    body = {"metadata": metadata, "status": {"phase": "Running", "conditions": conditions}}
    pod = decode_pod(encode(**body, spec={"containers": [{"ports": ports}]}))
    assert pod.host_ports == (HostPort(8080, 80, "TCP"), HostPort(53, 53, "UDP", "192.0.2.1"))
    assert pod.created == "2026-01-01T00:00:00Z"
    assert pod.ready
    bare = decode_pod(encode(**body, spec={"containers": [{"ports": ports[2:]}]}))
    assert (bare.host_ports, bare.created) == ((), "")
    native = decode_pod(encode(**body, spec={"hostNetwork": True, "containers": [{"ports": ports}]}))
    assert native.host_ports == ()


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_a_pod_that_is_not_ready(status: str) -> None:
    conditions = [{"type": "Ready", "status": status}]
    assert not decode_pod(encode(metadata={"name": "p"}, status={"conditions": conditions})).ready


def test_pod_that_is_just_created() -> None:
    pod = decode_pod(encode(metadata={"name": "p", "namespace": "d", "labels": None}, spec={}, status={}))
    assert (pod.node, pod.ips, pod.service_account, pod.workload_kind, pod.workload_name) == (
        "",
        (),
        "default",
        "Pod",
        "p",
    )


@pytest.mark.parametrize(
    ("owner", "labels", "workload"),
    [
        ({"kind": "ReplicaSet", "name": "web-5d4f"}, {"pod-template-hash": "5d4f"}, ("Deployment", "web")),
        ({"kind": "ReplicaSet", "name": "bare"}, {}, ("ReplicaSet", "bare")),
        ({"kind": "StatefulSet", "name": "db"}, {}, ("StatefulSet", "db")),
        ({"kind": "Job", "name": "backup-29123456"}, {}, ("CronJob", "backup")),
        ({"kind": "Job", "name": "once"}, {}, ("Job", "once")),
        ({"kind": "Node", "name": "n1"}, {}, ("Node", "n1")),
    ],
)
def test_workload(owner: dict[str, str], labels: dict[str, str], workload: tuple[str, str]) -> None:
    other = {"kind": "Gang", "name": "g", "uid": "g"}
    references = [other, {**owner, "uid": "o", "controller": True}]
    pod = decode_pod(encode(metadata={"name": "p", "labels": labels, "ownerReferences": references}))
    assert (pod.workload_kind, pod.workload_name) == workload


def test_namespace_and_node() -> None:
    assert decode_namespace(encode(metadata={"name": "d", "labels": {"a": "b"}})) == Namespace("d", {"a": "b"}, {})
    raw = encode(
        metadata={"name": "n1"},
        spec={"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]},
        status={
            "addresses": [
                {"type": "Hostname", "address": "n1"},
                {"type": "InternalIP", "address": "192.168.0.1"},
                {"type": "InternalIP", "address": "fd00::1"},
            ]
        },
    )
    assert decode_node(raw) == KubeNode(
        name="n1",
        labels={},
        annotations={},
        internal_ips=(ip_address("192.168.0.1"), ip_address("fd00::1")),
        pod_cidrs=(ip_network("10.1.0.0/24"), ip_network("fd00:1::/64")),
    )
    lone = decode_node(encode(metadata={"name": "n1"}, spec={"podCIDR": "10.1.0.0/24"}))
    assert lone.pod_cidrs == (ip_network("10.1.0.0/24"),)
    assert decode_node(encode(metadata={"name": "n1"})).pod_cidrs == ()


def test_cilium_node() -> None:
    raw = encode(
        metadata={"name": "n1", "labels": {"zone": "a"}},
        spec={
            "addresses": [
                {"type": "InternalIP", "ip": "192.168.0.1"},
                {"type": "CiliumInternalIP", "ip": "10.1.0.5"},
                {"type": "CiliumInternalIP", "ip": "fd00:1::5"},
            ],
            "health": {"ipv4": "10.1.0.9"},
            "ipam": {"podCIDRs": ["10.1.0.0/24"], "pools": {}},
            "bootid": "b",
        },
    )
    assert decode_cilium_node(raw) == CiliumNode(
        name="n1",
        labels={"zone": "a"},
        internal_ips=(ip_address("192.168.0.1"),),
        router_ips=(ip_address("10.1.0.5"), ip_address("fd00:1::5")),
        health_ips=(ip_address("10.1.0.9"),),
        pod_cidrs=(ip_network("10.1.0.0/24"),),
        boot_id="b",
    )
    assert decode_cilium_node(encode(metadata={"name": "new"})).pod_cidrs == ()


def test_cilium_endpoint() -> None:
    metadata = {"name": "p", "namespace": "d", "ownerReferences": [{"kind": "Pod", "name": "p", "uid": "u"}]}
    status = {
        "id": 7,
        "identity": {"id": 4711, "labels": ["k8s:b=2", "k8s:a=1"]},
        "networking": {"addressing": [{"ipv4": "10.0.0.1", "ipv6": "fd00::1"}], "node": "192.168.0.1"},
        "named-ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "state": "ready",
    }
    assert decode_cilium_endpoint(encode(metadata=metadata, status=status)) == CiliumEndpoint(
        namespace="d",
        name="p",
        endpoint_id=7,
        identity=Identity(4711),
        labels=("k8s:a=1", "k8s:b=2"),
        ips=(ip_address("10.0.0.1"), ip_address("fd00::1")),
        node_ip=ip_address("192.168.0.1"),
        named_ports=(NamedPort("http", 80, "TCP"),),
        pod_uid="u",
    )
    assert decode_cilium_endpoint(encode(metadata=metadata)) is None
    assert decode_cilium_endpoint(encode(metadata=metadata, status={"id": 7})) is None


def test_cilium_identity() -> None:
    raw = encode(
        metadata={"name": "4711", "creationTimestamp": "2026-01-01T00:00:00Z"},
        **{"security-labels": {"k8s:b": "", "k8s:a": "x=y", "reserved:host": ""}},
    )
    assert decode_cilium_identity(raw) == CiliumIdentity(
        id=Identity(4711), labels=("k8s:a=x=y", "k8s:b=", "reserved:host"), created="2026-01-01T00:00:00Z"
    )


def test_api_servers_are_the_addresses_of_their_slices() -> None:
    slice_ = {"metadata": {"name": "kubernetes"}, "addressType": "IPv6", "endpoints": [
        {"addresses": ["2001:db8::1"], "conditions": {"ready": False}}, {"addresses": ["2001:db8::2"]}]}  # fmt: skip
    rows = KubeApiservers("kubernetes", (ip_address("2001:db8::1"), ip_address("2001:db8::2")))
    assert decode_kube_apiservers(msgspec.json.encode(slice_)) == rows
    names = slice_ | {"addressType": "FQDN", "endpoints": [{"addresses": ["api.example"]}]}
    assert decode_kube_apiservers(msgspec.json.encode(names)) == KubeApiservers("kubernetes")
    assert decode_kube_apiservers(b'{"metadata": {"name": "e"}, "endpoints": null}') == KubeApiservers("e")


@pytest.mark.parametrize(
    ("decode", "body", "message"),
    [
        (decode_pod, {"metadata": {}}, "name"),
        (decode_pod, {"metadata": {"name": "p"}, "status": {"podIPs": [{"ip": "nonsense"}]}}, r"status\.podIPs"),
        (decode_node, {"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.0.0.0/33"]}}, r"spec\.podCIDRs"),
        (decode_cilium_identity, {"metadata": {"name": "web"}, "security-labels": {}}, r"metadata\.name.*no number"),
        (decode_cilium_identity, {"metadata": {"name": "1"}}, "security-labels"),
        (
            decode_cilium_node,
            {"metadata": {"name": "n"}, "spec": {"addresses": [{"type": "InternalIP", "ip": "::g"}]}},
            r"spec\.addresses",
        ),
    ],
)
def test_what_cannot_be_a_row_is_refused_by_field(decode: Any, body: dict[str, Any], message: str) -> None:
    with pytest.raises((ObjectError, msgspec.DecodeError), match=message):
        decode(msgspec.json.encode(body))
