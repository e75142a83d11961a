"""What pods may use and what their containers share: limits of CPU and memory, processes, IPC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.kubelab.small_lab import Namespace, SmallLab

from kubelab.underlay import cgroups, controllers

pytestmark = pytest.mark.scenario
NAMESPACE = "pod-resources"
FOREVER = "exec sleep 10000"
EAT = "python3 -S -c 'x = bytearray(200 << 20)'"
SPIN = """exec python3 -S -c '
import time
end = time.monotonic() + 2
while time.monotonic() < end: pass
print(time.process_time())
'"""
HOST = {"hostPID": True, "hostIPC": True}

Object = dict[str, Any]


def shell(script: str, name: str = "c", **resources: Object) -> Object:
    return {"name": name, "image": "test", "command": ["sh", "-c", script], "resources": resources}


def pod(name: str, *containers: Object, policy: str = "Always", **spec: Any) -> Object:
    spec = {"restartPolicy": policy, "terminationGracePeriodSeconds": 5, "containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


PODS = [
    pod("hungry", shell(f"exec {EAT}", limits={"memory": "64Mi"})),
    pod("hungry-child", shell(f"{EAT}; exit 7", limits={"memory": "64Mi"}), policy="Never"),
    pod("together", shell(f"exec {EAT}"), policy="Never", resources={"limits": {"memory": "64Mi"}}),
    pod("enough", shell(f"exec {EAT}", limits={"memory": "400Mi"}), policy="Never"),
    pod("spins", shell(SPIN, limits={"cpu": "100m"}), policy="Never"),
    pod("shares", shell(FOREVER, "a"), shell("trap '' TERM; while :; do sleep 0.1; done", "b"),
        shell("exec sleep 20000", "ends"), shareProcessNamespace=True, terminationGracePeriodSeconds=1),
    pod("hoards", {**shell(f"dd if=/dev/zero of=/s/f bs=1M count=2; {FOREVER}"), "volumeMounts": [
        {"name": "s", "mountPath": "/s"}]}, volumes=[{"name": "s", "emptyDir": {"sizeLimit": "1Mi"}}]),
    pod("alone", shell(FOREVER)),
    pod("tuned", shell(FOREVER), securityContext={"sysctls": [
        {"name": "net.ipv4.ip_local_port_range", "value": "4000 5000"},
        {"name": "kernel.shm_rmid_forced", "value": "1"}]}),
    pod("unsafe", shell(FOREVER), securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}),
    pod("host", shell(FOREVER), **HOST),
]  # fmt: skip


@pytest.fixture(scope="module")
def here(small_lab: SmallLab) -> Iterator[Namespace]:
    with small_lab.namespace(NAMESPACE) as made:
        made.apply(*PODS)
        yield made


@pytest.fixture
def limited(small_lab: SmallLab) -> None:
    lent = controllers.lent(cgroups.node_path(small_lab.lab.name, "node1"))
    if not {"cpu", "memory"} <= lent:
        pytest.skip("this machine lends no controllers of CPU and memory")


def containers(here: Namespace, name: str) -> list[Object]:
    """Their statuses, once there are any."""
    return list(here.status(name).get("containerStatuses") or [])


def ended(here: Namespace, name: str) -> Object:
    """How the container ended, once the pod has."""
    here.until(lambda: here.status(name)["phase"] in ("Succeeded", "Failed"), f"{name}'s end")
    return dict(here.status(name)["containerStatuses"][0]["state"]["terminated"])


@pytest.mark.usefixtures("limited")
def test_who_takes_more_memory_than_the_limit_is_killed(here: Namespace) -> None:
    (last,) = here.until(
        lambda: [c["lastState"]["terminated"] for c in containers(here, "hungry") if c["restartCount"]], "a restart"
    )
    assert (last["exitCode"], last["reason"]) == (137, "OOMKilled")
    assert here.status("hungry")["qosClass"] == "Burstable"
    child = ended(here, "hungry-child")
    assert child["reason"] == "OOMKilled", "of a container, not of its first process"
    assert ended(here, "together")["reason"] == "OOMKilled", "a limit of the whole pod"
    assert (ended(here, "enough")["exitCode"], here.status("enough")["phase"]) == (0, "Succeeded")


@pytest.mark.usefixtures("limited")
def test_who_wants_more_cpu_than_the_limit_is_held_back(here: Namespace) -> None:
    assert ended(here, "spins")["exitCode"] == 0
    assert float(here.kubectl("logs", "spins")) < 0.4, "seconds of CPU within two"


def test_who_fills_its_volume_is_evicted(here: Namespace) -> None:
    here.until(lambda: here.status("hoards")["phase"] == "Failed", "the eviction")
    status = here.status("hoards")
    assert (status["reason"], status["message"]) == (
        "Evicted", 'Usage of EmptyDir volume "s" exceeds the limit "1Mi". ')  # fmt: skip
    condition = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
    assert ("Evicted", status["message"]) in here.events("hoards")


def inside(here: Namespace, name: str, container: str, script: str) -> str:
    return here.kubectl("exec", name, "-c", container, "--", "sh", "-c", script)


def processes(here: Namespace, name: str, container: str) -> list[str]:
    return inside(here, name, container, "ps ax -o args").splitlines()


def test_containers_that_share_processes(here: Namespace) -> None:
    here.kubectl("wait", "--for=condition=Ready", "pod/shares", "pod/alone", "--timeout=30s")
    for container in ("a", "b"):
        seen = processes(here, "shares", container)
        assert {"sleep 10000", "sleep 20000"} <= set(seen)
        assert "pause" in seen[1], "the first process is nobody's"
    here.lab.lab.stop("kubelet-node1", kill=True)  # the next one knows the namespace
    here.lab.lab.start_kubelet("node1")
    kill = ("exec", "shares", "-c", "a", "--", "pkill", "-f", "^sleep 20000")
    here.until(lambda: here.run(*kill).returncode == 0, "the new kubelet")
    again = here.until(lambda: [c for c in containers(here, "shares") if c["restartCount"]], "a restart")
    assert [c["name"] for c in again] == ["ends"], "nobody else ended with it"
    assert again[0]["lastState"]["terminated"]["exitCode"] == 143
    here.until(lambda: "sleep 20000" in processes(here, "shares", "b"), "its successor is among the others")
    assert not any("pause" in line for line in processes(here, "alone", "c"))
    here.kubectl("delete", "pod", "shares", "--timeout=20s")


def test_sysctls_are_the_pods_own_and_only_safe_ones(here: Namespace) -> None:
    here.kubectl("wait", "--for=condition=Ready", "pod/tuned", "pod/host", "--timeout=30s")
    script = "cd /proc/sys; cat net/ipv4/ip_local_port_range kernel/shm_rmid_forced"
    assert inside(here, "tuned", "c", script).split() == ["4000", "5000", "1"]
    assert inside(here, "host", "c", script).split()[0] != "4000"
    here.until(lambda: here.status("unsafe")["phase"] == "Failed", "the kubelet's refusal")
    status = here.status("unsafe")
    assert status["reason"] == "SysctlForbidden"
    assert status["message"] == 'Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted'


def test_ipc_is_the_pods_or_the_nodes(here: Namespace) -> None:
    here.pod("ipc", FOREVER, container={"name": "a"}, shareProcessNamespace=False)
    here.kubectl("wait", "--for=condition=Ready", "pod/alone", "pod/host", "--timeout=30s")
    read = "readlink /proc/self/ns/ipc; ipcmk -M 1024 > /dev/null; ipcs -m | grep -c 0x"
    own, mine = (inside(here, name, "c" if name == "alone" else "a", read).split() for name in ("alone", "ipc"))
    assert own[0] != mine[0]
    assert own[1] == mine[1] == "1", "nobody sees the other's"
    node = inside(here, "host", "c", "readlink /proc/self/ns/ipc; ps ax | wc -l").split()
    assert re.match(r"ipc:\[\d+\]", node[0])
    assert node[0] not in (own[0], mine[0])
    assert int(node[1]) > 10, "all processes of the node"
