"""What a probe shows: answered, dropped by policy, or neither. Pure.

In: what came back, and the flows that Hubble has. Out: a `Verdict` with the policies that decided. A probe that is not
answered is denied only if a drop by policy was seen; everything else is an error with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from cilium.connectivity.flows import Flow, by_policy, denial, node_name, policy_names
from cilium.connectivity.policy_tests.plan import Case, Probe

_ECHO = {"ICMPv4": 8, "ICMPv6": 128}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as the prober says it."""

    outcome: str
    detail: str
    source: str
    source_port: int
    seconds: float


class Actual(Enum):
    ALLOWED = "allowed"
    DENIED = "denied"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is for people; `policies` are `Kind namespace/name`."""

    actual: Actual
    reason: str
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One probe and what became of it."""

    probe: Probe
    answer: Answer
    verdict: Verdict


class Result(Enum):
    OK = "ok"
    DIFFERS = "differs"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case: it differs if one of its probes does, it is an error if one could not be decided."""

    case: Case
    outcomes: tuple[Outcome, ...]

    @property
    def result(self) -> Result:
        results = {self.result_of(outcome) for outcome in self.outcomes}
        return next(one for one in (Result.DIFFERS, Result.ERROR, Result.OK) if one in results)

    def result_of(self, outcome: Outcome) -> Result:
        """Against what the case expects, policies included."""
        verdict, expected = outcome.verdict, self.case.expectation
        if verdict.actual is Actual.ERROR:
            return Result.ERROR
        if (verdict.actual is Actual.ALLOWED) is not expected.allowed:
            return Result.DIFFERS
        return Result.OK if set(expected.decided_by) <= set(verdict.policies) else Result.DIFFERS

    @property
    def seconds(self) -> float:
        return max(outcome.answer.seconds for outcome in self.outcomes)


def judge(probe: Probe, answer: Answer, flows: Iterable[Flow]) -> Verdict:
    """`flows`: all of the round; those of the probe are found here."""
    own = [flow for flow in flows if belongs(flow, probe, answer)]
    if answer.outcome == "answered":
        return _allowed(own)
    drops = [flow for flow in own if flow.get("verdict") == "DROPPED"]
    for flow in drops:
        if by_policy(flow):
            return _denied(flow)
    if drops:
        reason = drops[-1].get("drop_reason_desc", "unknown reason")
        return Verdict(Actual.ERROR, f"dropped on {node_name(drops[-1])}, not by policy: {reason}")
    return Verdict(Actual.ERROR, _neither(answer))


def belongs(flow: Flow, probe: Probe, answer: Answer) -> bool:
    """Whether the flow is of the probe's own packets, on their way to who was asked.

    The source's port is the probe's. On the way from the world to a Service, the source is translated: there it is who
    is asked, at which port, that counts.
    """
    ends, layer = flow.get("IP") or {}, flow.get("l4") or {}
    if ends.get("ipVersion") != f"IPv{probe.family}" or flow.get("is_reply"):
        return False
    if probe.protocol == "ICMP":
        echo = any((layer.get(name) or {}).get("type") == kind for name, kind in _ECHO.items())
        return echo and ends.get("source") == answer.source and ends.get("destination") == probe.address
    ports = layer.get(probe.protocol) or {}
    asked = (probe.address, *probe.behind)
    if probe.behind and probe.asker.node == "external":
        labels = (flow.get("source") or {}).get("labels") or []
        outside = any(label.startswith("reserved:world") for label in labels)
        return outside and ends.get("destination") in asked and ports.get("destination_port") == probe.target
    if not answer.source_port or ports.get("source_port") != answer.source_port:
        return False
    return ends.get("source") == answer.source or ends.get("destination") in asked


def _allowed(flows: list[Flow]) -> Verdict:
    said: dict[str, list[str]] = {}
    for flow in flows:
        for direction in ("egress", "ingress"):
            for name in policy_names(flow.get(f"{direction}_allowed_by")):
                if name not in said.setdefault(direction, []):
                    said[direction].append(name)
    policies = tuple(dict.fromkeys(name for names in said.values() for name in names))
    audited = " (audit mode: a policy denies it)" if any(flow.get("verdict") == "AUDIT" for flow in flows) else ""
    if not policies:
        return Verdict(Actual.ALLOWED, f"no policy had to decide{audited}")
    text = "; ".join(f"{direction} by {', '.join(names)}" for direction, names in said.items())
    return Verdict(Actual.ALLOWED, text + audited, policies)


def _denied(flow: Flow) -> Verdict:
    reason, policies = denial(flow)
    return Verdict(Actual.DENIED, reason, policies)


def _neither(answer: Answer) -> str:
    if answer.outcome == "refused":
        return f"not dropped by policy, but refused ({answer.detail}): does anybody listen there?"
    return f"not answered ({answer.detail}), and no drop by policy was seen"
