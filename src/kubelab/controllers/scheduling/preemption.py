"""Preemption: pods of lower priority make room for one of higher priority.

In: an attempt that found no node. Out: the node and its victims, or why nobody would be a victim; no effects.
Source: Kubernetes documentation, "Pod Priority and Preemption".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling.attempt import Attempt, Refusal
from kubelab.controllers.scheduling.view import NodeInfo

NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NEVER = "not eligible due to preemptionPolicy=Never."


@dataclass(frozen=True)
class Choice:
    node: str
    victims: Sequence[Object]


def priority_of(pod: Object) -> int:
    return int(pod["spec"].get("priority") or 0)


def choose(attempt: Attempt, infos: Sequence[NodeInfo], refusals: Mapping[str, Refusal]) -> Choice | None:
    """The node whose victims matter least: the lowest of the highest priorities, then the fewest."""
    if attempt.pod["spec"].get("preemptionPolicy") == "Never":
        return None
    found = []
    for info in infos:
        if refusals[info.name].final:
            continue
        victims = _victims(attempt, info)
        if victims:
            top = max(priority_of(pod) for pod in victims)
            found.append((top, sum(priority_of(pod) for pod in victims), len(victims), info.name, victims))
    if not found:
        return None
    *_, name, victims = min(found, key=lambda entry: entry[:4])
    return Choice(name, victims)


def _victims(attempt: Attempt, info: NodeInfo) -> list[Object]:
    """The fewest pods of lower priority without which the pod would fit; the most important are spared first."""
    mine, what_if = priority_of(attempt.pod), info.copy()
    lower = {key: entry for key, entry in info.residents.items() if priority_of(entry.pod) < mine}
    for key in lower:
        what_if.remove(key)
    gone = {key: entry.pod for key, entry in lower.items()}
    if not lower or attempt.refusal(what_if, list(gone.values())) is not None:
        return []
    order = sorted(lower, key=lambda key: (-priority_of(lower[key].pod), _started(lower[key].pod)))
    for key in order:
        what_if.add(key, lower[key])
        spared = gone.pop(key)
        if attempt.refusal(what_if, list(gone.values())) is not None:
            what_if.remove(key)
            gone[key] = spared
    return list(gone.values())


def _started(pod: Object) -> str:
    return str((pod.get("status") or {}).get("startTime") or pod["metadata"].get("creationTimestamp", ""))


def explain(pod: Object, refusals: Sequence[Refusal]) -> str:
    """Why preemption did not help, as the end of `FailedScheduling`."""
    start = "no new claims to deallocate, preemption: "
    if pod["spec"].get("preemptionPolicy") == "Never":
        return f"{start}{NEVER}"
    count = len(refusals)
    reasons = Counter(NOT_HELPFUL if refusal.final else NO_VICTIMS for refusal in refusals)
    listed = ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))
    return f"{start}0/{count} nodes are available: {listed}."
