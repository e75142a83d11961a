"""Defaults and bounds of a namespace's LimitRanges.

Comes in: new pods and claims, and the LimitRanges of their namespace. Goes out: requests and limits that were left out;
Forbidden with every bound that is passed. Source: Kubernetes documentation "Limit Ranges".
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal

from kubelab.apiserver.admission.base import Object, Plugin, Write
from kubelab.apiserver.errors import forbidden
from kubelab.quantities import quantity, quantity_text

ANNOTATION = "kubernetes.io/limit-ranger"
Amounts = dict[str, str]


class LimitRanger(Plugin):
    handles = frozenset({"pods", "persistentvolumeclaims"})

    def mutate(self, write: Write) -> None:
        spec = write.obj.get("spec")
        if not write.creates or not isinstance(spec, dict) or write.resource.key != "pods":
            return
        said = [
            text
            for item in _items(write)
            if item.get("type") == "Container"
            for container in _containers(spec)
            for text in _default(container, item)
        ]
        if said:
            metadata = write.obj["metadata"]
            text = "LimitRanger plugin set: " + "; ".join(said)
            metadata["annotations"] = {**(metadata.get("annotations") or {}), ANNOTATION: text}

    def validate(self, write: Write) -> None:
        if write.subresource or (not write.creates and write.resource.key == "pods"):
            return
        faults: list[str] = []
        for item in _items(write):
            match write.resource.key, item.get("type"):
                case "pods", "Container":
                    for container in _containers(write.obj["spec"]):
                        faults += _faults(item, *_resources(container))
                case "pods", "Pod":
                    faults += _faults(item, *_sums(write.obj["spec"]))
                case "persistentvolumeclaims", "PersistentVolumeClaim":
                    requests, _ = _resources(write.obj["spec"])
                    faults += _faults(item, requests, requests)
        if faults:
            why = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
            plural, name = write.resource.plural, write.obj["metadata"]["name"]
            raise forbidden(group="", plural=plural, name=name, why=why)


def _items(write: Write) -> Iterator[Object]:
    for limits in write.store.peek_all("limitranges", namespace=write.namespace):
        yield from (limits.get("spec") or {}).get("limits") or ()


def _containers(spec: Object) -> list[Object]:
    return [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]


def _resources(holder: Object) -> tuple[Amounts, Amounts]:
    """Requests and limits."""
    resources = holder.get("resources") or {}
    return resources.get("requests") or {}, resources.get("limits") or {}


def _default(container: Object, item: Object) -> Iterator[str]:
    resources = {**(container.get("resources") or {})}
    requests, limits = dict(resources.get("requests") or {}), dict(resources.get("limits") or {})
    # A limit without a request is its own request; a default request must not stand beside it.
    requests = {**limits, **requests}
    for field, values, defaults in (
        ("request", requests, item.get("defaultRequest")),
        ("limit", limits, item.get("default")),
    ):
        added = {name: amount for name, amount in (defaults or {}).items() if name not in values}
        values.update(added)
        if added:
            yield f"{', '.join(sorted(added))} {field} for container {container.get('name', '')}"
    written = {field: values for field, values in (("requests", requests), ("limits", limits)) if values}
    container["resources"] = {**resources, **written}


def _sums(spec: Object) -> tuple[Amounts, Amounts]:
    """Of a whole pod: the sum over containers, at least the largest init container."""
    found: list[Amounts] = []
    for index in (0, 1):
        total: dict[str, Decimal] = {}
        for container in spec.get("containers") or ():
            for name, text in _resources(container)[index].items():
                total[name] = total.get(name, Decimal(0)) + quantity(text)
        for container in spec.get("initContainers") or ():
            for name, text in _resources(container)[index].items():
                total[name] = max(total.get(name, Decimal(0)), quantity(text))
        found.append({name: quantity_text(amount) for name, amount in total.items()})
    return found[0], found[1]


def _faults(item: Object, requests: Amounts, limits: Amounts) -> Iterable[str]:
    kind = item.get("type")
    for name, least in (item.get("min") or {}).items():
        subject = f"minimum {name} usage per {kind} is {least}"
        if name not in requests:
            yield f"{subject}.  No request is specified"
        elif quantity(requests[name]) < quantity(least):
            yield f"{subject}, but request is {requests[name]}"
        elif name in limits and quantity(limits[name]) < quantity(least):
            yield f"{subject}, but limit is {limits[name]}"
    for name, most in (item.get("max") or {}).items():
        subject = f"maximum {name} usage per {kind} is {most}"
        if name not in limits:
            yield f"{subject}.  No limit is specified"
        elif quantity(limits[name]) > quantity(most):
            yield f"{subject}, but limit is {limits[name]}"
        elif name in requests and quantity(requests[name]) > quantity(most):
            yield f"{subject}, but request is {requests[name]}"
    for name, ratio in (item.get("maxLimitRequestRatio") or {}).items():
        request, limit = quantity(requests.get(name, 0)), quantity(limits.get(name, 0))
        if not request or not limit:
            why = "but no request is specified or request is 0"
            yield f"{name} max limit to request ratio per {kind} is {ratio}, {why}"
        elif limit / request > quantity(ratio):
            shown = f"{limit / request:.6f}"
            yield f"{name} max limit to request ratio per {kind} is {ratio}, but provided ratio is {shown}"
