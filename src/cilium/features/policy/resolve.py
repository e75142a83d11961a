"""References of policies to other objects, resolved: `policies` become `resolved-policies`.

In: `policies`, `namespaces`, and the tables of what their rules refer to. Out: `resolved-policies`, in which peers are
selectors and CIDRs only. Everything behind it (the compiler, the CIDR identities, Hubble's names) reads that table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cilium.features.policy.surroundings import Surroundings
from cilium.state import RowChanges, View


class Resolver:
    """`compute` is the compute function of one derivation."""

    def __init__(self) -> None:
        self._surroundings = Surroundings()

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        policies = view.snapshots["policies"]
        concerned = {key: policies.get(key) for key in self._surroundings.take(view)}
        return {
            "resolved-policies": RowChanges(
                upserts=[self._surroundings.complete(row) for row in concerned.values() if row is not None],
                deletes=[key for key, row in concerned.items() if row is None],
            )
        }
