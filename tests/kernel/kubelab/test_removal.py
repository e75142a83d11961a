"""Cgroups go although their processes fork, come late or do not end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.kubelab.conftest import Ground, unique

from kubelab.lab import Lab, LabError, LabOptions
from kubelab.lab.state import LabState
from kubelab.underlay import cgroups, network

pytestmark = pytest.mark.kernel
FREEZER = Path("/sys/fs/cgroup/freezer")
"""Of cgroup v1: what it has frozen does not even end by SIGKILL, like a process that waits for a device."""

RUNNER = """
import os
os.setsid()
print("runs", flush=True)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
while True:  # nobody lives for long; each leaves a child behind
    if os.fork():
        os._exit(0)
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    path = cgroups.lab_path(unique("t")) / "node1"
    cgroups.create(path / "system")
    yield path
    cgroups.remove(path.parent)
    cgroups.remove_if_empty(path.parent.parent)


def inside(cgroup: Path, *command: str) -> subprocess.Popen[str]:
    argv = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(cgroup), *command]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def sleeper(cgroup: Path) -> subprocess.Popen[str]:
    process = inside(cgroup, "sh", "-c", "echo runs; exec sleep 1000")
    assert first_line(process) == "runs\n"
    return process


@pytest.mark.parametrize("name", [cgroups.KILL, "none.kill"], ids=["cgroup.kill", "by pid"])
def test_a_process_that_keeps_forking_does_not_run_away(
    name: str, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "KILL", name)
    with inside(cgroup / "system", sys.executable, "-c", RUNNER) as process:
        assert first_line(process) == "runs\n"
        cgroups.remove(cgroup)
    assert not cgroup.exists()


def test_who_enters_after_the_others_were_killed_ends_too(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill = cgroups.kill
    late: list[subprocess.Popen[str]] = []

    def then_enter(path: Path) -> None:
        kill(path)
        if not late:
            late.append(sleeper(cgroup / "system"))

    monkeypatch.setattr(cgroups, "kill", then_enter)
    cgroups.remove(cgroup)
    assert not cgroup.exists()
    with late[0] as process:
        assert process.wait() == -9


def test_killing_by_pid_leaves_a_cgroup_that_can_be_used_again(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "KILL", "none.kill")
    for _ in range(2):
        with sleeper(cgroup / "system") as process:
            cgroups.kill(cgroup)
            assert process.wait() == -9


@pytest.fixture
def unkillable(ground: Ground) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process of the node that SIGKILL does not end until the second is told THAWED."""
    if not (FREEZER / "cgroup.procs").exists():
        pytest.skip("no freezer of cgroup v1 is mounted")
    freezer = FREEZER / ground.name
    freezer.mkdir()
    state = freezer / "freezer.state"
    with sleeper(ground.space.cgroup / "system") as process:
        try:
            (freezer / "cgroup.procs").write_text(str(process.pid))
            state.write_text("FROZEN")
            yield process, state
        finally:
            state.write_text("THAWED")
            process.kill()
            process.wait()
            freezer.rmdir()


def test_down_names_who_does_not_end_and_can_be_repeated(
    ground: Ground, unkillable: tuple[subprocess.Popen[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubelab.lab.removal.REMOVAL", 0.2)
    process, state = unkillable
    ground.paths.write(LabState(name=ground.name, index=ground.plan.index, options=LabOptions(), pids={}))
    lab, cgroup = Lab(ground.name), ground.space.cgroup / "system"
    with pytest.raises(LabError) as refused:
        lab.down()
    text = str(refused.value)
    assert f"cgroup {cgroup} cannot be removed" in text
    assert f"still in it: {process.pid} (" in text
    assert "sleep 1000, state D)" in text
    assert "take it down again" in text
    # All but that cgroup is gone.
    assert not network.pinned(ground.name)
    assert not ground.paths.directory.exists()
    assert [path.name for path in cgroups.lab_path(ground.name).glob("*/*/")] == ["system"]
    state.write_text("THAWED")
    assert process.wait() == -9
    assert lab.down()
    assert not cgroups.lab_path(ground.name).exists()
    assert not lab.down()
