"""What the kubelet says of a pod: pure functions from container states to the API's pod status.

In: the pod, the states of its containers, addresses. Out: the ``status`` object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from kubelab import timestamps
from kubelab.kubelet.config import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """One container at one moment; ``kind`` selects which of the other fields mean something."""

    kind: Literal["waiting", "running", "terminated"] = "waiting"
    reason: str = "ContainerCreating"
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int = 0
    container_id: str = ""
    image_id: str = ""
    restarts: int = 0
    ready: bool = False
    started: bool = False
    hooked: bool = False  # its postStart hook is done
    last: Object = field(default_factory=dict)  # lastState

    def terminated(self, exit_code: int, reason: str | None = None, message: str = "") -> ContainerState:
        why = reason or ("Completed" if exit_code == 0 else "Error")
        return replace(self, kind="terminated", exit_code=exit_code, reason=why, message=message,
                       finished_at=timestamps.now(), ready=False, started=False)  # fmt: skip

    @property
    def wire(self) -> Object:
        """The ``state`` field."""
        said = {"message": self.message} if self.message else {}
        if self.kind == "waiting":
            return {"waiting": {"reason": self.reason, **said}}
        if self.kind == "running":
            return {"running": {"startedAt": self.started_at}}
        body = {"exitCode": self.exit_code, "reason": self.reason, "startedAt": self.started_at,
                "finishedAt": self.finished_at, "containerID": self.container_id, **said}  # fmt: skip
        return {"terminated": body}


def container_status(container: Object, state: ContainerState) -> Object:
    result = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": state.image_id or container.get("image", ""),
        "ready": state.ready,
        "started": state.started,
        "restartCount": state.restarts,
        "state": state.wire,
        "lastState": state.last,
    }
    if state.container_id:
        result["containerID"] = state.container_id
    if wanted := container.get("resources"):
        result |= {"resources": wanted, "allocatedResources": wanted.get("requests")}
    return result


def is_sidecar(container: Object) -> bool:
    """An init container that goes on beside the others."""
    return container.get("restartPolicy") == "Always"


def phase(pod: Object, init: list[ContainerState], containers: list[ContainerState]) -> str:
    """Pending, Running, Succeeded or Failed, by the pod's restart policy.

    How a sidecar ended says nothing about the pod; while one runs, the pod has not ended.
    """
    policy = pod["spec"].get("restartPolicy", "Always")
    pairs = list(zip(map(is_sidecar, pod["spec"].get("initContainers") or []), init, strict=True))
    if policy == "Never" and any(s.kind == "terminated" and s.exit_code for sidecar, s in pairs if not sidecar):
        return "Failed"
    served = any(s.kind == "running" for sidecar, s in pairs if sidecar)
    if containers and all(s.kind == "terminated" for s in containers) and not served:
        if policy != "Always" and all(s.exit_code == 0 for s in containers):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    if any(s.kind != "waiting" or s.restarts for s in containers):
        return "Running"
    return "Pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the worker knows of its pod."""

    init: dict[str, ContainerState]
    containers: dict[str, ContainerState]
    host_ips: tuple[str, ...]
    ips: tuple[str, ...]
    start_time: str
    initialized: bool
    sandbox: bool
    reason: str = ""
    message: str = ""
    evicted: bool = False  # by the kubelet, for what the message says
    phase: str | None = None  # overrides what the containers say


def pod_status(pod: Object, facts: Facts) -> Object:
    """The whole status; conditions of others are kept, transition times change only with the condition."""
    spec = pod["spec"]
    init = spec.get("initContainers") or []
    sidecars = [facts.init[c["name"]] for c in init if is_sidecar(c)]
    ready = bool(facts.containers) and all(state.ready for state in (*facts.containers.values(), *sidecars))
    state = facts.phase or phase(pod, list(facts.init.values()), list(facts.containers.values()))
    done = {"reason": "PodCompleted"} if state == "Succeeded" else {}
    unready = {} if ready else done or {"reason": "ContainersNotReady", "message": _unready(facts)}
    gates = [gate["conditionType"] for gate in spec.get("readinessGates") or []]
    others = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or []}
    closed = _closed_gates(gates, others)
    held = {"reason": "ReadinessGatesNotReady", "message": closed} if closed else {}
    waiting = [c["name"] for c in init if not _initialized(c, facts.init[c["name"]])]
    starting = {"reason": "ContainersNotInitialized",
                "message": f"containers with incomplete status: [{' '.join(waiting)}]"}  # fmt: skip
    initialized = facts.initialized or state == "Succeeded"
    conditions = [
        _condition("PodReadyToStartContainers", facts.sandbox),
        _condition("Initialized", initialized, **({} if initialized else starting)),
        _condition("Ready", ready and not closed, **(unready or held)),
        _condition("ContainersReady", ready, **unready),
    ]
    if facts.evicted:
        why = {"reason": "TerminationByKubelet", "message": facts.message}
        conditions.append(_condition("DisruptionTarget", True, **why))
    result: Object = {
        "phase": state,
        "observedGeneration": pod["metadata"].get("generation"),
        "conditions": merge_conditions(list(others.values()), conditions),
        "hostIP": facts.host_ips[0],
        "hostIPs": [{"ip": ip} for ip in facts.host_ips],
        "podIP": facts.ips[0] if facts.ips else None,
        "podIPs": [{"ip": ip} for ip in facts.ips] or None,
        "startTime": facts.start_time,
        "qosClass": (pod.get("status") or {}).get("qosClass") or "BestEffort",
        "containerStatuses": [
            container_status(c, _in_order(facts.containers[c["name"]], facts, init)) for c in spec["containers"]
        ],
        "reason": facts.reason or None,
        "message": facts.message or None,
    }
    if init:
        result["initContainerStatuses"] = [container_status(c, _init_state(c, facts.init[c["name"]])) for c in init]
    return result


def _in_order(state: ContainerState, facts: Facts, init: list[Object]) -> ContainerState:
    """Before the init containers are done, a container waits for them."""
    if init and not facts.initialized and (state.kind, state.reason) == ("waiting", "ContainerCreating"):
        return replace(state, reason="PodInitializing")
    return state


def _init_state(container: Object, state: ContainerState) -> ContainerState:
    if (state.kind, state.reason) == ("waiting", "ContainerCreating"):
        return replace(state, reason="PodInitializing")
    return replace(state, ready=_initialized(container, state)) if state.kind == "terminated" else state


def _initialized(container: Object, state: ContainerState) -> bool:
    """Whether the next one may start."""
    return state.started if is_sidecar(container) else state.kind == "terminated" and state.exit_code == 0


def _closed_gates(gates: list[str], conditions: dict[str, Object]) -> str:
    """Why the pod is not ready although its containers are; empty when it is."""
    words = []
    for gate in gates:
        if gate not in conditions:
            words.append(f'corresponding condition of pod readiness gate "{gate}" does not exist.')
        elif (status := conditions[gate].get("status")) != "True":
            words.append(f'the status of pod readiness gate "{gate}" is not "True", but {status}')
    return ", ".join(words)


def merge_conditions(old: list[Object], new: list[Object]) -> list[Object]:
    """New conditions over old ones; an unchanged status keeps its transition time."""
    before = {condition["type"]: condition for condition in old}
    result = []
    for condition in new:
        earlier = before.pop(condition["type"], None)
        same = earlier is not None and earlier.get("status") == condition["status"]
        moment = earlier.get("lastTransitionTime") if same and earlier else None
        result.append({**condition, "lastTransitionTime": moment or timestamps.now()})
    return [*before.values(), *result]


def _condition(kind: str, value: bool, **more: str) -> Object:
    return {"type": kind, "status": "True" if value else "False", **more}


def _unready(facts: Facts) -> str:
    names = [name for name, state in facts.containers.items() if not state.ready]
    return f"containers with unready status: [{' '.join(names)}]"
