"""What containers may use, and where that is written: cgroup2, cgroup v1, or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubelab.kubelet import limits
from kubelab.kubelet.limits import Limits
from kubelab.kubelet.runtime.process import groups


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, (2, 0, 0, 1)),
        ({"requests": {"cpu": "1500m"}}, (1536, 0, 0, 59)),
        ({"limits": {"cpu": "0.25", "memory": "64Mi"}}, (256, 25000, 64 << 20, 10)),
        ({"limits": {"cpu": "1m"}, "requests": {"cpu": "0"}}, (2, 1000, 0, 1)),
        ({"limits": {"cpu": "1k"}}, (262144, 100_000_000, 0, 10000)),
    ],
)
def test_arithmetic(resources: dict[str, Any], expected: tuple[int, ...]) -> None:
    found = limits.of_container({"status": {"qosClass": "Burstable"}}, {"resources": resources})
    assert (found.shares, found.quota, found.memory, found.weight) == expected
    assert limits.of_pod({"spec": {"resources": resources}}).quota == found.quota


OWN, POD = Limits(shares=256, quota=25000, memory=64 << 20), Limits(memory=128 << 20)


def test_cgroup2_holds_every_container(tmp_path: Path) -> None:
    root = tmp_path / "kubepods"
    group = root / "podu" / "c"
    group.mkdir(parents=True)
    for directory in (root, group.parent, group):
        (directory / "cgroup.controllers").write_text("cpuset cpu memory\n")
    made = groups.create("u", "c", OWN, POD, root=root, first=tmp_path / "none")
    assert (made.paths, made.lacking) == ((group,), ())
    assert {name: (group / name).read_text() for name in ("cpu.max", "cpu.weight", "memory.max")} == {
        "cpu.max": "25000 100000", "cpu.weight": "10", "memory.max": str(64 << 20)}  # fmt: skip
    assert (group.parent / "memory.max").read_text() == str(128 << 20)
    assert (group.parent / "cpu.max").read_text() == "max 100000"
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert groups.oom_kills(made.paths) == 2


def test_cgroup_v1_holds_whom_it_limits(tmp_path: Path) -> None:
    root, first = tmp_path / "kubepods", tmp_path / "first"
    for controller in ("cpu", "memory"):
        (first / controller).mkdir(parents=True)
    free = groups.create("free", "c", Limits(shares=2048), Limits(), root=root, first=first)
    assert free.paths == (root / "podfree/c",)
    made = groups.create("u", "c", OWN, POD, root=root, first=first)
    cpu, memory = (first / controller / "kubepods/podu/c" for controller in ("cpu", "memory"))
    assert made.paths == (root / "podu/c", cpu, memory)
    assert (cpu / "cpu.cfs_quota_us").read_text() == "25000"
    assert (memory / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert (memory.parent / "memory.limit_in_bytes").read_text() == str(128 << 20)
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert groups.oom_kills(made.paths) == 1


def test_what_no_controller_holds_is_told(tmp_path: Path) -> None:
    made = groups.create("u", "c", OWN, Limits(), root=tmp_path / "kubepods", first=tmp_path / "none")
    assert made.lacking == ("cpu", "memory")
    assert groups.oom_kills(made.paths) == 0
