"""Label selectors held against labels, one by one.

In: a `Selector` and labels with their sources. Out: whether it selects. For single questions; the policy engine answers
the same one for all identities at once (features/policy/selectors.py).
"""

from __future__ import annotations

from cilium.tables.rules import Requirement, Selector
from cilium.tables.types import Labels


def selects(selector: Selector, labels: Labels) -> bool:
    """Whether all terms of the selector hold. No terms: every endpoint."""
    return all(holds(requirement, labels) for requirement in selector.requirements)


def holds(requirement: Requirement, labels: Labels) -> bool:
    """Whether one term holds."""
    source, _, key = requirement.key.partition(":")
    values = {
        value
        for name, _, value in (label.partition("=") for label in labels)
        if name == requirement.key or (source == "any" and name.partition(":")[2] == key)
    }
    match requirement.operator:
        case "In":
            return not values.isdisjoint(requirement.values)
        case "NotIn":
            return values.isdisjoint(requirement.values)
        case "Exists":
            return bool(values)
        case _:
            return not values
