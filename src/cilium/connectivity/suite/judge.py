"""Whether an action came to what is expected of it. Pure.

In: how its command ended, its flows. Out: a `Result` with sentences about what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from cilium.connectivity.flows import Flow
from cilium.connectivity.suite.action import Action
from cilium.connectivity.suite.actors import Object
from cilium.connectivity.suite.cluster import Ran
from cilium.connectivity.suite.events import Result
from cilium.connectivity.suite.expect import Expected
from cilium.connectivity.suite.hubble import lacking, told
from cilium.connectivity.suite.options import FlowValidation

UNREACHED = {"curl": (6, 7, 28, 35, 52, 56), "ping": (1,)}
"""Exit codes that say that nothing came back. Others say that the command was not understood, or not found."""
_PROBED = ("icmp", "http")


def judge(
    action: Action, expected: Expected, ran: Ran, flows: Sequence[Flow] | None, validation: FlowValidation
) -> Result:
    """`flows`: those of the action; None if nobody could be asked."""
    problems = _command(action, expected, ran)
    if not problems and action.scenario == "cilium-health":
        problems = unhealthy(ran.stdout)
    said: list[str] = []
    if flows is not None and action.watched and validation is not FlowValidation.DISABLED:
        said = lacking(expected, flows)
    strict = validation is FlowValidation.STRICT
    return Result(
        action=action,
        expected=expected,
        ran=ran,
        problems=(*problems, *(said if strict else ())),
        warnings=() if strict else tuple(said),
        flows=tuple(dict.fromkeys(told(flow) for flow in flows or ())),
    )


def _command(action: Action, expected: Expected, ran: Ran) -> list[str]:
    line = f'command "{" ".join(action.command)}"'
    if ran.code is None:
        return [f"{line} was not run to its end: {ran.error}"]
    if not expected.drop:
        return [f"{line} failed: exit code {ran.code}"] if ran.code else []
    if ran.code == 0:
        return [f"{line} succeeded, though it should be {expected}"]
    if expected.code and ran.code != expected.code:
        return [f"{line} failed with exit code {ran.code}, not {expected.code}: it should be {expected}"]
    if ran.code not in UNREACHED[action.command[0]]:
        return [f"{line} failed with exit code {ran.code}, which says nothing of the network"]
    return []


def unhealthy(document: str) -> list[str]:
    """Of `cilium-health status -o json`: every probe that has a status, which is its error."""
    try:
        nodes: list[Object] = json.loads(document)["nodes"] or []
    except (ValueError, KeyError, TypeError):
        return ["cilium-health printed no status of nodes"]
    found = [] if nodes else ["cilium-health knows no node"]
    for node in nodes:
        for part in ("host", "endpoint", "health-endpoint"):
            paths = node.get(part) or {}
            for path in filter(None, (paths.get("primary-address"), *(paths.get("secondary-addresses") or []))):
                found += [
                    f"{node.get('name')}: {part} {path.get('ip', '')} {probe}: {path[probe]['status']}"
                    for probe in _PROBED
                    if (path.get(probe) or {}).get("status")
                ]
    return found
