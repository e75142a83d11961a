"""What a snapshot takes, in which order, and what it takes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubelab.lab.errors import LabError
from kubelab.lab.snapshot import cleaned, in_order, name_of, read, take, write


def obj(kind: str, name: str, owner: str = "", **more: Any) -> dict[str, Any]:
    owners = [{"kind": "x", "name": "x", "uid": owner, "controller": True}] if owner else []
    meta = {"name": name, "namespace": "n", "uid": f"uid-{name}", "resourceVersion": "7", "ownerReferences": owners}
    return {"apiVersion": "v1", "kind": kind, **more, "metadata": {**meta, **more.get("metadata", {})}}


class Api:
    """Serves lists by path."""

    def __init__(self, **kinds: list[dict[str, Any]]) -> None:
        self._kinds = kinds

    def get(self, path: str) -> dict[str, Any]:
        if path == "/apis":
            return {"groups": []}
        if path == "/api/v1":
            verbs = ["list", "create"]
            names = [{"name": name, "kind": rows[0]["kind"], "verbs": verbs} for name, rows in self._kinds.items()]
            return {"resources": [*names, {"name": "pods/status", "kind": "Pod", "verbs": ["get"]}]}
        return {"items": [dict(row) for row in self._kinds[path.rpartition("/")[2]]]}


def taken(*leave: str, **kinds: list[dict[str, Any]]) -> list[str]:
    return [name_of(row) for row in take(Api(**kinds), leave=leave)]  # type: ignore[arg-type]  # what take() asks of it


def test_what_runs_is_left_to_those_who_make_it() -> None:
    pods = [obj("Pod", "bare", spec={}), obj("Pod", "of-set", owner="uid-set", spec={}),
            obj("Pod", "done", spec={}, status={"phase": "Succeeded"})]  # fmt: skip
    sets = [obj("ReplicaSet", "set", owner="uid-deployment"), obj("ReplicaSet", "lost", owner="uid-nobody")]
    deployments = [obj("Deployment", "deployment"), obj("Deployment", "going", metadata={"deletionTimestamp": "now"})]
    found = taken("widgets", pods=pods, replicasets=sets, deployments=deployments, nodes=[obj("Node", "n1")],
                  widgets=[obj("Widget", "w")])  # fmt: skip
    assert found == ["n/deployment", "n/bare", "n/set"]


def test_claims_get_new_volumes_where_volumes_are_made_for_them() -> None:
    made = {"annotations": {"pv.kubernetes.io/provisioned-by": "x"}}
    volumes = [obj("PersistentVolume", "made", metadata=made, spec={}), obj("PersistentVolume", "written", spec={})]
    assert taken(persistentvolumes=volumes) == ["n/written"]
    bound = {"pv.kubernetes.io/bind-completed": "yes", "volume.kubernetes.io/selected-node": "node3"}
    provisioned = {**bound, "volume.kubernetes.io/storage-provisioner": "x", "mine": "1"}
    claim = cleaned(obj("PersistentVolumeClaim", "c", metadata={"annotations": provisioned}, spec={"volumeName": "v"}))
    assert (claim["spec"], claim["metadata"]["annotations"]) == ({}, {"mine": "1"})
    claim = cleaned(obj("PersistentVolumeClaim", "c", metadata={"annotations": bound}, spec={"volumeName": "v"}))
    assert claim["spec"] == {"volumeName": "v"}, "a volume that somebody wrote comes back with the claim"


def test_objects_are_left_out_by_name() -> None:
    rows = [obj("ConfigMap", "settings"), obj("ConfigMap", "other")]
    found = take(Api(configmaps=rows), but=["ConfigMap n/settings"])  # type: ignore[arg-type]  # what take() asks
    assert [name_of(row) for row in found] == ["n/other"]


def test_owners_and_what_others_need_come_first() -> None:
    rows = [obj("Deployment", "d"), obj("ConfigMap", "child", owner="uid-parent"), obj("ConfigMap", "parent"),
            obj("CustomResourceDefinition", "crd"), obj("MutatingWebhookConfiguration", "hook"),
            obj("Namespace", "ns"), obj("StatefulSet", "s")]  # fmt: skip
    assert [row["metadata"]["name"] for row in in_order(rows)] == ["crd", "ns", "parent", "child", "d", "s", "hook"]


def test_a_pod_loses_its_place_and_its_token() -> None:
    mounts = [{"name": "kube-api-access-x"}, {"name": "data"}]
    spec = {"nodeName": "node1", "volumes": mounts, "containers": [{"name": "c", "volumeMounts": mounts}]}
    pod = cleaned(obj("Pod", "p", spec=spec, status={"phase": "Running"}))
    assert pod["spec"] == {"volumes": mounts[1:], "containers": [{"name": "c", "volumeMounts": mounts[1:]}]}
    assert "status" not in pod
    assert pod["metadata"]["uid"] == "uid-p"
    assert "resourceVersion" not in pod["metadata"]
    assert spec["nodeName"] == "node1", "the original stays as it is"


@pytest.mark.parametrize("name", ["lab.yaml", "lab.jsonl"])
def test_what_was_written_is_read(tmp_path: Path, name: str) -> None:
    rows = [obj("ConfigMap", "a", data={"k": "multi\nline: # yes"}), obj("ConfigMap", "b")]
    write(tmp_path / name, rows)
    assert read(tmp_path / name) == rows


@pytest.mark.parametrize(
    ("content", "problem"),
    [("kind: [", "lab.yaml: "), ("a: b", "object 1: apiVersion, kind or metadata.name is missing")],
)
def test_a_file_that_is_no_snapshot_is_named(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(content)
    with pytest.raises(LabError, match=problem):
        read(path)
    with pytest.raises(LabError, match=r"gone\.yaml: No such file"):
        read(tmp_path / "gone.yaml")
