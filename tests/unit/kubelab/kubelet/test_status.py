"""Pod phases, conditions, exec results, command lines."""

from __future__ import annotations

from typing import Any

import pytest

from kubelab.kubelet.status import ContainerState, Facts, merge_conditions, phase, pod_status
from kubelab.kubelet.streaming.channels import exited

WAITING = ContainerState()
RUNNING = ContainerState(kind="running", ready=True, started=True)
DONE = RUNNING.terminated(0)
FAILED = RUNNING.terminated(3)


@pytest.mark.parametrize(
    ("policy", "init", "containers", "result"),
    [
        ("Always", [], [WAITING], "Pending"),
        ("Always", [], [RUNNING, WAITING], "Running"),
        ("Always", [], [DONE], "Running"),
        ("Never", [], [DONE, DONE], "Succeeded"),
        ("Never", [], [DONE, FAILED], "Failed"),
        ("Never", [], [RUNNING, FAILED], "Running"),
        ("OnFailure", [], [FAILED], "Running"),
        ("OnFailure", [], [DONE], "Succeeded"),
        ("Never", [FAILED], [WAITING], "Failed"),
        ("Always", [RUNNING], [WAITING], "Pending"),
    ],
)
def test_phase(policy: str, init: list[ContainerState], containers: list[ContainerState], result: str) -> None:
    specs = [{"name": str(number)} for number in range(len(init))]
    assert phase({"spec": {"restartPolicy": policy, "initContainers": specs}}, init, containers) == result


def test_phase_beside_a_sidecar() -> None:
    """It does not fail the pod, and the pod has not ended while it runs."""
    pod = {"spec": {"restartPolicy": "Never", "initContainers": [{"name": "side", "restartPolicy": "Always"}]}}
    assert phase(pod, [RUNNING], [DONE]) == "Running"
    assert phase(pod, [FAILED], [DONE]) == "Succeeded"
    assert phase(pod, [FAILED], [RUNNING]) == "Running"


def facts(state: ContainerState, **more: Any) -> Facts:
    return Facts(init={}, containers={"c": state}, host_ips=("10.0.0.1",), ips=("10.1.0.1", "fd00::1"),
                 start_time="t", initialized=True, sandbox=True, **more)  # fmt: skip


def conditions(pod: dict[str, Any], known: Facts) -> dict[str, str]:
    return {c["type"]: c["status"] for c in pod_status(pod, known)["conditions"]}


def test_readiness_gates_hold_the_pod_back() -> None:
    pod: dict[str, Any] = {
        "metadata": {"generation": 2},
        "spec": {"containers": [{"name": "c"}], "readinessGates": [{"conditionType": "x/y"}]},
    }
    assert conditions(pod, facts(RUNNING))["Ready"] == "False"
    assert conditions(pod, facts(RUNNING))["ContainersReady"] == "True"
    pod["status"] = {"conditions": [{"type": "x/y", "status": "True"}]}
    assert conditions(pod, facts(RUNNING))["Ready"] == "True"


def test_conditions_of_others_stay_and_transition_times_move_only_with_the_status() -> None:
    old = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "then"},
    ]
    merged = {c["type"]: c for c in merge_conditions(old, [{"type": "Ready", "status": "True"}])}
    assert merged["Ready"]["lastTransitionTime"] == "then"
    assert merged["PodScheduled"] == old[0]
    merged = {c["type"]: c for c in merge_conditions(old, [{"type": "Ready", "status": "False"}])}
    assert merged["Ready"]["lastTransitionTime"] != "then"


def test_terminated_state_on_the_wire() -> None:
    assert FAILED.wire["terminated"]["reason"] == "Error"
    assert DONE.wire["terminated"]["reason"] == "Completed"


@pytest.mark.parametrize(("code", "number"), [(5, "5"), (-9, "137")])
def test_exec_failure_carries_the_exit_code(code: int, number: str) -> None:
    assert exited(code)["details"] == {"causes": [{"reason": "ExitCode", "message": number}]}
