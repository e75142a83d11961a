"""What a flow of Hubble says of policies, in words.

In: flows, as `hubble observe -o json` prints them. Out: who was denied by which policy.
"""

from __future__ import annotations

from typing import Any

Flow = dict[str, Any]
NO_RULE, DENY_RULE = "POLICY_DENIED", "POLICY_DENY"
"""Drop reasons of policies: no rule allows it, a rule denies it."""


def by_policy(flow: Flow) -> bool:
    return flow.get("verdict") == "DROPPED" and flow.get("drop_reason_desc") in (NO_RULE, DENY_RULE)


def denial(flow: Flow) -> tuple[str, tuple[str, ...]]:
    """Of a flow that a policy dropped: where and by what, and the policies (`Kind namespace/name`)."""
    direction = str(flow.get("traffic_direction", "")).lower()
    side = flow.get("destination" if direction == "ingress" else "source") or {}
    policies = policy_names(flow.get(f"{direction}_denied_by"))
    how = "a deny rule" if flow.get("drop_reason_desc") == DENY_RULE else "default deny"
    named = f" of {', '.join(policies)}" if policies else ": no policy is named"
    return f"{direction} of {end_name(side)} on {node_name(flow)}: {how}{named}", tuple(policies)


def policy_names(entries: list[Flow] | None) -> list[str]:
    found = []
    for policy in entries or []:
        path = "/".join(filter(None, (policy.get("namespace", ""), policy.get("name", ""))))
        found.append(f"{policy.get('kind', '')} {path}")
    return found


def end_name(side: Flow) -> str:
    """A pod, or what is reserved for others."""
    if side.get("pod_name"):
        return f"{side['namespace']}/{side['pod_name']}"
    return ", ".join(label.removeprefix("reserved:") for label in side.get("labels") or []) or "unknown"


def node_name(flow: Flow) -> str:
    return str(flow.get("node_name", "")).rpartition("/")[2]
