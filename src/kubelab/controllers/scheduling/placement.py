"""Whether a pod may run on a node: selectors, affinity, taints. Shared by the scheduler and DaemonSets.

In: pod specs and nodes as plain dicts. Out: reasons in the words of `FailedScheduling`; pure functions.
Source: Kubernetes documentation, "Assigning Pods to Nodes" and "Taints and Tolerations".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kubelab.controllers.objects import Object, labels_of

UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"


def tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return not toleration.get("key") or toleration["key"] == taint["key"]
    same_key = toleration.get("key") == taint["key"]
    return same_key and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(
    tolerations: Sequence[Object], taints: Iterable[Object], effects: Sequence[str] = ("NoSchedule", "NoExecute")
) -> Object | None:
    """The first taint that keeps the pod away."""
    for taint in taints:
        if taint["effect"] in effects and not any(tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None


def taints_of(node: Object) -> list[Object]:
    """The node's taints, and the one that a cordon stands for."""
    spec = node.get("spec") or {}
    taints = list(spec.get("taints") or ())
    if spec.get("unschedulable") and not any(taint["key"] == UNSCHEDULABLE_TAINT for taint in taints):
        taints.append({"key": UNSCHEDULABLE_TAINT, "effect": "NoSchedule"})
    return taints


def _expression_holds(expression: Object, values: Mapping[str, str]) -> bool:
    value: str | None = values.get(expression["key"])
    wanted: Sequence[str] = expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            if value is None or not value.lstrip("-").isdecimal():
                return False
            left, right = int(value), int(wanted[0])
            return left > right if expression["operator"] == "Gt" else left < right
    return False


def term_holds(term: Object, node: Object) -> bool:
    """A node selector term."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False  # an empty term selects nothing
    names = {"metadata.name": node["metadata"]["name"]}
    return all(_expression_holds(entry, labels_of(node)) for entry in expressions) and all(
        _expression_holds(entry, names) for entry in fields
    )


def selects_node(pod_spec: Object, node: Object) -> bool:
    """nodeSelector and required node affinity."""
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (pod_spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(term_holds(term, node) for term in required.get("nodeSelectorTerms") or ())


def preference(pod_spec: Object, node: Object) -> int:
    """The weights of the preferred node affinity terms that hold."""
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return sum(entry["weight"] for entry in preferred if term_holds(entry.get("preference") or {}, node))
