"""Whether a pod fits beside others: resources, host ports, affinity between pods. Used by the scheduler.

In: pods and nodes as plain dicts. Out: reasons in the words of `FailedScheduling`; pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain

from kubelab.apiserver.quantities import quantity
from kubelab.apiserver.selectors import from_spec
from kubelab.controllers.objects import Object, labels_of

HOSTNAME = "kubernetes.io/hostname"


def requests_of(pod: Object) -> dict[str, Decimal]:
    """What the scheduler reserves: the sum over containers, at least the largest init container, and one pod."""
    spec = pod["spec"]
    total: dict[str, Decimal] = {}
    for container in spec.get("containers") or ():
        for name, text in _requests(container).items():
            total[name] = total.get(name, Decimal(0)) + quantity(text)
    for container in spec.get("initContainers") or ():
        for name, text in _requests(container).items():
            total[name] = max(total.get(name, Decimal(0)), quantity(text))
    total["pods"] = Decimal(1)
    return total


def _requests(container: Object) -> Mapping[str, object]:
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def insufficient(pod: Object, node: Object, pods: Iterable[Object]) -> str | None:
    """The first resource that the node has too little of."""
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    used: dict[str, Decimal] = {}
    for other in pods:
        for name, amount in requests_of(other).items():
            used[name] = used.get(name, Decimal(0)) + amount
    for name, amount in requests_of(pod).items():
        known = name in allocatable
        if not known and (name in ("pods", "cpu", "memory", "ephemeral-storage") or amount == 0):
            continue  # a node that says nothing about itself takes everything ordinary
        if not known or used.get(name, Decimal(0)) + amount > quantity(allocatable[name]):
            return "Too many pods" if name == "pods" else f"Insufficient {name}"
    return None


def host_ports(pod: Object) -> set[tuple[str, str, int]]:
    """(address, protocol, port) that the pod takes on its node."""
    spec = pod["spec"]
    found = set()
    for container in spec.get("containers") or ():
        for port in container.get("ports") or ():
            number = port.get("hostPort") or (port["containerPort"] if spec.get("hostNetwork") else 0)
            if number:
                found.add((port.get("hostIP") or "0.0.0.0", port.get("protocol", "TCP"), int(number)))
    return found


def port_conflict(pod: Object, pods: Iterable[Object]) -> bool:
    taken = set(chain.from_iterable(host_ports(other) for other in pods))
    anywhere = ("0.0.0.0", "::")
    return any(
        protocol == other_protocol and number == other_number and (a == b or a in anywhere or b in anywhere)
        for a, protocol, number in host_ports(pod)
        for b, other_protocol, other_number in taken
    )


def _terms(pod: Object, kind: str) -> Sequence[Object]:
    affinity = (pod["spec"].get("affinity") or {}).get(kind) or {}
    return affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()


def _term_selects(term: Object, owner: Object, other: Object) -> bool:
    namespaces = term.get("namespaces") or ([] if "namespaceSelector" in term else [owner["metadata"]["namespace"]])
    everywhere = "namespaceSelector" in term and not (term["namespaceSelector"] or {})
    if not everywhere and other["metadata"]["namespace"] not in namespaces:
        return False
    selector = from_spec(term.get("labelSelector"))
    return selector is not None and selector.matches(labels_of(other))


def breaks_affinity(pod: Object, node: Object, placed: Sequence[tuple[Object, Object]]) -> str | None:
    """`placed`: every running pod with its node. Required terms only; the topology is any node label."""

    def near(term: Object) -> Iterable[Object]:
        zone = labels_of(node).get(term["topologyKey"])
        return (
            other for other, place in placed if zone is not None and labels_of(place).get(term["topologyKey"]) == zone
        )

    for term in _terms(pod, "podAffinity"):
        if any(_term_selects(term, pod, other) for other in near(term)):
            continue
        nobody = not any(_term_selects(term, pod, other) for other, _ in placed)
        if not (nobody and _term_selects(term, pod, pod)):  # the first of a group that wants to be together
            return "node(s) didn't match pod affinity rules"
    for term in _terms(pod, "podAntiAffinity"):
        if any(_term_selects(term, pod, other) for other in near(term)):
            return "node(s) didn't match pod anti-affinity rules"
    for other, _ in placed:
        for term in _terms(other, "podAntiAffinity"):
            if _term_selects(term, other, pod) and any(other is candidate for candidate in near(term)):
                return "node(s) didn't satisfy existing pods anti-affinity rules"
    return None
