"""Rolling updates from any state: always within the budget, always to the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubelab.controllers.workloads.rollout import Budget, Replicas, budget_of, rolling


@st.composite
def states(draw: st.DrawFn) -> tuple[int, Budget, Replicas, list[Replicas]]:
    wanted = draw(st.integers(0, 12))
    spec = {
        "replicas": wanted,
        "strategy": {
            "rollingUpdate": {
                "maxSurge": draw(st.sampled_from([0, 1, 3, "25%", "100%"])),
                "maxUnavailable": draw(st.sampled_from([0, 1, 2, "25%", "100%"])),
            }
        },
    }

    def replicas(name: str) -> Replicas:
        size = draw(st.integers(0, 12))
        return Replicas(name, size, draw(st.integers(0, size)))

    return (
        wanted,
        budget_of(spec),
        replicas("new"),
        [replicas(f"old{number}") for number in range(draw(st.integers(0, 3)))],
    )


def after(replicas: Replicas, goal: int) -> Replicas:
    """Pods that are not available go first; nothing has become available yet."""
    return Replicas(replicas.name, goal, min(replicas.available, goal))


@given(states())
def test_every_step_stays_within_the_budget(state: tuple[int, Budget, Replicas, list[Replicas]]) -> None:
    wanted, budget, new, old = state
    goals = rolling(wanted, budget, new, old)
    total = sum(replicas.wanted for replicas in (*old, new))
    assert all(0 <= goals[replicas.name] <= replicas.wanted for replicas in old)
    assert sum(goals.values()) <= max(total, wanted + budget.surge)
    before = sum(replicas.available for replicas in (*old, new))
    left = sum(after(replicas, goals[replicas.name]).available for replicas in (*old, new))
    least = wanted - budget.unavailable
    # Whoever takes available pods away leaves enough of them; a set that is larger than wanted is cut in any case.
    assert left >= min(before, least) or new.wanted > wanted


@given(states())
def test_every_rollout_ends(state: tuple[int, Budget, Replicas, list[Replicas]]) -> None:
    wanted, budget, new, old = state
    for _ in range(200):
        goals = rolling(wanted, budget, new, old)
        # Between two steps every new pod becomes available; old ones stay as they are.
        new = Replicas("new", goals["new"], goals["new"])
        old = [after(replicas, goals[replicas.name]) for replicas in old]
        if new.wanted == wanted and not any(replicas.wanted for replicas in old):
            return
    raise AssertionError(f"never ends: {new} {old}")
