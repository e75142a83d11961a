"""Audit mode of single policies and of namespaces, as people ask for it: an annotation.

In: annotations of an object. Out: whether it asks for audit mode, and what is wrong with how it asks.
"""

from __future__ import annotations

from collections.abc import Mapping

ANNOTATION = "policy.cilium.io/audit-mode"
ENABLED, DISABLED = "enabled", "disabled"


def audited(annotations: Mapping[str, str], *, place: str = "metadata") -> tuple[bool, str]:
    """(in audit mode, warning); a value that nobody knows is a warning, and enforced. `place`: where they stand."""
    value = annotations.get(ANNOTATION, DISABLED)
    if value in (ENABLED, DISABLED):
        return value == ENABLED, ""
    path = f"{place}.annotations[{ANNOTATION}]"
    return False, f"{path}: {value!r} is not {ENABLED} or {DISABLED}: the policy is enforced"
