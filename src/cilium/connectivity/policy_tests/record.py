"""Expectations written from what happens now: every workload to every other at its declared ports, and to the world.

In: the state of the cluster; then the results of the probes. Out: the text of an expectations file, sorted, the same
for the same behaviour.
"""

from __future__ import annotations

from collections.abc import Iterable

from cilium.connectivity.policy_tests.cluster import State
from cilium.connectivity.policy_tests.expectations import Expectation
from cilium.connectivity.policy_tests.judge import Actual, CaseResult
from cilium.connectivity.policy_tests.places import parse_place
from cilium.connectivity.policy_tests.resolve import workload

HEAD = """\
# Who reaches whom, as `cilium lab test --record` found it. Read it before you keep it: a hole that is open now is
# expected to be open from now on. Format: docs/tasks/test-policies-in-ci.md
"""
_FAMILY_NAMES = {4: "IPv4", 6: "IPv6"}


def questions(state: State) -> list[Expectation]:
    """One expectation per pair; what is expected does not matter yet."""
    ports: dict[str, bool] = {}
    for pod in state.pods:
        declares = any(container.get("ports") for container in pod["spec"]["containers"])
        ports[workload(pod)] = ports.get(workload(pod), False) or declares
    asked = [*(name for name in sorted(ports) if ports[name]), "world"]
    return [
        Expectation(line=0, sources=(parse_place(one),), targets=(parse_place(other),), allowed=True)
        for one in sorted(ports)
        for other in asked
        if one != other
    ]


def text(results: Iterable[CaseResult]) -> str:
    """The file. What could not be decided is a comment with the reason."""
    pairs: dict[tuple[str, str], list[CaseResult]] = {}
    for result in results:
        pairs.setdefault((str(result.case.source), str(result.case.target)), []).append(result)
    blocks = [HEAD]
    for (source, target), cases in sorted(pairs.items(), key=lambda item: (item[0][1] == "world", item[0])):
        blocks.append("\n".join(_pair(source, target, cases)) + "\n")
    return "\n".join(blocks)


def _pair(source: str, target: str, cases: list[CaseResult]) -> list[str]:
    lines = []
    said: dict[tuple[str, tuple[int, ...], str], list[str]] = {}
    by_port: dict[str, dict[str, tuple[list[int], str]]] = {}
    for case in sorted(cases, key=lambda case: (_port_order(case.case.port), case.case.family)):
        verdicts = {outcome.verdict.actual for outcome in case.outcomes}
        if len(verdicts) > 1 or Actual.ERROR in verdicts:
            reasons = sorted({outcome.verdict.reason for outcome in case.outcomes})
            lines.append(f"# {case.case.name}: not recorded: {'; '.join(reasons)}")
            continue
        policies = sorted({name for outcome in case.outcomes for name in outcome.verdict.policies})
        actual = verdicts.pop().value
        families, _ = by_port.setdefault(case.case.port, {}).setdefault(actual, ([], ""))
        families.append(case.case.family)
        by_port[case.case.port][actual] = (families, ", ".join(policies))
    for port, actuals in by_port.items():
        for actual, (found, by) in actuals.items():
            said.setdefault((actual, tuple(found), by), []).append(port)
    for (actual, kept, by), ports in said.items():
        comment = f"  # by {by}" if by else "  # no policy had to decide" if actual == "allowed" else ""
        lines += [f"- from: {source}", f"  to: {target}", f"  ports: [{', '.join(ports)}]"]
        if kept != (4, 6):
            lines.append(f"  families: [{', '.join(_FAMILY_NAMES[family] for family in kept)}]")
        lines.append(f"  expect: {actual}{comment}")
    return lines


def _port_order(port: str) -> tuple[str, int, str]:
    name, _, protocol = port.partition("/")
    return protocol, int(name) if name.isdecimal() else 0, name
