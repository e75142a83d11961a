"""Affinity between pods: who wants to be near whom, and who does not.

In: a pod, the cluster as the scheduler sees it. Out: reasons in the words of `FailedScheduling`, scores; no effects.
Source: Kubernetes documentation, "Inter-pod affinity and anti-affinity".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kubelab.apiserver.selectors import from_spec
from kubelab.controllers.objects import Object, labels_of
from kubelab.controllers.scheduling import fit
from kubelab.controllers.scheduling.view import ClusterView, NodeInfo

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"
Domain = tuple[str, str]
"""A node label and its value."""


def selects(term: Object, owner: Object, other: Object, view: ClusterView) -> bool:
    """Whether the term of `owner` means `other`."""
    namespace, listed = other["metadata"]["namespace"], term.get("namespaces") or []
    chosen = from_spec(term.get("namespaceSelector"))
    if namespace not in listed:
        own = not listed and chosen is None and namespace == owner["metadata"]["namespace"]
        if not own and (chosen is None or not chosen.matches(view.namespace_labels(namespace))):
            return False
    selector = from_spec(term.get("labelSelector"))
    if selector is None or not selector.matches(labels_of(other)):
        return False
    mine, theirs = labels_of(owner), labels_of(other)
    return all(mine.get(key) == theirs.get(key) for key in term.get("matchLabelKeys") or ())


def domain(term: Object, info: NodeInfo) -> Domain | None:
    value = info.labels.get(term["topologyKey"])
    return (term["topologyKey"], value) if value is not None else None


class Neighbours:
    """What affinity says about one pod; worked out once and asked for every node."""

    def __init__(self, pod: Object, view: ClusterView) -> None:
        self._pod, self._view = pod, view
        self._near = [(term, self._domains(term)) for term in fit.terms_of(pod, "podAffinity")]
        self._apart = [(term, self._domains(term)) for term in fit.terms_of(pod, "podAntiAffinity")]
        self._repelled: Counter[Domain] = Counter()
        for other, info in view.repellers():
            for term in fit.terms_of(other, "podAntiAffinity"):
                place = domain(term, info)
                if place is not None and selects(term, other, pod, view):
                    self._repelled[place] += 1

    def _domains(self, term: Object) -> Counter[Domain]:
        """Where there are pods that the term means, and how many."""
        found: Counter[Domain] = Counter()
        for other, info in self._view.placed():
            place = domain(term, info)
            if place is not None and selects(term, self._pod, other, self._view):
                found[place] += 1
        return found

    def refusal(self, info: NodeInfo, removed: list[Object]) -> str | None:
        """`removed`: pods on this node that would be gone by then."""
        for term, places in self._near:
            place = domain(term, info)
            if place is None:
                return AFFINITY
            alone = not places and selects(term, self._pod, self._pod, self._view)  # the first of a group
            if not alone and places[place] <= self._gone(term, removed):
                return AFFINITY
        for term, places in self._apart:
            place = domain(term, info)
            if place is not None and places[place] > self._gone(term, removed):
                return ANTI_AFFINITY
        for key, value in info.labels.items():
            count = self._repelled.get((key, value), 0)
            if count > self._no_longer_repelling(key, removed):
                return EXISTING
        return None

    def _gone(self, term: Object, removed: list[Object]) -> int:
        return sum(selects(term, self._pod, other, self._view) for other in removed)

    def _no_longer_repelling(self, key: str, removed: list[Object]) -> int:
        return sum(
            term["topologyKey"] == key and selects(term, other, self._pod, self._view)
            for other in removed
            for term in fit.terms_of(other, "podAntiAffinity")
        )

    def preferences(self) -> Counter[Domain]:
        """What preferred terms, the pod's and those of the others, make of each place."""
        found: Counter[Domain] = Counter()
        mine = list(_preferred(self._pod))
        for other, info in self._view.placed():
            theirs = list(_preferred(other))
            for weight, term, owner, subject in (
                *((weight, term, self._pod, other) for weight, term in mine),
                *((weight, term, other, self._pod) for weight, term in theirs),
                *((1, term, other, self._pod) for term in fit.terms_of(other, "podAffinity")),
            ):
                place = domain(term, info)
                if place is not None and selects(term, owner, subject, self._view):
                    found[place] += weight
        return found


def _preferred(pod: Object) -> Iterator[tuple[int, Object]]:
    affinity = pod["spec"].get("affinity")
    if not affinity:
        return
    for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        for entry in (affinity.get(kind) or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            yield sign * int(entry["weight"]), entry["podAffinityTerm"]
