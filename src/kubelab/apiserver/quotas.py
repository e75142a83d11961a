"""Resource quotas: what a namespace uses of what it may.

Owns: the reckoning of usage. Comes in: a quota, objects. Goes out: amounts by resource name. The admission plugin asks
before a write, the controller after it; both get the same answer. Source: Kubernetes documentation "Resource Quotas".
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kubelab.apiserver.resources import Resource
from kubelab.apiserver.strategies.base import Reader
from kubelab.quantities import quantity, quantity_text

Object = dict[str, Any]
Usage = dict[str, Decimal]

QUOTAS = "resourcequotas"
COUNTED = (
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
)
COMPUTE = ("cpu", "memory", "ephemeral-storage")
_STORAGE = "requests.storage"


def usage_of(resource: Resource, obj: Object) -> Usage:
    """What one object uses. A pod that has ended uses nothing but its place in the count of objects."""
    used: Usage = {f"count/{resource.key}": Decimal(1)}
    if resource.key in COUNTED:
        used[resource.key] = Decimal(1)
    match resource.key:
        case "pods":
            used |= _pod(obj)
        case "services":
            used |= _service(obj)
        case "persistentvolumeclaims":
            used |= _claim(obj)
    return used


def governed(quota: Object, used: Mapping[str, Decimal]) -> Usage:
    """The part of a usage that the quota limits."""
    hard = (quota.get("spec") or {}).get("hard") or {}
    return {name: used[name] for name in hard if name in used}


def applies(quota: Object, resource: Resource, obj: Object) -> bool:
    """Whether the quota's scopes, which are about pods, let it count this object."""
    spec = quota.get("spec") or {}
    scopes = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    scopes += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if not scopes:
        return True
    return resource.key == "pods" and all(_in_scope(scope, obj) for scope in scopes)


def measure(quota: Object, resources: Iterable[Resource], store: Reader) -> Usage:
    """What the namespace of the quota uses now, of everything that the quota limits."""
    hard = (quota.get("spec") or {}).get("hard") or {}
    total = dict.fromkeys(hard, Decimal(0))
    namespace = quota["metadata"]["namespace"]
    for resource in resources:
        if not resource.namespaced or not concerns(hard, resource):
            continue
        for obj in store.peek_all(resource.key, namespace=namespace):
            if applies(quota, resource, obj):
                for name, amount in governed(quota, usage_of(resource, obj)).items():
                    total[name] += amount
    return total


def concerns(hard: Mapping[str, Any], resource: Resource) -> bool:
    """Whether any of the limits is about this resource."""
    return any(_subject(name) == resource.key for name in hard)


def shown(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    """As quantities, memory and storage in powers of two."""
    return {
        name: quantity_text(amount, binary="memory" in name or "storage" in name) for name, amount in amounts.items()
    }


def _subject(name: str) -> str:
    """The resource that a limit is about."""
    if name.startswith("count/"):
        return name.removeprefix("count/")
    if name in COUNTED:
        return name
    if name.startswith("services."):
        return "services"
    if name == _STORAGE or ".storageclass.storage.k8s.io/" in name:
        return "persistentvolumeclaims"
    return "pods"


def _pod(pod: Object) -> Usage:
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return {}
    used: Usage = {"pods": Decimal(1)}
    for name, amount in pod_resources(pod["spec"], "requests").items():
        used[f"requests.{name}"] = amount
        if name in COMPUTE:
            used[name] = amount
    for name, amount in pod_resources(pod["spec"], "limits").items():
        used[f"limits.{name}"] = amount
    return used


def pod_resources(spec: Object, field: str) -> Usage:
    """The sum over containers, at least the largest init container; a limit without request is a request."""
    total: Usage = {}
    for container in spec.get("containers") or ():
        for name, text in _amounts(container, field).items():
            total[name] = total.get(name, Decimal(0)) + quantity(text)
    for container in spec.get("initContainers") or ():
        for name, text in _amounts(container, field).items():
            total[name] = max(total.get(name, Decimal(0)), quantity(text))
    return total


def _amounts(container: Object, field: str) -> Mapping[str, Any]:
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    return limits if field == "limits" else {**limits, **(resources.get("requests") or {})}


def missing_amounts(quota: Object, pod: Object) -> list[str]:
    """Limits of the quota for which a container says no amount: `limits.cpu for: web`."""
    found: dict[str, list[str]] = {}
    for name in (quota.get("spec") or {}).get("hard") or {}:
        field, _, kind = name.rpartition(".")
        if kind not in COMPUTE or field not in ("", "requests", "limits"):
            continue
        for container in pod["spec"].get("containers") or ():
            if kind not in _amounts(container, field or "requests"):
                found.setdefault(name, []).append(container["name"])
    return [f"{name} for: {','.join(containers)}" for name, containers in sorted(found.items())]


def _service(service: Object) -> Usage:
    spec = service.get("spec") or {}
    used: Usage = {}
    if spec.get("type") == "LoadBalancer":
        used["services.loadbalancers"] = Decimal(1)
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        allocated = spec.get("allocateLoadBalancerNodePorts") is not False or spec["type"] == "NodePort"
        used["services.nodeports"] = Decimal(len(spec.get("ports") or ()) if allocated else 0)
    return used


def _claim(claim: Object) -> Usage:
    spec = claim.get("spec") or {}
    size = quantity(((spec.get("resources") or {}).get("requests") or {}).get("storage", 0))
    used = {_STORAGE: size}
    if name := spec.get("storageClassName"):
        prefix = f"{name}.storageclass.storage.k8s.io"
        used |= {f"{prefix}/{_STORAGE}": size, f"{prefix}/persistentvolumeclaims": Decimal(1)}
    return used


def _in_scope(scope: Object, pod: Object) -> bool:
    spec = pod["spec"]
    match scope["scopeName"]:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return _best_effort(spec)
        case "NotBestEffort":
            return not _best_effort(spec)
        case "PriorityClass":
            own, values = spec.get("priorityClassName"), scope.get("values") or ()
            return {
                "In": own in values,
                "NotIn": own not in values,
                "Exists": bool(own),
                "DoesNotExist": not own,
            }[scope.get("operator", "Exists")]
    return False


def _best_effort(spec: Object) -> bool:
    return not any(pod_resources(spec, field) for field in ("requests", "limits"))
