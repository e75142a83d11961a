"""Denied is told from broken: only a drop by policy of the probe's own packets makes it denied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from unit.connectivity.policy_tests.shop import ANSWERED, SILENT, cases

from cilium.connectivity.policy_tests.judge import Actual, CaseResult, Outcome, Result, Verdict, judge

(PROBE,) = cases("- {from: shop/shell, to: shop/db, families: IPv4, expect: denied}")[0].probes
X = "NetworkPolicy shop/x"
POLICY = [{"kind": "CiliumNetworkPolicy", "namespace": "shop", "name": "db"}]


def flow(**changes: Any) -> dict[str, Any]:
    made = {
        "verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED", "traffic_direction": "INGRESS",
        "node_name": "default/node2", "event_type": {"type": 5},
        "IP": {"source": "198.18.0.5", "destination": "198.18.0.4", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 40000, "destination_port": 5432}},
        "source": {"namespace": "shop", "pod_name": "shell"},
        "destination": {"namespace": "shop", "pod_name": "db-abc-1"},
        "ingress_denied_by": POLICY,
    }  # fmt: skip
    return {**made, **changes}


def test_a_drop_by_policy_names_direction_node_and_policies() -> None:
    verdict = judge(PROBE, SILENT, [flow()])
    assert verdict.actual is Actual.DENIED
    assert verdict.policies == ("CiliumNetworkPolicy shop/db",)
    assert verdict.reason == "ingress of shop/db-abc-1 on node2: default deny of CiliumNetworkPolicy shop/db"
    rule = judge(PROBE, SILENT, [flow(drop_reason_desc="POLICY_DENY")])
    assert "a deny rule of CiliumNetworkPolicy shop/db" in rule.reason


@pytest.mark.parametrize(
    "foreign",
    [
        flow(l4={"TCP": {"source_port": 40001, "destination_port": 5432}}),
        flow(l4={"UDP": {"source_port": 40000, "destination_port": 5432}}),
        flow(IP={"source": "198.18.0.9", "destination": "198.18.0.8", "ipVersion": "IPv4"}),
        flow(IP={"source": "fd00::5", "destination": "fd00::4", "ipVersion": "IPv6"}),
        flow(is_reply=True),
    ],
)
def test_drops_of_others_do_not_count(foreign: dict[str, Any]) -> None:
    verdict = judge(PROBE, SILENT, [foreign])
    assert verdict == Verdict(Actual.ERROR, "not answered (no answer within 1 s), and no drop by policy was seen")


def test_silence_and_refusal_are_errors_with_a_reason() -> None:
    dropped = judge(PROBE, SILENT, [flow(drop_reason_desc="STALE_OR_UNROUTABLE_IP")])
    assert dropped == Verdict(Actual.ERROR, "dropped on node2, not by policy: STALE_OR_UNROUTABLE_IP")
    refused = judge(PROBE, replace(SILENT, outcome="refused", detail="Connection refused"), [])
    assert refused.actual is Actual.ERROR
    assert "does anybody listen there?" in refused.reason


def test_an_answer_is_allowed_whatever_was_dropped_and_names_who_allowed_it() -> None:
    allowed = flow(verdict="FORWARDED", ingress_denied_by=[], ingress_allowed_by=POLICY, egress_allowed_by=POLICY)
    verdict = judge(PROBE, ANSWERED, [flow(), allowed, allowed])
    assert verdict.actual is Actual.ALLOWED
    assert verdict.policies == ("CiliumNetworkPolicy shop/db",)
    assert verdict.reason == "egress by CiliumNetworkPolicy shop/db; ingress by CiliumNetworkPolicy shop/db"
    assert judge(PROBE, ANSWERED, []).reason == "no policy had to decide"
    assert "audit mode" in judge(PROBE, ANSWERED, [flow(verdict="AUDIT", ingress_denied_by=[])]).reason


def test_an_echo_has_no_ports_and_is_known_by_its_ends() -> None:
    ping = replace(PROBE, protocol="ICMP", port=0)
    silent = replace(SILENT, source_port=0)
    assert judge(ping, silent, [flow(l4={"ICMPv4": {"type": 8}})]).actual is Actual.DENIED
    assert judge(ping, silent, [flow(l4={"ICMPv4": {"type": 3}})]).actual is Actual.ERROR
    assert judge(ping, silent, [flow()]).actual is Actual.ERROR


def test_from_the_world_to_a_service_the_source_is_translated() -> None:
    (case,) = cases("- {from: world, to: shop/front, expect: denied}")
    (probe,) = case.probes
    there = {"source": "198.18.0.77", "destination": "198.18.0.3", "ipVersion": "IPv4"}
    port = {"TCP": {"source_port": 61000, "destination_port": 8080}}
    world = {"labels": ["reserved:world-ipv4"]}
    assert judge(probe, SILENT, [flow(IP=there, l4=port, source=world)]).actual is Actual.DENIED
    assert judge(probe, SILENT, [flow(IP=there, l4=port)]).actual is Actual.ERROR, "a pod's own packets"
    other = {"TCP": {"source_port": 61000, "destination_port": 9}}
    assert judge(probe, SILENT, [flow(IP=there, l4=other, source=world)]).actual is Actual.ERROR


@pytest.mark.parametrize(
    ("by", "actual", "policies", "result"),
    [
        ("", Actual.DENIED, (), Result.OK),
        ("", Actual.ALLOWED, (), Result.DIFFERS),
        ("", Actual.ERROR, (), Result.ERROR),
        (", deniedBy: NetworkPolicy shop/x", Actual.DENIED, (X, "NetworkPolicy shop/y"), Result.OK),
        (", deniedBy: NetworkPolicy shop/x", Actual.DENIED, ("NetworkPolicy shop/y",), Result.DIFFERS),
    ],
)  # fmt: skip
def test_a_case_is_as_expected_or_not(by: str, actual: Actual, policies: tuple[str, ...], result: Result) -> None:
    case = cases(f"- {{from: shop/shell, to: shop/db, families: IPv4, expect: denied{by}}}")[0]
    outcome = Outcome(case.probes[0], SILENT, Verdict(actual, "", policies))
    assert CaseResult(case, (outcome,)).result is result


def test_one_pod_that_differs_makes_the_case_differ() -> None:
    case = cases("- {from: shop/web, to: shop/db, families: IPv4, expect: denied}")[0]
    verdicts = [Verdict(Actual.DENIED, ""), Verdict(Actual.ALLOWED, "")]
    outcomes = tuple(Outcome(probe, SILENT, verdict) for probe, verdict in zip(case.probes, verdicts, strict=True))
    assert CaseResult(case, outcomes).result is Result.DIFFERS
