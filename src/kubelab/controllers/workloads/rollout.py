"""The arithmetic of a Deployment's rollout: pure functions over replica counts.

In: a Deployment's spec and the counts of its ReplicaSets. Out: the replicas each ReplicaSet should have next, and the
status. Source: Kubernetes documentation, "Deployments".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubelab.controllers.objects import Object, share


@dataclass(frozen=True)
class Replicas:
    """One ReplicaSet: `wanted` as its spec says, `available` as its status says."""

    name: str
    wanted: int
    available: int


@dataclass(frozen=True)
class Share:
    """One ReplicaSet that has pods: `wanted` at present, of `most` that all sets together might have had when it got
    that size; 0: nobody knows."""

    name: str
    wanted: int
    most: int


@dataclass(frozen=True)
class Budget:
    """How far a rolling update may stray from the wanted number."""

    surge: int
    unavailable: int


def budget_of(spec: Object) -> Budget:
    """Percentages of surge round up, of unavailability down. Both zero: one may be missing, else nothing moved."""
    if (spec.get("strategy") or {}).get("type") == "Recreate":
        return Budget(0, 0)
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    wanted = spec.get("replicas", 1)
    surge = share(rolling.get("maxSurge"), wanted, default="25%", up=True)
    unavailable = share(rolling.get("maxUnavailable"), wanted, default="25%", up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Budget(surge, min(unavailable, wanted))


def recreate(wanted: int, new: Replicas, old: Sequence[Replicas], *, old_pods: int) -> dict[str, int]:
    """All old pods go before the first new one comes; `old_pods` counts those that are still ending."""
    goals = {replicas.name: 0 for replicas in old}
    goals[new.name] = wanted if old_pods == 0 and all(replicas.wanted == 0 for replicas in old) else new.wanted
    return goals


def rolling(wanted: int, budget: Budget, new: Replicas, old: Sequence[Replicas]) -> dict[str, int]:
    """The next step of a rolling update: grow the new set into the surge; if it cannot grow, shrink old ones.

    `old` is in the order of its age. Old pods that are not available go first: taking them costs nothing.
    """
    goals = {replicas.name: replicas.wanted for replicas in (*old, new)}
    total = sum(goals.values())
    if new.wanted > wanted:
        return goals | {new.name: wanted}
    growth = min(wanted + budget.surge - total, wanted - new.wanted)
    if growth > 0:
        return goals | {new.name: new.wanted + growth}
    least = wanted - budget.unavailable
    removable = total - least - max(0, new.wanted - new.available)
    for replicas in old:
        taken = max(0, min(replicas.wanted - replicas.available, removable))
        goals[replicas.name] -= taken
        removable -= taken
    # A status may lag behind a spec that was lowered a moment ago: more pods than wanted are never available.
    spare = sum(min(replicas.available, replicas.wanted) for replicas in (*old, new)) - least
    for replicas in old:
        taken = max(0, min(goals[replicas.name], spare, removable))
        goals[replicas.name] -= taken
        spare -= taken
        removable -= taken
    return goals


def resized(wanted: int, budget: Budget, shares: Sequence[Share], *, total: int) -> dict[str, int]:
    """Another size in the middle of a rolling update: each set gets or gives in proportion to what it has.

    `shares` is in the order in which what rounding leaves is handed out; the first gets the rest. `total`: the pods
    that the status tells of, for sets that do not say of how many they are a part.
    """
    allowed = wanted + budget.surge if wanted > 0 else 0
    change = allowed - sum(share.wanted for share in shares)
    goals, given = {}, 0
    for part in shares:
        most = part.most or total
        exact = part.wanted * allowed / most if most else 0.0
        moved = _rounded(exact) - part.wanted
        moved = max(0, min(moved, change - given)) if change > 0 else min(0, max(moved, change - given))
        given += moved
        goals[part.name] = part.wanted + moved
    if shares:
        first = shares[0].name
        goals[first] = max(0, goals[first] + change - given)
    return goals


def _rounded(number: float) -> int:
    """Half away from zero."""
    return int(number + 0.5)


def complete(spec: Object, status: Object) -> bool:
    """Every replica is of the new template and available, none is left over."""
    wanted = spec.get("replicas", 1)
    return all(status.get(name, 0) == wanted for name in ("updatedReplicas", "replicas", "availableReplicas"))
