"""Topology spread: pods that are alike keep to numbers that are alike, over nodes, zones and any other node label.

In: a pod, the cluster as the scheduler sees it. Out: a reason in the words of `FailedScheduling`, scores; no effects.
Source: Kubernetes documentation, "Pod Topology Spread Constraints".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from kubelab.apiserver.selectors import LabelSelector, Requirement, from_spec
from kubelab.controllers import objects
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling import placement
from kubelab.controllers.scheduling.view import ClusterView, NodeInfo

UNEVEN = "node(s) didn't match pod topology spread constraints"
NO_LABEL = f"{UNEVEN} (missing required label)"
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


@dataclass(frozen=True)
class Constraint:
    """One constraint with the number of matching pods per place."""

    key: str
    most: int
    required: bool
    matches_self: bool
    counts: Counter[str]
    least: int


class Spread:
    """What spread constraints say about one pod; worked out once and asked for every node."""

    def __init__(self, pod: Object, view: ClusterView) -> None:
        self._pod, self._nodes = pod, view.nodes
        written = pod["spec"].get("topologySpreadConstraints") or ()
        required = [entry for entry in written if entry.get("whenUnsatisfiable") != "ScheduleAnyway"]
        keys = {entry["topologyKey"] for entry in required}
        self.constraints = [self._constraint(entry, keys) for entry in written]
        self._siblings = self._alike() if not written else {}

    def _constraint(self, entry: Object, keys: set[str]) -> Constraint:
        key, selector = entry["topologyKey"], self._selector(entry)
        counts: Counter[str] = Counter()
        for info in self._nodes:
            if key not in info.labels or not self._eligible(entry, info, keys):
                continue
            counts[info.labels[key]] += sum(
                selector.matches(objects.labels_of(other))
                and other["metadata"]["namespace"] == self._pod["metadata"]["namespace"]
                and not objects.is_deleting(other)
                for other in info.pods
            )
        fewest = min(counts.values(), default=0) if len(counts) >= entry.get("minDomains", 1) else 0
        required = entry.get("whenUnsatisfiable") != "ScheduleAnyway"
        mine = selector.matches(objects.labels_of(self._pod))
        return Constraint(key, int(entry["maxSkew"]), required, mine, counts, fewest)

    def _selector(self, entry: Object) -> LabelSelector:
        selector = from_spec(entry.get("labelSelector") or {}) or LabelSelector()
        labels = objects.labels_of(self._pod)
        same = (
            Requirement(key, "in", frozenset({labels[key]}))
            for key in entry.get("matchLabelKeys") or ()
            if key in labels
        )
        return LabelSelector((*selector.requirements, *same))

    def _eligible(self, entry: Object, info: NodeInfo, keys: set[str]) -> bool:
        """Whether the node's pods count: by default only on nodes that the pod selects."""
        if not all(key in info.labels for key in keys):
            return False
        spec = self._pod["spec"]
        if entry.get("nodeAffinityPolicy", "Honor") == "Honor" and not placement.selects_node(spec, info.node):
            return False
        honors = entry.get("nodeTaintsPolicy", "Ignore") == "Honor"
        taints = placement.taints_of(info.node) if honors else ()
        return placement.untolerated(spec.get("tolerations") or (), taints) is None

    def refusal(self, info: NodeInfo) -> str | None:
        for entry in self.constraints:
            if not entry.required:
                continue
            value = info.labels.get(entry.key)
            if value is None:
                return NO_LABEL
            if entry.counts[value] + entry.matches_self - entry.least > entry.most:
                return UNEVEN
        return None

    def crowd(self, info: NodeInfo) -> float:
        """How many pods like this one are where the node is: the fewer, the better."""
        if self.constraints:
            return sum(entry.counts[info.labels.get(entry.key, "")] for entry in self.constraints if not entry.required)
        zone = info.labels.get(ZONE)
        return self._siblings.get(info.name, 0) + (self._siblings.get(f"zone/{zone}", 0) if zone else 0)

    def _alike(self) -> dict[str, int]:
        """Pods of the same controller, per node and per zone: replicas spread without being asked to."""
        owner = (objects.controller_of(self._pod) or {}).get("uid")
        found: Counter[str] = Counter()
        for info in self._nodes if owner else ():
            count = sum((objects.controller_of(other) or {}).get("uid") == owner for other in info.pods)
            found[info.name] += count
            if zone := info.labels.get(ZONE):
                found[f"zone/{zone}"] += count
        return found
