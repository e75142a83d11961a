"""GET /v1/policy: every policy object as this node sees it, what its rules have let through or dropped, and
`spec`: what it was loaded as, with namespaces, entities and references resolved.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from cilium.app.inspection import Inspection
from cilium.app.rest.documents import rows
from cilium.features.policy.counters import totals
from cilium.tables.rules import RuleReference

Document = dict[str, Any]


def documents(agent: Inspection) -> list[Document]:
    port = agent.maps.get("cilium_policy_counters")
    counted = totals(port) if port is not None else {}
    rules: dict[tuple[str, str, str], list[RuleReference]] = defaultdict(list)
    for row in rows(agent, "rule-references"):
        if row.section and not row.deleted:
            rules[row.kind, row.namespace, row.name].append(row)
    loaded = {row.key: msgspec.to_builtins(row.rules, enc_hook=str) for row in rows(agent, "resolved-policies")}
    return [
        msgspec.to_builtins(status)
        | {
            "spec": loaded.get(status.key, []),
            "rules": [
                _rule(row, counted.get(row.cookie))
                for row in sorted(
                    rules[status.kind, status.namespace, status.name],
                    key=lambda row: (row.spec, row.section, row.index),
                )
            ],
        }
        for status in sorted(rows(agent, "policy-status"), key=lambda row: row.key)
    ]


def _rule(row: RuleReference, counted: tuple[int, int] | None) -> Document:
    """Without numbers where the map of counters had no room for the rule."""
    packets, size = counted or (None, None)
    return {
        "section": row.section,
        "index": row.index,
        "spec": row.spec,
        "cookie": row.cookie,
        "packets": packets,
        "bytes": size,
    }
