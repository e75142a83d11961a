"""Whether a pod fits beside others: resources and host ports. Used by the scheduler.

In: pods and nodes as plain dicts. Out: reasons in the words of `FailedScheduling`; pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from kubelab.controllers.objects import Object
from kubelab.quantities import quantity

ORDINARY = ("pods", "cpu", "memory", "ephemeral-storage")


def requests_of(pod: Object) -> dict[str, Decimal]:
    """What the scheduler reserves: what the containers and those beside them need together, at least what the greediest
    moment of initialisation needs, and one pod.
    """
    spec = pod["spec"]
    total: dict[str, Decimal] = {}
    beside: dict[str, Decimal] = {}
    peak: dict[str, Decimal] = {}
    for container in spec.get("containers") or ():
        _add(total, _requests(container))
    for container in spec.get("initContainers") or ():
        needs = _requests(container)
        if container.get("restartPolicy") == "Always":  # it stays beside the containers
            _add(beside, needs)
            needs = {}
        moment = dict(beside)
        _add(moment, needs)
        peak = {name: max(peak.get(name, Decimal(0)), moment.get(name, Decimal(0))) for name in {*peak, *moment}}
    _add(total, beside)
    total = {name: max(total.get(name, Decimal(0)), peak.get(name, Decimal(0))) for name in {*total, *peak}}
    total |= {name: quantity(text) for name, text in _requests(spec).items()}
    _add(total, spec.get("overhead") or {})
    total["pods"] = Decimal(1)
    return total


def _add(total: dict[str, Decimal], needs: Mapping[str, object]) -> None:
    for name, text in needs.items():
        amount = text if isinstance(text, Decimal) else quantity(text)
        total[name] = total.get(name, Decimal(0)) + amount


def _requests(container: Object) -> Mapping[str, object]:
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def insufficient(requests: Mapping[str, Decimal], node: Object, used: Mapping[str, Decimal]) -> list[str]:
    """Every resource that the node has too little of, in words."""
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    found = []
    for name, amount in requests.items():
        known = name in allocatable
        if amount == 0 or (not known and name in ORDINARY):
            continue  # a node that says nothing about itself takes everything ordinary
        if not known or used.get(name, Decimal(0)) + amount > quantity(allocatable[name]):
            found.append("Too many pods" if name == "pods" else f"Insufficient {name}")
    return found


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


def port_conflict(wanted: Iterable[tuple[str, str, int]], taken: Iterable[tuple[str, str, int]]) -> bool:
    anywhere = ("0.0.0.0", "::")
    busy = list(taken)
    return any(
        protocol == other_protocol and number == other_number and (a == b or a in anywhere or b in anywhere)
        for a, protocol, number in wanted
        for b, other_protocol, other_number in busy
    )


def terms_of(pod: Object, kind: str) -> Sequence[Object]:
    """Required terms of `podAffinity` or `podAntiAffinity`."""
    affinity = (pod["spec"].get("affinity") or {}).get(kind) or {}
    return affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
