"""GET /v1/policy/selectors: the peers that rules select, and who they are at the moment. Field names are upstream's."""

from __future__ import annotations

from typing import Any

from cilium.app.inspection import Inspection
from cilium.tables.rules import Requirement, SelectorUse

Document = dict[str, Any]


def documents(agent: Inspection) -> list[Document]:
    return sorted((document(row) for row in agent.selectors()), key=lambda each: (each["selector"], each["users"]))


def document(row: SelectorUse) -> Document:
    return {
        "selector": ",".join(map(term_text, row.selector.requirements)) or "*",
        "labels": list(row.policies),
        "users": row.users,
        "identities": list(row.identities),
    }


def term_text(term: Requirement) -> str:
    """As kubectl writes label selectors: `k8s:app in (a,b)`."""
    values = ",".join(term.values)
    match term.operator:
        case "In":
            return f"{term.key}={values}" if len(term.values) == 1 else f"{term.key} in ({values})"
        case "NotIn":
            return f"{term.key}!={values}" if len(term.values) == 1 else f"{term.key} notin ({values})"
        case "Exists":
            return term.key
        case _:
            return f"!{term.key}"
