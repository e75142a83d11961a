"""Pods: defaults of pod specs (also inside templates), validation, what an update may change, grace periods."""

from collections.abc import Iterable, Iterator
from typing import Any

from kubelab.apiserver.copies import clone
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies import names
from kubelab.apiserver.strategies.base import Object, Reader
from kubelab.apiserver.strategies.common import (
    NamedStrategy,
    duplicate,
    invalid_value,
    label_causes,
    qualified_name,
    required,
    same_content,
    selector_causes,
    unsupported,
)
from kubelab.apiserver.strategies.containers import (
    container_causes,
    default_container,
    default_requests,
    host_port_causes,
)
from kubelab.apiserver.strategies.volumes import volume_causes

_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")
_NODE_TOLERATIONS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_DEFAULT_GRACE = 30
_LARGEST = 2**31 - 1
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED, _PREFERRED = (f"{how}DuringSchedulingIgnoredDuringExecution" for how in ("required", "preferred"))
_NOT_NEGATIVE = "must be greater than or equal to 0"
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
            default_requests(spec)

    def prepare_create(self, obj: Object, store: Reader) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return
        _tolerate_nodes(spec, self.toleration_seconds)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
        spec.setdefault("priority", 0)
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}

    def prepare_update(self, obj: Object, old: Object, store: Reader) -> None:
        if isinstance(obj.get("spec"), dict):
            _tolerate_nodes(obj["spec"], self.toleration_seconds)
            for field in _GIVEN:
                if field in old["spec"]:
                    obj["spec"].setdefault(field, old["spec"][field])

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        if same_content(obj, old):
            return causes
        if isinstance(obj.get("spec"), dict):
            causes += pod_spec_causes(obj["spec"], "spec")
        else:
            causes.append(required("spec"))
        if old is not None and not causes:
            causes += update_causes(obj["spec"], old["spec"])
        return causes

    def grace_seconds(self, obj: Object, asked: int | None) -> int:
        spec, phase = obj["spec"], (obj.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
            return 0
        own = spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE)
        return int(own if asked is None else asked)


def _tolerate_nodes(spec: Object, seconds: int) -> None:
    """A pod stays so long on a node that is away, if it says nothing else."""
    tolerations = spec.setdefault("tolerations", [])
    for key in _NODE_TOLERATIONS:
        if not any(t.get("key") in (key, None) and t.get("effect") in ("NoExecute", None) for t in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds})


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
                default_container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or ():
        _default_volume(volume)


def _default_volume(volume: Object) -> None:
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        if isinstance(volume.get(kind), dict):
            volume[kind].setdefault("defaultMode", 0o644)
    if isinstance(volume.get("hostPath"), dict):
        volume["hostPath"].setdefault("type", "")
    projected = (volume.get("projected") or {}).get("sources") or ()
    for source in projected:
        if isinstance(source.get("serviceAccountToken"), dict):
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
    for place in (volume, *projected):
        for item in (place.get("downwardAPI") or {}).get("items") or ():
            if isinstance(item.get("fieldRef"), dict):
                item["fieldRef"].setdefault("apiVersion", "v1")
            if isinstance(item.get("resourceFieldRef"), dict):
                item["resourceFieldRef"].setdefault("divisor", "0")
    claim = ((volume.get("ephemeral") or {}).get("volumeClaimTemplate") or {}).get("spec")
    if isinstance(claim, dict):
        claim.setdefault("volumeMode", "Filesystem")


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


def pod_spec_causes(spec: Object, path: str, *, claims: Iterable[str] = ()) -> list[Cause]:
    """`claims`: volumes that pods of a template get besides its own."""
    causes = [*_list_causes(spec, path, claims), *_neighbour_causes(spec, path)]
    if spec.get("restartPolicy") not in _POLICIES:
        causes.append(unsupported(f"{path}.restartPolicy", spec.get("restartPolicy"), _POLICIES))
    if spec.get("dnsPolicy") not in _DNS_POLICIES:
        causes.append(unsupported(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES))
    elif spec["dnsPolicy"] == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        causes.append(required(f"{path}.dnsConfig.nameservers", why))
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        seconds = spec["terminationGracePeriodSeconds"]
        causes.append(invalid_value(f"{path}.terminationGracePeriodSeconds", seconds, _NOT_NEGATIVE))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 0 < deadline <= _LARGEST:
        why = f"must be between 1 and {_LARGEST}, inclusive"
        causes.append(invalid_value(f"{path}.activeDeadlineSeconds", deadline, why))
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            causes += [invalid_value(f"{path}.{field}", spec[field], why) for why in names.label(spec[field])]
    for field, check in (("serviceAccountName", names.subdomain), ("nodeName", names.subdomain)):
        if spec.get(field):
            causes += [invalid_value(f"{path}.{field}", spec[field], why) for why in check(spec[field])]
    causes += label_causes(spec.get("nodeSelector"), f"{path}.nodeSelector")
    return causes + list(_toleration_causes(spec.get("tolerations") or (), f"{path}.tolerations"))


def _toleration_causes(tolerations: Any, path: str) -> Iterator[Cause]:
    for index, toleration in enumerate(tolerations):
        where, operator = f"{path}[{index}]", toleration.get("operator") or "Equal"
        if toleration.get("key"):
            yield from qualified_name(toleration["key"], f"{where}.key")
        elif operator != "Exists":
            why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            yield invalid_value(f"{where}.operator", operator, why)
        if operator not in ("Equal", "Exists"):
            yield unsupported(f"{where}.operator", operator, ("Equal", "Exists"))
        elif operator == "Exists" and toleration.get("value"):
            why = "value must be empty when `operator` is 'Exists'"
            yield invalid_value(f"{where}.operator", toleration["value"], why)
        if toleration.get("effect") not in (None, "", *_EFFECTS):
            yield unsupported(f"{where}.effect", toleration["effect"], _EFFECTS)
        if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
            why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            yield invalid_value(f"{where}.effect", toleration.get("effect") or "", why)


def _neighbour_causes(spec: Object, path: str) -> Iterator[Cause]:
    """Selectors of pods, near which or far from which this one wants to be."""
    terms = [
        (term, f"topologySpreadConstraints[{i}]") for i, term in enumerate(spec.get("topologySpreadConstraints") or ())
    ]
    for kind in ("podAffinity", "podAntiAffinity"):
        wanted = (spec.get("affinity") or {}).get(kind) or {}
        for i, term in enumerate(wanted.get(_REQUIRED) or ()):
            terms.append((term, f"affinity.{kind}.{_REQUIRED}[{i}]"))
        for i, weighted in enumerate(wanted.get(_PREFERRED) or ()):
            terms.append((weighted.get("podAffinityTerm") or {}, f"affinity.{kind}.{_PREFERRED}[{i}].podAffinityTerm"))
    for term, where in terms:
        for field in ("labelSelector", "namespaceSelector"):
            yield from selector_causes(term.get(field), f"{path}.{where}.{field}")


def _list_causes(spec: Object, path: str, claims: Iterable[str]) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    volumes: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from volume_causes(volume, f"{path}.volumes[{index}]", volumes)
    volumes.update(claims)
    known: set[str] = set()
    for kind in _CONTAINER_LISTS:
        for index, container in enumerate(spec.get(kind) or ()):
            where = f"{path}.{kind}[{index}]"
            name = container.get("name") or ""
            if name in known:
                yield duplicate(f"{where}.name", name)
            known.add(name)
            yield from container_causes(container, where, volumes, host_network=bool(spec.get("hostNetwork")))
    yield from host_port_causes(spec.get("containers"), f"{path}.containers")


def update_causes(spec: Object, old: Object) -> Iterator[Cause]:
    """What an update of a pod may not do."""
    for kind in ("containers", "initContainers"):
        if len(spec.get(kind) or ()) != len(old.get(kind) or ()):
            yield Cause(
                f"spec.{kind}", "FieldValueForbidden", "Forbidden: pod updates may not add or remove containers"
            )
            return
    deadline, before = spec.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if before is not None and (deadline is None or deadline > before):
        why = (
            "must be less than or equal to previous value"
            if deadline
            else "must not update from a positive integer to nil value"
        )
        yield invalid_value("spec.activeDeadlineSeconds", deadline, why)
    if not all(_tolerates(t, spec.get("tolerations") or ()) for t in old.get("tolerations") or ()):
        why = "Forbidden: existing toleration can not be modified except its tolerationSeconds"
        yield Cause("spec.tolerations", "FieldValueForbidden", why)
    if _frozen(spec) != _frozen(old):
        why = (
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously "
            "negative)"
        )
        yield Cause("spec", "FieldValueForbidden", why)


def _tolerates(toleration: Object, tolerations: Any) -> bool:
    def shape(value: Object) -> Object:
        return {k: v for k, v in value.items() if k != "tolerationSeconds"}

    return any(shape(toleration) == shape(t) for t in tolerations)
