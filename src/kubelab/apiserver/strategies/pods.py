"""Pods: defaults of pod specs (also inside templates), validation, what an update may change, grace periods."""

from collections.abc import Iterator
from typing import Any

from kubelab.apiserver.copies import clone
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Object, Reader
from kubelab.apiserver.strategies.common import (
    NamedStrategy,
    duplicate,
    invalid_value,
    is_label,
    required,
    unsupported,
)

_POLICIES = ("Always", "OnFailure", "Never")
_PULL = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")
_NODE_TOLERATIONS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_DEFAULT_GRACE = 30
_GIVEN = ("nodeName", "priority", "preemptionPolicy")
"""What the server gave the pod: an update may leave it out."""
DEFAULT_TOLERATION_SECONDS = 300
"""For which a pod stays on a node that is not ready."""


class PodStrategy(NamedStrategy):
    toleration_seconds = DEFAULT_TOLERATION_SECONDS

    def default(self, obj: Object) -> None:
        default_pod_spec(obj.get("spec"))
        spec = obj.get("spec")
        if isinstance(spec, dict):
            spec.setdefault("serviceAccountName", "default")
            spec["serviceAccount"] = spec["serviceAccountName"]
            spec.setdefault("enableServiceLinks", True)

    def prepare_create(self, obj: Object, store: Reader) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return
        tolerations = spec.setdefault("tolerations", [])
        for key in _NODE_TOLERATIONS:
            if not any(t.get("key") in (key, None) and t.get("effect") in ("NoExecute", None) for t in tolerations):
                toleration = {"key": key, "operator": "Exists", "effect": "NoExecute"}
                tolerations.append({**toleration, "tolerationSeconds": self.toleration_seconds})
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
        spec.setdefault("priority", 0)
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}

    def prepare_update(self, obj: Object, old: Object, store: Reader) -> None:
        if isinstance(obj.get("spec"), dict):
            for field in _GIVEN:
                if field in old["spec"]:
                    obj["spec"].setdefault(field, old["spec"][field])

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        if isinstance(obj.get("spec"), dict):
            causes += pod_spec_causes(obj["spec"], "spec")
        else:
            causes.append(required("spec"))
        if old is not None and not causes and _frozen(obj["spec"]) != _frozen(old["spec"]):
            why = (
                "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, "
                "`spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.terminationGracePeriodSeconds`, "
                "`spec.tolerations` (only additions)"
            )
            causes.append(Cause("spec", "FieldValueForbidden", why))
        return causes

    def grace_seconds(self, obj: Object, asked: int | None) -> int:
        spec, phase = obj["spec"], (obj.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
            return 0
        own = spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE)
        return int(own if asked is None else asked)


def _frozen(spec: Object) -> Object:
    """The part of a pod spec that no update may change."""
    frozen = clone(spec)
    for field in (
        "activeDeadlineSeconds",
        "tolerations",
        "terminationGracePeriodSeconds",
        "ephemeralContainers",
        "schedulingGates",
    ):
        frozen.pop(field, None)
    for kind in ("containers", "initContainers"):
        for container in frozen.get(kind) or ():
            container.pop("image", None)
            container.pop("resources", None)
    return frozen


def default_template(spec: Any) -> None:
    """Defaults of the pod template of a workload's spec."""
    template = spec.get("template") if isinstance(spec, dict) else None
    if isinstance(template, dict):
        template.setdefault("metadata", {})
        default_pod_spec(template.get("spec"))


def default_pod_spec(spec: Any) -> None:
    if not isinstance(spec, dict):
        return
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("terminationGracePeriodSeconds", _DEFAULT_GRACE)
    spec.setdefault("securityContext", {})
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    for kind in _CONTAINER_LISTS:
        for container in spec.get(kind) or ():
            if isinstance(container, dict):
                _default_container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or ():
        _default_volume(volume)


def _default_container(container: Object, *, host_network: bool) -> None:
    image = str(container.get("image", ""))
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for name in _PROBES:
        probe = container.get(name)
        if isinstance(probe, dict):
            for field, value in (
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ):
                probe.setdefault(field, value)
            if isinstance(probe.get("httpGet"), dict):
                probe["httpGet"].setdefault("path", "/")
                probe["httpGet"].setdefault("scheme", "HTTP")
            if isinstance(probe.get("grpc"), dict):
                probe["grpc"].setdefault("service", "")
    for variable in container.get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if isinstance(reference, dict):
            reference.setdefault("apiVersion", "v1")


def _default_volume(volume: Object) -> None:
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        if isinstance(volume.get(kind), dict):
            volume[kind].setdefault("defaultMode", 0o644)
    if isinstance(volume.get("hostPath"), dict):
        volume["hostPath"].setdefault("type", "")


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, by the requests and limits of cpu and memory."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    if not any((c.get("resources") or {}).get(k) for c in containers for k in ("requests", "limits")):
        return "BestEffort"
    for container in containers:
        limits = (container.get("resources") or {}).get("limits") or {}
        requests = (container.get("resources") or {}).get("requests") or limits
        if not {"cpu", "memory"} <= set(limits) or any(
            requests.get(k, limits[k]) != limits[k] for k in ("cpu", "memory")
        ):
            return "Burstable"
    return "Guaranteed"


def pod_spec_causes(spec: Object, path: str) -> list[Cause]:
    causes = list(_list_causes(spec, path))
    if spec.get("restartPolicy") not in _POLICIES:
        causes.append(unsupported(f"{path}.restartPolicy", spec.get("restartPolicy"), _POLICIES))
    if spec.get("dnsPolicy") not in _DNS_POLICIES:
        causes.append(unsupported(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES))
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        causes.append(
            invalid_value(
                f"{path}.terminationGracePeriodSeconds", spec["terminationGracePeriodSeconds"], "must be 0 or more"
            )
        )
    if spec.get("hostname") and not is_label(spec["hostname"]):
        causes.append(invalid_value(f"{path}.hostname", spec["hostname"], "a lowercase RFC 1123 label is expected"))
    return causes


def _list_causes(spec: Object, path: str) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    volumes = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        name = volume.get("name") or ""
        if name in volumes:
            yield duplicate(f"{path}.volumes[{index}].name", name)
        elif not is_label(name):
            yield invalid_value(f"{path}.volumes[{index}].name", name, "a lowercase RFC 1123 label is expected")
        volumes.add(name)
    names: set[str] = set()
    for kind in _CONTAINER_LISTS:
        for index, container in enumerate(spec.get(kind) or ()):
            where = f"{path}.{kind}[{index}]"
            name = container.get("name") or ""
            if name in names:
                yield duplicate(f"{where}.name", name)
            names.add(name)
            yield from _container_causes(container, where, volumes, host_network=bool(spec.get("hostNetwork")))


def _container_causes(container: Object, path: str, volumes: set[str], *, host_network: bool) -> Iterator[Cause]:
    name = container.get("name") or ""
    if not name:
        yield required(f"{path}.name")
    elif not is_label(name):
        yield invalid_value(
            f"{path}.name", name, "a lowercase RFC 1123 label is expected: at most 63 lower case letters, digits or '-'"
        )
    if not container.get("image"):
        yield required(f"{path}.image")
    if container.get("imagePullPolicy") not in _PULL:
        yield unsupported(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL)
    for index, port in enumerate(container.get("ports") or ()):
        where = f"{path}.ports[{index}]"
        for field in ("containerPort", "hostPort"):
            value = port.get(field)
            if value is not None and not 0 < value < 65536:
                yield invalid_value(f"{where}.{field}", value, "must be between 1 and 65535, inclusive")
        if port.get("protocol") not in _PROTOCOLS:
            yield unsupported(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)
        if host_network and port.get("hostPort") != port.get("containerPort"):
            yield invalid_value(
                f"{where}.hostPort", port.get("hostPort"), "must match `containerPort` when `hostNetwork` is true"
            )
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            cause = f'Not found: "{mount.get("name")}"'
            yield Cause(f"{path}.volumeMounts[{index}].name", "FieldValueNotFound", cause)
    for probe in _PROBES:
        if isinstance(container.get(probe), dict):
            handlers = [h for h in ("httpGet", "tcpSocket", "exec", "grpc") if h in container[probe]]
            if len(handlers) != 1:
                yield required(
                    f"{path}.{probe}", "must specify exactly one handler type: httpGet, tcpSocket, exec or grpc"
                )
