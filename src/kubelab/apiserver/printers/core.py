"""Columns of the core group: pods, nodes, services and the rest."""

from datetime import datetime
from typing import Any

from kubelab.apiserver.printers.columns import (
    NONE,
    UNKNOWN,
    Column,
    Object,
    age,
    age_column,
    dig,
    joined,
    name_column,
    pairs,
    path_column,
)


def columns() -> dict[str, tuple[Column, ...]]:
    return {**_nodes_and_pods(), **_rest()}


def _nodes_and_pods() -> dict[str, tuple[Column, ...]]:
    name, aged = name_column(), age_column()
    return {
        "pods": (
            name,
            Column("Ready", lambda o, _: _ready(o)),
            Column("Status", lambda o, _: pod_status(o)),
            Column("Restarts", _restarts),
            aged,
            Column("IP", lambda o, _: dig(o, "status.podIP") or NONE, priority=1),
            path_column("Node", "spec.nodeName", priority=1),
            path_column("Nominated Node", "status.nominatedNodeName", priority=1),
            Column("Readiness Gates", lambda o, _: _gates(o), priority=1),
        ),
        "nodes": (
            name,
            Column("Status", lambda o, _: _node_status(o)),
            Column("Roles", lambda o, _: _roles(o)),
            aged,
            path_column("Version", "status.nodeInfo.kubeletVersion", default=""),
            Column("Internal-IP", lambda o, _: _address(o, "InternalIP"), priority=1),
            Column("External-IP", lambda o, _: _address(o, "ExternalIP"), priority=1),
            path_column("OS-Image", "status.nodeInfo.osImage", default=UNKNOWN, priority=1),
            path_column("Kernel-Version", "status.nodeInfo.kernelVersion", default=UNKNOWN, priority=1),
            path_column("Container-Runtime", "status.nodeInfo.containerRuntimeVersion", default=UNKNOWN, priority=1),
        ),
    }


def _quota(obj: Object, *, limits: bool) -> str:
    """What is used of what there may be: of limits, or of everything else."""
    hard, used = dig(obj, "status.hard", {}), dig(obj, "status.used", {})
    chosen = sorted(name for name in hard if name.startswith("limits.") is limits)
    return ", ".join(f"{name}: {used.get(name, '0')}/{hard[name]}" for name in chosen)


def _rest() -> dict[str, tuple[Column, ...]]:
    name, aged = name_column(), age_column()
    return {
        "namespaces": (name, path_column("Status", "status.phase", default=""), aged),
        "services": (
            name,
            path_column("Type", "spec.type"),
            path_column("Cluster-IP", "spec.clusterIP"),
            Column("External-IP", lambda o, _: _external_ips(o)),
            Column("Port(s)", lambda o, _: joined(_port(p) for p in dig(o, "spec.ports", []))),
            aged,
            Column("Selector", lambda o, _: pairs(dig(o, "spec.selector")), priority=1),
        ),
        "endpoints": (name, Column("Endpoints", lambda o, _: _endpoints(o)), aged),
        "configmaps": (
            name,
            Column("Data", lambda o, _: len(o.get("data") or {}) + len(o.get("binaryData") or {}), type="integer"),
            aged,
        ),
        "resourcequotas": (
            name,
            Column("Request", lambda o, _: _quota(o, limits=False)),
            Column("Limit", lambda o, _: _quota(o, limits=True)),
            aged,
        ),
        "secrets": (
            name,
            path_column("Type", "type"),
            Column("Data", lambda o, _: len(o.get("data") or {}), type="integer"),
            aged,
        ),
        "serviceaccounts": (name, aged),
        "events": _event_columns("involvedObject", "lastTimestamp", "message"),
        "events.events.k8s.io": _event_columns("regarding", "deprecatedLastTimestamp", "note"),
    }


def pod_status(pod: Object) -> str:
    """One word for a pod's state: its phase, or the most telling reason of its containers."""
    status = pod.get("status") or {}
    word = str(status.get("reason") or status.get("phase") or "Unknown")
    waiting_init = _init_status(pod, status)
    if waiting_init:
        word = waiting_init
    else:
        running_again = False
        for container in reversed(status.get("containerStatuses") or []):
            state = container.get("state") or {}
            if reason := dig(state, "waiting.reason"):
                word = reason
            elif "terminated" in state:
                word = _terminated(state["terminated"], "")
            elif container.get("ready") and "running" in state:
                running_again = True
        if word == "Completed" and running_again:
            word = "Running" if _condition(status, "Ready") == "True" else "NotReady"
    if "deletionTimestamp" in pod["metadata"]:
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return word


def _init_status(pod: Object, status: Object) -> str:
    specs = dig(pod, "spec.initContainers", [])
    sidecars = _sidecars(pod)
    for index, container in enumerate(status.get("initContainerStatuses") or []):
        state = container.get("state") or {}
        if dig(state, "terminated.exitCode") == 0 or (container.get("name") in sidecars and container.get("started")):
            continue
        if "terminated" in state:
            return _terminated(state["terminated"], "Init:")
        reason = dig(state, "waiting.reason")
        if reason and reason != "PodInitializing":
            return f"Init:{reason}"
        return f"Init:{index}/{len(specs)}"
    return ""


def _terminated(state: Object, prefix: str) -> str:
    if reason := state.get("reason"):
        return prefix + str(reason)
    signal = state.get("signal")
    return f"{prefix}Signal:{signal}" if signal else f"{prefix}ExitCode:{state.get('exitCode')}"


def _condition(status: Object, kind: str) -> str:
    return next((str(c["status"]) for c in status.get("conditions") or [] if c.get("type") == kind), "Unknown")


def _sidecars(pod: Object) -> set[str]:
    """Init containers that go on beside the others."""
    return {c["name"] for c in dig(pod, "spec.initContainers", []) if c.get("restartPolicy") == "Always"}


def _lasting(pod: Object) -> list[Object]:
    """The states of the containers, and of sidecars."""
    init, sidecars = dig(pod, "status.initContainerStatuses", []), _sidecars(pod)
    return [*(s for s in init if s.get("name") in sidecars), *dig(pod, "status.containerStatuses", [])]


def _ready(pod: Object) -> str:
    count = len(dig(pod, "spec.containers", [])) + len(_sidecars(pod))
    return f"{sum(bool(s.get('ready')) for s in _lasting(pod))}/{count}"


def _restarts(pod: Object, now: datetime) -> str:
    initialized = _condition(pod.get("status") or {}, "Initialized") != "False"
    statuses = _lasting(pod) if initialized else dig(pod, "status.initContainerStatuses", [])
    count = sum(int(s.get("restartCount", 0)) for s in statuses)
    ends = [dig(s, "lastState.terminated.finishedAt") for s in statuses]
    latest = max((e for e in ends if e), default=None)
    return f"{count} ({age(latest, now)} ago)" if count and latest else str(count)


def _gates(pod: Object) -> str:
    gates = dig(pod, "spec.readinessGates", [])
    if not gates:
        return NONE
    true = sum(_condition(pod.get("status") or {}, g["conditionType"]) == "True" for g in gates)
    return f"{true}/{len(gates)}"


def _node_status(node: Object) -> str:
    ready = _condition(node.get("status") or {}, "Ready")
    words = [{"True": "Ready", "False": "NotReady"}.get(ready, "Unknown" if ready == "Unknown" else "NotReady")]
    if dig(node, "status.conditions") and ready == "Unknown":
        words = ["NotReady"]
    if dig(node, "spec.unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(node: Object) -> str:
    labels = node["metadata"].get("labels") or {}
    prefix = "node-role.kubernetes.io/"
    roles = sorted(k.removeprefix(prefix) for k in labels if k.startswith(prefix) and k != prefix)
    return joined(roles or ([labels["kubernetes.io/role"]] if labels.get("kubernetes.io/role") else []))


def _address(node: Object, kind: str) -> str:
    return next((a["address"] for a in dig(node, "status.addresses", []) if a["type"] == kind), NONE)


def _external_ips(service: Object) -> str:
    ips = list(dig(service, "spec.externalIPs", []))
    match dig(service, "spec.type"):
        case "ExternalName":
            return str(dig(service, "spec.externalName", NONE))
        case "LoadBalancer":
            balancers = [i.get("ip") or i.get("hostname") for i in dig(service, "status.loadBalancer.ingress", [])]
            return joined(balancers + ips) if balancers + ips else "<pending>"
    return joined(ips)


def _port(port: Object) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}"


def _endpoints(endpoints: Object) -> str:
    found: list[str] = []
    for subset in endpoints.get("subsets") or []:
        for address in subset.get("addresses") or []:
            ip = f"[{address['ip']}]" if ":" in address["ip"] else address["ip"]
            found.extend(f"{ip}:{p['port']}" for p in subset.get("ports") or [])
    return joined(found, limit=3)


def _event_columns(subject: str, last: str, message: str) -> tuple[Column, ...]:
    def seen(event: Object, now: datetime) -> str:
        when = event.get(last) or event.get("eventTime") or event["metadata"].get("creationTimestamp")
        return age(when, now)

    def target(event: Object, _: datetime) -> str:
        about: Any = event.get(subject) or {}
        return f"{about.get('kind', '').lower()}/{about.get('name', '')}"

    return (
        Column("Last Seen", seen),
        path_column("Type", "type", default=""),
        path_column("Reason", "reason", default=""),
        Column("Object", target),
        Column("Source", lambda o, _: dig(o, "source.component") or o.get("reportingController") or "", priority=1),
        Column("Message", lambda o, _: str(o.get(message) or "").strip()),
        Column("Count", lambda o, _: o.get("count") or 1, type="integer", priority=1),
        Column("Name", lambda o, _: o["metadata"]["name"], priority=1, format="name"),
    )
