"""One attempt to place one pod: every node is filtered, those left are scored.

In: a pod, the cluster as the scheduler sees it. Out: the best node, or why there is none; no effects.
Source: Kubernetes documentation, "Kubernetes Scheduler", "Scheduler Configuration" (plugins and their weights).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from kubelab.apiserver.store import Store
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling import fit, placement, volumes
from kubelab.controllers.scheduling.neighbours import AFFINITY, Neighbours
from kubelab.controllers.scheduling.spread import NO_LABEL, Spread
from kubelab.controllers.scheduling.view import ClusterView, NodeInfo
from kubelab.quantities import quantity

_TAINTS, _NODE_AFFINITY, _NEIGHBOURS, _SPREAD, _ROOM = 3, 2, 2, 2, 1
_LEAST = {"cpu": Decimal("0.1"), "memory": Decimal(200 * 2**20)}
"""What a pod that asks for nothing is taken to need, when room is compared."""


@dataclass(frozen=True)
class Refusal:
    """Why a node will not do. `final`: not even if pods were removed from it."""

    reasons: tuple[str, ...]
    final: bool


class Attempt:
    def __init__(self, pod: Object, view: ClusterView, store: Store) -> None:
        self.pod, self._view, self._store = pod, view, store
        self.requests, self._ports = fit.requests_of(pod), fit.host_ports(pod)
        self.volumes = volumes.look(store, pod)
        self._neighbours, self._spread = Neighbours(pod, view), Spread(pod, view)

    def refusal(self, info: NodeInfo, removed: Sequence[Object] = ()) -> Refusal | None:
        """`removed`: pods of this node that `info` has no more, but the rest of the cluster still knows."""
        spec, node = self.pod["spec"], info.node
        taint = placement.untolerated(spec.get("tolerations") or (), placement.taints_of(node))
        if taint is not None:
            cordoned = taint["key"] == placement.UNSCHEDULABLE_TAINT
            return Refusal(("node(s) were unschedulable" if cordoned else "node(s) had untolerated taint(s)",), True)
        if not placement.selects_node(spec, node):
            return Refusal(("node(s) didn't match Pod's node affinity/selector",), True)
        if self._ports and fit.port_conflict(self._ports, (p for r in info.residents.values() for p in r.ports)):
            return Refusal(("node(s) didn't have free ports for the requested pod ports",), False)
        if lacking := fit.insufficient(self.requests, node, info.used):
            empty = fit.insufficient(self.requests, node, {})
            return Refusal(tuple(lacking), bool(empty))
        if (why := volumes.refusal(self._store, self.volumes, info)) is not None:
            return Refusal((why,), why != volumes.IN_USE)
        if (why := self._spread.refusal(info)) is not None and not removed:
            return Refusal((why,), why == NO_LABEL)
        if (why := self._neighbours.refusal(info, list(removed))) is not None:
            return Refusal((why,), why == AFFINITY)
        return None

    def best(self, infos: Sequence[NodeInfo]) -> NodeInfo:
        """Of nodes that will do, the one with the highest score; among equals the emptiest, then the first by name."""
        if len(infos) == 1:
            return infos[0]
        tolerations = self.pod["spec"].get("tolerations") or ()
        unloved = [
            -float(sum(_untolerated(tolerations, taint) for taint in placement.taints_of(info.node))) for info in infos
        ]
        wanted = [float(placement.preference(self.pod["spec"], info.node)) for info in infos]
        places = self._neighbours.preferences()
        near = [float(sum(places.get(label, 0) for label in info.labels.items())) for info in infos]
        lonely = [-float(self._spread.crowd(info)) for info in infos]
        room = [self._room(info) for info in infos]
        totals = [0.0] * len(infos)
        for weight, scores in (
            (_TAINTS, normal(unloved)),
            (_NODE_AFFINITY, normal(wanted)),
            (_NEIGHBOURS, normal(near)),
            (_SPREAD, normal(lonely)),
            (_ROOM, room),
        ):
            totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
        ranked = zip(totals, infos, strict=True)
        return min(ranked, key=lambda entry: (-round(entry[0], 6), len(entry[1].residents), entry[1].name))[1]

    def _room(self, info: NodeInfo) -> float:
        """The share of cpu and memory that would stay free, 0 to 100."""
        allocatable = (info.node.get("status") or {}).get("allocatable") or {}
        shares = []
        for name, least in _LEAST.items():
            if name not in allocatable:
                continue
            whole = quantity(allocatable[name])
            used = info.used.get(name, Decimal(0)) + max(self.requests.get(name, Decimal(0)), least)
            used += least * sum(name not in resident.requests for resident in info.residents.values())
            shares.append(float(max(Decimal(0), whole - used) / whole) if whole else 0.0)
        return 100.0 * sum(shares) / len(shares) if shares else 0.0


def _untolerated(tolerations: Sequence[Object], taint: Object) -> bool:
    return placement.untolerated(tolerations, (taint,), ("PreferNoSchedule",)) is not None


def normal(scores: Sequence[float]) -> list[float]:
    """Scores spread over 0 to 100; all alike: all the same."""
    low, high = min(scores), max(scores)
    return [100.0 * (score - low) / (high - low) if high > low else 0.0 for score in scores]


def explain(refusals: Sequence[Refusal], preemption: str) -> str:
    """Why no node will do, in the words of `FailedScheduling`."""
    count = len(refusals)
    reasons = Counter(reason for refusal in refusals for reason in refusal.reasons)
    listed = ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))
    return f"0/{count} nodes are available: {listed}. {preemption}".rstrip()
