"""Preemption: pods of lower priority make room for one of higher priority.

In: an attempt that found no node, PodDisruptionBudgets. Out: the node and its victims, or why nobody would be a victim;
no effects. Budgets are kept where there is a choice.
Source: Kubernetes documentation, "Pod Priority and Preemption".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubelab.apiserver.selectors import from_spec
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling.attempt import Attempt, Refusal
from kubelab.controllers.scheduling.view import NodeInfo

NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NEVER = "not eligible due to preemptionPolicy=Never."
START = "no new claims to deallocate, preemption: "


@dataclass(frozen=True)
class Choice:
    node: str
    victims: Sequence[Object]


def priority_of(pod: Object) -> int:
    return int(pod["spec"].get("priority") or 0)


def choose(
    attempt: Attempt, infos: Sequence[NodeInfo], refusals: Mapping[str, Refusal], budgets: Sequence[Object] = ()
) -> Choice | None:
    """The node whose victims matter least: the fewest that a budget protects, the lowest of the highest priorities,
    the fewest.
    """
    if attempt.pod["spec"].get("preemptionPolicy") == "Never":
        return None
    found = []
    for info in infos:
        if refusals[info.name].final:
            continue
        victims = _victims(attempt, info, budgets)
        if victims:
            rank = (
                len(protected(victims, budgets)),
                max(priority_of(pod) for pod in victims),
                sum(priority_of(pod) for pod in victims),
                len(victims),
                info.name,
            )
            found.append((rank, victims))
    if not found:
        return None
    (*_, name), victims = min(found, key=lambda entry: entry[0])
    return Choice(name, victims)


def protected(pods: Sequence[Object], budgets: Sequence[Object]) -> set[str]:
    """The uids of those whose end a budget does not allow, asked in this order."""
    left = [(b["status"].get("disruptionsAllowed", 0), from_spec(b["spec"].get("selector")), b) for b in budgets]
    spent, found = Counter[int](), set()
    for pod in pods:
        for number, (allowed, selector, budget) in enumerate(left):
            same = budget["metadata"]["namespace"] == pod["metadata"]["namespace"]
            counted = pod["metadata"]["name"] in (budget["status"].get("disruptedPods") or {})
            if not same or counted or selector is None or not selector.matches(pod["metadata"].get("labels")):
                continue
            spent[number] += 1
            if spent[number] > allowed:
                found.add(str(pod["metadata"]["uid"]))
    return found


def _victims(attempt: Attempt, info: NodeInfo, budgets: Sequence[Object]) -> list[Object]:
    """The fewest pods of lower priority without which the pod would fit; the protected, then the most important are
    spared first."""
    mine, what_if = priority_of(attempt.pod), info.copy()
    lower = {key: entry for key, entry in info.residents.items() if priority_of(entry.pod) < mine}
    for key in lower:
        what_if.remove(key)
    gone = {key: entry.pod for key, entry in lower.items()}
    if not lower or attempt.refusal(what_if, list(gone.values())) is not None:
        return []
    order = sorted(lower, key=lambda key: (-priority_of(lower[key].pod), _started(lower[key].pod)))
    safe = protected([lower[key].pod for key in order], budgets)
    order.sort(key=lambda key: lower[key].pod["metadata"]["uid"] not in safe)
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
    if pod["spec"].get("preemptionPolicy") == "Never":
        return f"{START}{NEVER}"
    count = len(refusals)
    reasons = Counter(NOT_HELPFUL if refusal.final else NO_VICTIMS for refusal in refusals)
    listed = ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items()))
    return f"{START}0/{count} nodes are available: {listed}."
