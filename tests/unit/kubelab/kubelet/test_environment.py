"""Environment variables of containers."""

from __future__ import annotations

from typing import Any

import pytest

from kubelab.kubelet.config import KubeletConfig
from kubelab.kubelet.environment import MissingReferenceError, build, expand, field

CONFIG = KubeletConfig(
    node="node1", addresses=("10.0.0.1", "fd00::1"), server="https://172.30.1.1:6443",
    ca="", certificate="", key="", socket="", socket_outside="",
)  # fmt: skip
POD: dict[str, Any] = {
    "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"app": "x"}, "annotations": {"k/y": "v"}},
    "spec": {"serviceAccountName": "robot"},
}


async def fetch(kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
    return {"key": b"value", "other": b"2"} if (kind, namespace, name) == ("configmaps", "n", "there") else None


async def variables(**container: Any) -> dict[str, str]:
    return await build(POD, {"name": "c", **container}, CONFIG, ["10.1.0.5", "fd01::5"], fetch)


@pytest.mark.parametrize(
    ("text", "result"),
    [("$(A)/$(B)", "1/$(B)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("$(A", "$(A"), ("$()", "$()"), ("$$$(A)", "$1")],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, {"A": "1"}) == result


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "a"),
        ("metadata.labels['app']", "x"),
        ("metadata.annotations['k/y']", "v"),
        ("metadata.labels['absent']", ""),
        ("spec.nodeName", "node1"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "10.1.0.5"),
        ("status.podIPs", "10.1.0.5,fd01::5"),
        ("status.hostIP", "10.0.0.1"),
    ],
)
async def test_fields(path: str, value: str) -> None:
    env = [{"name": "F", "valueFrom": {"fieldRef": {"fieldPath": path}}}]
    assert (await variables(env=env))["F"] == value


async def test_values_of_all_annotations_are_quoted() -> None:
    """Annotations hold JSON and lines."""
    pod = {**POD, "metadata": {**POD["metadata"], "annotations": {"b": "ü\n", "a": '{"x": 1}'}}}
    assert field(pod, "metadata.annotations", CONFIG, []) == 'a="{\\"x\\": 1}"\nb="ü\\n"'


@pytest.mark.parametrize(("spec", "name"), [({}, "a"), ({"hostname": "me"}, "me"), ({"hostNetwork": True}, "node1")])
async def test_host_name(spec: dict[str, Any], name: str) -> None:
    result = await build({**POD, "spec": spec}, {"name": "c"}, CONFIG, [], fetch)
    assert result["HOSTNAME"] == name


async def test_unknown_field_is_named() -> None:
    with pytest.raises(MissingReferenceError, match=r"spec\.secret"):
        await variables(env=[{"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "spec.secret"}}}])


async def test_later_variables_see_earlier_ones() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}, {"name": "C", "value": "$(D)"}]
    result = await variables(env=env)
    assert (result["B"], result["C"]) == ("12", "$(D)")


async def test_env_from_with_prefix() -> None:
    result = await variables(envFrom=[{"prefix": "P_", "configMapRef": {"name": "there"}}])
    assert result["P_key"] == "value"


async def test_missing_references() -> None:
    reference = {"name": "absent", "key": "key"}
    with pytest.raises(MissingReferenceError, match='configmap "absent" not found'):
        await variables(env=[{"name": "A", "valueFrom": {"configMapKeyRef": reference}}])
    with pytest.raises(MissingReferenceError, match="find key nokey in ConfigMap n"):
        await variables(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "there", "key": "nokey"}}}])
    optional = {**reference, "optional": True}
    assert "A" not in await variables(env=[{"name": "A", "valueFrom": {"configMapKeyRef": optional}}])
