"""`cilium lab` as a command: what a crash leaves goes, what stands in the way is named."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.kubelab.conftest import unique
from scenario.cluster import BIN, Cluster, lacks
from scenario.kubelab.test_lab import left_behind
from scenario.node import AGENT, LabNode

from kubelab.lab import Lab, state

pytestmark = pytest.mark.scenario
IP_FREEBIND = 15
API_PORT = 6443


@pytest.fixture
def lab() -> Iterator[Cluster]:
    """A name of which nothing is left in the end."""
    if reason := lacks():
        pytest.skip(reason)
    named = Cluster(unique("l"))
    yield named
    Lab(named.name).down()
    assert left_behind(named.name) == []


def test_down_after_half_of_it_was_killed_and_up_again(lab: Cluster) -> None:
    lab.up(nodes=2)
    node = LabNode(lab, "node1")
    node.kill_agent()
    node.lab.stop("control-plane", kill=True)
    node.lab.stop("kubelet-node1", kill=True)
    assert "not running: control-plane, kubelet-node1" in lab.run(
        BIN / "cilium", "lab", "status", "--name", lab.name, check=False
    )
    assert "is down" in lab.down()
    assert left_behind(lab.name) == []
    lab.up(nodes=1)
    LabNode(lab, "node1").signal(AGENT, 0)
    assert "is down" in lab.down()
    assert "was not up" in lab.down()


def test_down_after_up_was_killed_while_agents_start(lab: Cluster) -> None:
    argv = [str(BIN / "cilium"), "lab", "up", "--name", lab.name, "--nodes", "1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdout is not None
        assert any("waiting for the Cilium agents" in line for line in process.stdout)
        process.kill()
    again = lab.run(*argv, check=False)
    assert f"lab {lab.name} is already up" in again
    assert "is down" in lab.down()
    assert left_behind(lab.name) == []


def test_a_taken_port_is_named_and_nothing_is_left(lab: Cluster) -> None:
    """Taken when the lab has chosen its network: other labs, which may come up meanwhile, are not disturbed."""
    argv = [str(BIN / "cilium"), "lab", "up", "--name", lab.name, "--nodes", "1"]
    with (
        socket.socket() as listener,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plan = lab.eventually(
            lambda: (found := state.paths(lab.name).read()) and found.plan, "its network", pause=0.005
        )
        listener.bind((plan.host[0], API_PORT))
        listener.listen()
        output = process.communicate(timeout=60)[0]
    assert "the control plane did not start" in output
    assert f"port {API_PORT}: Address already in use" in output
    assert "Traceback" not in output
    assert left_behind(lab.name) == []


def test_without_root_the_way_out_is_named(lab: Cluster) -> None:
    lab.up(nodes=1)
    for command in (["up", "--name", f"{lab.name}-o"], ["down", "--name", lab.name]):
        with tempfile.TemporaryDirectory() as home:
            Path(home).chmod(0o777)
            output = lab.run("setpriv", "--reuid=65534", "--clear-groups", "env", f"HOME={home}", BIN / "cilium",
                             "lab", *command, check=False)  # fmt: skip
        assert "run as root (sudo)" in output
        assert "Traceback" not in output
    assert not left_behind(f"{lab.name}-o")
    assert all(Lab(lab.name).status().processes.values()), "the lab goes on"
