"""The pods that a local redirect policy selects.

In: a selector of Kubernetes labels, pods. Out: those that it selects, and those of them that may get connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cilium.tables.kubernetes import Pod
from cilium.tables.rules import Requirement, Selector


@dataclass(frozen=True, slots=True)
class Selected:
    """Pods in the order of their names."""

    all: tuple[Pod, ...]
    ready: tuple[Pod, ...]
    """A pod that is being deleted gets no new connection."""


def select(selector: Selector, pods: Iterable[Pod]) -> Selected:
    found = sorted((pod for pod in pods if selects(selector, pod.labels)), key=lambda pod: pod.key)
    ready = (pod for pod in found if pod.ready and pod.phase == "Running" and not pod.deleting)
    return Selected(tuple(found), tuple(ready))


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    return all(_holds(term, labels) for term in selector.requirements)


def _holds(term: Requirement, labels: Mapping[str, str]) -> bool:
    """Keys carry the source that security labels have; pods' own labels are all of one, k8s."""
    source, _, key = term.key.partition(":")
    value = labels.get(key) if source in ("k8s", "any") else None
    match term.operator:
        case "In":
            return value is not None and value in term.values
        case "NotIn":
            return value is None or value not in term.values
        case "Exists":
            return value is not None
        case _:
            return value is None
