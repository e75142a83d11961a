"""Flows of a test, asked of every agent; which of them are an action's, and what they lack.

In: agents, actions with what is expected of them. Out: flows; sentences about those that should be there,
or should not.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cilium.connectivity.flows import DENY_RULE, NO_RULE, Flow, by_policy, denial, end_name, node_name
from cilium.connectivity.suite.action import Action
from cilium.connectivity.suite.actors import Pod, family_of
from cilium.connectivity.suite.cluster import Cluster, SuiteError
from cilium.connectivity.suite.expect import Expected

_ECHO = {"ICMPv4": 8, "ICMPv6": 128}
_REASONS = {"": (NO_RULE, DENY_RULE), "default": (NO_RULE,), "deny": (DENY_RULE,)}


class Hubble:
    """`skews`: how much later it is in an agent's container than here, in seconds."""

    def __init__(self, cluster: Cluster, namespaces: Sequence[str], skews: dict[Pod, float]) -> None:
        self._cluster, self._namespaces, self._skews = cluster, namespaces, skews

    @classmethod
    async def reach(cls, cluster: Cluster, agents: Sequence[Pod], namespaces: Sequence[str]) -> Hubble:
        """Raises SuiteError when an agent has no Hubble."""

        async def skew(agent: Pod) -> float:
            status = await cluster.run(agent, ("hubble", "status"))
            if status.code != 0:
                raise SuiteError(f"{agent}: hubble status: {status.words}")
            before = time.time()
            done = await cluster.run(agent, ("date", "+%s.%N"))
            try:
                return float(done.stdout) - (before + time.time()) / 2
            except ValueError:
                raise SuiteError(f"{agent}: date: {done.words}") from None

        return cls(cluster, namespaces, dict(zip(agents, await asyncio.gather(*map(skew, agents)), strict=True)))

    async def since(self, moment: float) -> list[Flow]:
        """Of pods of the tests, from all nodes, in the order of time. Raises SuiteError."""
        filters = [word for namespace in self._namespaces for word in ("--namespace", namespace)]

        async def observed(agent: Pod) -> list[Flow]:
            begin = datetime.fromtimestamp(moment + self._skews[agent], UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            done = await self._cluster.run(agent, ("hubble", "observe", "--since", begin, "-o", "json", *filters))
            if done.code != 0:
                raise SuiteError(f"{agent}: hubble observe: {done.stderr.strip() or done.error}")
            lines = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
            return [document["flow"] for document in lines if "flow" in document]

        found = await asyncio.gather(*map(observed, self._skews))
        return sorted((flow for flows in found for flow in flows), key=lambda flow: str(flow.get("time", "")))


def of_action(action: Action, flows: Iterable[Flow]) -> list[Flow]:
    """Those from its source to its target."""
    return [flow for flow in flows if _belongs(action, flow)]


def _belongs(action: Action, flow: Flow) -> bool:
    ends, layer, target = flow.get("IP") or {}, flow.get("l4") or {}, action.target
    if flow.get("is_reply") or ends.get("source") not in action.source.addresses.values():
        return False
    if action.ping:
        echo = any((layer.get(name) or {}).get("type") == kind for name, kind in _ECHO.items())
        return echo and ends.get("destination") == target.address
    port = (layer.get("TCP") or {}).get("destination_port", 0)
    end = str(ends.get("destination", "")), port
    if end in target.seen:
        return True
    known = bool(family_of(target.address))  # a name's address is not known
    return bool(port == target.port and (end[0] == target.address or (not known and not target.seen)))


def lacking(expected: Expected, flows: Sequence[Flow]) -> list[str]:
    """What an action's flows should show and do not, or the reverse."""
    drops = [flow for flow in flows if flow.get("verdict") == "DROPPED"]
    if not expected.drop:
        said = [f"dropped, though it should pass: {told(flow)}" for flow in drops[:1]]
        return said or ([] if flows else ["no flow was seen of it"])
    reasons = _REASONS[expected.by]
    fit = [
        flow
        for flow in drops
        if flow.get("drop_reason_desc") in reasons
        and expected.drop in ("either", str(flow.get("traffic_direction", "")).lower())
    ]
    if fit:
        return []
    if drops:
        return [f"should be {expected}, and was dropped otherwise: {told(drops[-1])}"]
    return [f"should be {expected}, and no drop was seen"]


def told(flow: Flow) -> str:
    """A flow in a line."""
    if by_policy(flow):
        return denial(flow)[0]
    ends, layer = flow.get("IP") or {}, flow.get("l4") or {}
    ports = layer.get("TCP") or layer.get("UDP") or {}
    sides = [
        f"{end_name(flow.get(side) or {})} ({ends.get(side, '')}"
        + (f":{ports.get(f'{side}_port', 0)})" if ports else ")")
        for side in ("source", "destination")
    ]
    direction = str(flow.get("traffic_direction", "")).lower()
    reason = f" {flow['drop_reason_desc']}" if flow.get("drop_reason_desc") else ""
    return f"{' -> '.join(sides)} {flow.get('verdict', '')}{reason} {direction} on {node_name(flow)}"
