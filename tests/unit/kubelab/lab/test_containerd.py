"""Containers of containerd as the lab finds them: by what kubelets have recorded, and in which cgroup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubelab.lab import containerd
from kubelab.underlay.node import NodeSpace


@pytest.fixture
def space(tmp_path: Path) -> NodeSpace:
    return NodeSpace("lab", "node1", tmp_path)


def record(space: NodeSpace, name: str, process: object) -> None:
    directory = space.kubelet / "pods/u/containers" / name
    directory.mkdir(parents=True)
    (directory / "state.json").write_text(json.dumps({"process": process}))


def test_names_of_containers_come_from_the_kubelets_records(space: NodeSpace) -> None:
    record(space, "web", {"container": "abc", "image": "x", "tty": False})
    record(space, "process", {"id": "kubelab://1"})
    record(space, "ended", None)
    (space.kubelet / "pods/u/containers/web/half.json").touch()
    assert containerd.container_names(space, "u") == {"abc": "web"}
    assert containerd.container_names(space, "nobody") == {}


def test_a_container_is_in_the_group_of_its_pod_or_without_limits_beside_containerd(tmp_path: Path) -> None:
    assert containerd.container_group(tmp_path, "u", "abc") == tmp_path / "containerd/abc"
    (tmp_path / "kubepods/podu/abc").mkdir(parents=True)
    assert containerd.container_group(tmp_path, "u", "abc") == tmp_path / "kubepods/podu/abc"
