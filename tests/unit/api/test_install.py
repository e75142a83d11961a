"""The manifests: what they contain, that a server accepts them, and that the printed ones are up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cilium.api.install import CONFIG_DIR, main, manifests
from cilium.settings import Settings, from_config_map, from_values
from kubelab.apiserver.builtins import builtin_resources
from kubelab.apiserver.resources import Registry
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.catalog import StrategyCatalog

PRINTED = Path(__file__).parents[3] / "deploy" / "cilium.yaml"
Object = dict[str, Any]


def find(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = (obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name))
    return found


def test_printed_manifests_are_up_to_date() -> None:
    assert list(yaml.safe_load_all(PRINTED.read_text())) == manifests(Settings()), (
        f"run: python -m cilium.api.install > {PRINTED}"
    )


async def test_a_server_accepts_them_all() -> None:
    registry = Registry(builtin_resources())
    store = Store(registry, strategies=StrategyCatalog(Schemas()))
    await store.create("namespaces", {"metadata": {"name": "kube-system"}})
    for obj in manifests(from_values({"prometheus": {"enabled": True}}), namespace="kube-system"):
        group = obj["apiVersion"].rpartition("/")[0]
        resource = registry.find_kind(group, obj["kind"])
        assert resource is not None, obj["kind"]
        await store.create(resource.key, obj, namespace=obj["metadata"].get("namespace", ""))


def test_the_agent_starts_as_a_cluster_expects() -> None:
    agent = find(manifests(Settings()), "DaemonSet", "cilium")
    spec = agent["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert agent["spec"]["template"]["metadata"]["labels"]["k8s-app"] == "cilium"
    assert (spec["hostNetwork"], spec["tolerations"]) == (True, [{"operator": "Exists"}])
    assert (container["name"], container["command"]) == ("cilium-agent", ["cilium-agent"])
    assert container["args"] == [f"--config-dir={CONFIG_DIR}"]
    assert container["readinessProbe"]["httpGet"] == {
        "host": "127.0.0.1",
        "path": "/healthz",
        "port": 9879,
        "scheme": "HTTP",
    }
    assert [entry["name"] for entry in container["env"]] == ["K8S_NODE_NAME", "CILIUM_K8S_NAMESPACE", "CILIUM_COMMAND"]
    mounts = {mount["mountPath"]: mount.get("mountPropagation") for mount in container["volumeMounts"]}
    assert mounts["/sys/fs/bpf"] == "Bidirectional"
    assert mounts["/var/run/netns"] == "HostToContainer"
    assert {"/var/run/cilium", "/opt/cni/bin", "/etc/cni/net.d", "/sys/fs/cgroup", CONFIG_DIR} <= set(mounts)
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_settings_reach_the_objects() -> None:
    values = {
        "operator": {"replicas": 2, "apiServeAddr": "[::1]:9999"},
        "image": {"repository": "example.com/cilium", "tag": "v1"},
        "healthPort": 9000,
        "hubble": {"enabled": False},
        "cni": {"hostConfFile": "/etc/other/10-x.conflist", "binPath": "/usr/lib/cni"},
    }
    settings = from_values(values)
    objects = manifests(settings, namespace="network")
    assert objects[0]["kind"] == "Namespace"
    assert from_config_map(find(objects, "ConfigMap", "cilium-config")["data"]) == from_values(
        {**values, "operator": {"apiServeAddr": "[::1]:9999"}, "image": {}}
    )
    operator = find(objects, "Deployment", "cilium-operator")
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert (operator["spec"]["replicas"], container["image"]) == (2, "example.com/cilium:v1")
    assert container["livenessProbe"]["httpGet"] == {"host": "::1", "path": "/healthz", "port": 9999, "scheme": "HTTP"}
    (agent,) = find(objects, "DaemonSet", "cilium")["spec"]["template"]["spec"]["containers"]
    assert agent["startupProbe"]["httpGet"]["port"] == 9000
    assert {"/etc/other", "/usr/lib/cni"} <= {mount["mountPath"] for mount in agent["volumeMounts"]}
    assert not [obj for obj in objects if obj["kind"] == "Service"]
    bindings = [obj for obj in objects if obj["kind"].endswith("Binding")]
    assert {subject["namespace"] for obj in bindings for subject in obj["subjects"]} == {"network"}


def test_a_changed_config_replaces_the_pods() -> None:
    def annotations(values: Object) -> list[Object]:
        objects = manifests(from_values(values))
        kinds = [("DaemonSet", "cilium"), ("Deployment", "cilium-operator")]
        return [find(objects, *kind)["spec"]["template"]["metadata"]["annotations"] for kind in kinds]

    assert annotations({}) == annotations({"tunnelPort": 0})
    assert annotations({}) != annotations({"tunnelPort": 4789})


def test_the_command_prints_yaml_or_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("tunnelPort: 4789\n")
    assert main([str(values)]) == 0
    printed = capsys.readouterr().out
    assert "&id" not in printed  # no aliases: people read this
    assert find(list(yaml.safe_load_all(printed)), "ConfigMap", "cilium-config")["data"]["tunnel-port"] == "4789"
    values.write_text("tunelPort: 1\nMTU: x\n")
    assert main([str(values)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 3
