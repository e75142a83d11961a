"""How the pods of a DaemonSet are replaced: which go, and on which nodes one comes beside the old one.

In: the pods of each node, those of the present template apart, and which of them are available. Out: pods to delete,
nodes that get one. Pure functions. Source: Kubernetes documentation, "Perform a Rolling Update on a DaemonSet".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kubelab.controllers.objects import Object, share


@dataclass(frozen=True, slots=True)
class OnNode:
    """The active pods of a set on one node, oldest first."""

    old: Sequence[Object] = ()
    new: Sequence[Object] = ()
    available: Sequence[Object] = ()

    def serves(self, pods: Sequence[Object]) -> bool:
        return any(pod is one for pod in pods for one in self.available)


@dataclass(slots=True)
class Step:
    """What is done next: pods that go, with nodes that get a new one now."""

    delete: list[Object] = field(default_factory=list)
    create: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Budget:
    """How many nodes may be without a pod that serves, or have two. One of them is zero."""

    unavailable: int
    surge: int


def budget_of(daemon_set: Object, nodes: int) -> Budget:
    """Percentages round up."""
    rolling = (daemon_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge"), nodes, default=0, up=True)
    unavailable = share(rolling.get("maxUnavailable"), nodes, default=1, up=True)
    return Budget(unavailable if surge else max(1, unavailable), surge)


def surplus(here: OnNode, *, surges: bool) -> list[Object]:
    """Pods that are too many on a node that keeps one: with a surge, one of each template may stay."""
    if not surges:
        return sorted((*here.old, *here.new), key=_age)[1:]
    extra = [*here.old[1:], *here.new[1:]]
    return [*extra, *here.old[:1]] if here.new and here.serves(here.new[:1]) else extra


def step(pods: Mapping[str, OnNode], wanted: Sequence[str], budget: Budget) -> Step:
    """`wanted`: the nodes that should have a pod."""
    return _surging(pods, budget) if budget.surge else _replacing(pods, wanted, budget)


def _replacing(pods: Mapping[str, OnNode], wanted: Sequence[str], budget: Budget) -> Step:
    """Old ones go within the budget; what does not serve costs nothing of it. Their nodes are filled afterwards."""
    nobody = OnNode()
    missing = sum(not (here := pods.get(node, nobody)).serves((*here.old, *here.new)) for node in wanted)
    made = Step()
    waiting = [(here.serves([pod]), _path(pod), pod) for here in pods.values() for pod in here.old]
    for serves, _, pod in sorted(waiting, key=lambda entry: entry[:2]):
        if serves and missing >= budget.unavailable:
            continue
        missing += serves
        made.delete.append(pod)
    return made


def _surging(pods: Mapping[str, OnNode], budget: Budget) -> Step:
    """New ones come beside old ones within the budget; an old one goes when its successor serves."""
    made, under_way = Step(), 0
    candidates: list[str] = []
    for node, here in sorted(pods.items()):
        if not here.old:
            continue
        if not here.new:
            (candidates if here.serves(here.old) else made.create).append(node)
        elif here.serves(here.new):
            made.delete.extend(here.old)
        else:
            under_way += 1
    made.create += candidates[: max(0, budget.surge - under_way)]
    return made


def _path(pod: Object) -> str:
    return f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"


def _age(pod: Object) -> tuple[str, str]:
    return pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]
