"""References of policies to other objects, resolved: `policies` become `resolved-policies`.

In: `policies`, and the tables of what their rules refer to. Out: `resolved-policies`, in which peers are selectors and
CIDRs only. Everything behind it (the compiler, the CIDR identities, Hubble's names) reads that table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cilium.state import RowChanges, View


class Resolver:
    """`compute` is the compute function of one derivation."""

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        changes = view.changes["policies"]
        return {
            "resolved-policies": RowChanges(
                upserts=[change.new for change in changes if change.new is not None],
                deletes=[change.key for change in changes if change.new is None],
            )
        }
