"""A run: what is skipped and why, policies that come and go, failures that do not end it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from unit.connectivity.suite.cluster import ACTORS, AGENTS, OPTIONS, FakeCluster, actions, flow, row

from cilium.connectivity.suite.actors import Pod
from cilium.connectivity.suite.cluster import Ran, SuiteError
from cilium.connectivity.suite.enforce import Enforcer
from cilium.connectivity.suite.events import Event, Note, Outcome, ScenarioSkipped, TestResult
from cilium.connectivity.suite.features import Features, read
from cilium.connectivity.suite.options import OUTSIDE, Filter, FlowValidation
from cilium.connectivity.suite.run import Runner, networks, reason
from cilium.connectivity.suite.table import manifests

FEATURES = Features("1.20.0", (4, 6), frozenset({"icmp-policy", "health-checking", "host-firewall", "host-port"}))
DENY = row("client-egress-to-cidrgroup-deny")


def policies() -> list[dict[str, object]]:
    return manifests(DENY, OPTIONS.namespace, OUTSIDE, {4: "172.30.1.0/24"})


def enforcer(cluster: FakeCluster) -> Enforcer:
    return Enforcer(cluster, AGENTS)


def test_policies_go_with_their_test_whatever_ends_it() -> None:
    async def body(cluster: FakeCluster, error: BaseException | None) -> None:
        async with enforcer(cluster).enforced(policies()):
            assert len(cluster.objects) == 3
            if error is not None:
                raise error

    for error in (None, SuiteError("x"), asyncio.CancelledError()):
        cluster = FakeCluster()
        try:
            asyncio.run(body(cluster, error))
        except (SuiteError, asyncio.CancelledError):
            assert error is not None
        assert not cluster.objects
        assert cluster.history[-1] == "delete allow-all-egress", "in the reverse order"


def test_an_interrupt_while_policies_go_does_not_keep_them() -> None:
    cluster = FakeCluster()

    async def hold() -> None:
        async with enforcer(cluster).enforced(policies()):
            pass

    async def body() -> None:
        cluster.deleting = asyncio.Event()
        task = asyncio.create_task(hold())
        await cluster.deleting.wait()
        task.cancel()
        await asyncio.wait([task], timeout=0.01)
        cluster.may_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(body())
    assert not cluster.objects


def test_a_refused_policy_names_it_and_what_was_applied_goes() -> None:
    cluster = FakeCluster()
    cluster.refused = {"client-egress-to-cidrgroup-deny"}

    async def body() -> None:
        async with enforcer(cluster).enforced(policies()):
            raise AssertionError("must not be reached")

    with pytest.raises(SuiteError, match="client-egress-to-cidrgroup-deny: client-egress-to-cidrgroup-deny is wrong"):
        asyncio.run(body())
    assert not cluster.objects


def test_a_policy_that_agents_do_not_take_is_named_with_its_status() -> None:
    cluster = FakeCluster()
    cluster.late = {"client-egress-to-cidrgroup-deny"}

    async def body() -> None:
        async with enforcer(cluster).enforced(policies()):
            raise AssertionError("must not be reached")

    with pytest.raises(SuiteError, match=r"is not valid: spec\.x: no such thing; cilium-test-1/cilium-1 on node1: rev"):
        asyncio.run(body())


def test_what_an_earlier_run_left_is_exchanged() -> None:
    cluster = FakeCluster()
    asyncio.run(cluster.create(policies()[0]))

    async def body() -> None:
        async with enforcer(cluster).enforced(policies()[:1]):
            pass

    asyncio.run(body())
    assert not cluster.objects


def played(name: str, cluster: FakeCluster, *filters: str) -> tuple[TestResult, list[Event]]:
    told: list[Event] = []
    options = replace(OPTIONS, filters=filters)
    runner = Runner(cluster, options, FEATURES, ACTORS, None, told.append)
    result = TestResult(name=name, number=1, total=1)
    asyncio.run(runner.run(row(name), result))
    return result, told


def curl_says(code: int) -> FakeCluster:
    return FakeCluster(lambda pod, command: Ran(code, "", "curl: said so"))


def test_a_test_passes_or_fails_by_its_actions() -> None:
    passed, _ = played("client-egress", curl_says(0))
    assert (passed.outcome, len(passed.results)) == (Outcome.PASSED, 12)
    failed, _ = played("client-egress", curl_says(28))
    assert (failed.outcome, len(failed.failed_actions)) == (Outcome.FAILED, 12)
    closed, _ = played("all-egress-deny", curl_says(28))
    assert closed.outcome is Outcome.PASSED
    opened, _ = played("all-egress-deny", curl_says(0))
    assert len(opened.failed_actions) == 48

    def only_client(pod: Pod, command: Sequence[str]) -> Ran:
        return Ran(28 if pod.name == "client" else 0, "", "")

    assert played("echo-ingress", FakeCluster(only_client))[0].outcome is Outcome.PASSED


class LateHubble:
    """Tells of the packets the second time it is asked; `broken`: never."""

    def __init__(self, *, broken: bool = False) -> None:
        self.asked, self.broken = 0, broken

    async def since(self, moment: float) -> list[dict[str, object]]:
        self.asked += 1
        if self.broken:
            raise SuiteError("agent: hubble observe: no such socket")
        seen = {"verdict": "FORWARDED", "drop_reason_desc": "", "traffic_direction": "EGRESS"}
        return [flow(action, **seen) for action in actions("pod-to-pod")] if self.asked > 1 else []


def validated(hubble: LateHubble, validation: FlowValidation) -> tuple[TestResult, list[Event]]:
    told: list[Event] = []
    runner = Runner(curl_says(0), replace(OPTIONS, flows=validation), FEATURES, ACTORS, hubble, told.append)
    result = TestResult(name="client-egress", number=1, total=1)
    asyncio.run(runner.run(row("client-egress"), result))
    return result, told


def test_flows_may_be_late() -> None:
    hubble = LateHubble()
    result, _ = validated(hubble, FlowValidation.STRICT)
    assert (result.outcome, hubble.asked) == (Outcome.PASSED, 2)


def test_a_hubble_that_breaks_is_told_and_fails_only_strict_runs() -> None:
    warned, told = validated(LateHubble(broken=True), FlowValidation.WARNING)
    assert warned.outcome is Outcome.PASSED
    assert any("no such socket" in event.text for event in told if isinstance(event, Note))
    failed, _ = validated(LateHubble(broken=True), FlowValidation.STRICT)
    assert failed.problems == ["agent: hubble observe: no such socket"]


def test_a_test_that_cannot_be_set_up_fails_and_says_why() -> None:
    cluster = curl_says(0)
    cluster.refused = {"client-egress-to-echo"}
    failed, _ = played("client-egress", cluster)
    assert failed.outcome is Outcome.FAILED
    assert "client-egress-to-echo is wrong" in failed.problems[0]
    assert not failed.results


def test_scenarios_are_chosen_by_name() -> None:
    result, told = played("no-policies", curl_says(0), "/pod-to-pod$", "client-to-client")
    assert {one.action.scenario for one in result.results} == {"pod-to-pod", "client-to-client"}
    assert sum(isinstance(event, ScenarioSkipped) for event in told) == result.scenarios_skipped == 6


@pytest.mark.parametrize(
    ("name", "filters", "said"),
    [
        ("no-policies", (), ""),
        ("no-policies", ("client-egress",), "skipped by user"),
        ("no-policies", ("no-policies",), ""),
        ("no-policies", ("!no-policies",), "skipped by user"),
        ("client-egress", ("client-egress", "!/pod-to-pod"), "skipped by user"),
        ("client-egress-l7", (), "L7 rules and TLS are not tested by this command"),
        ("client-egress-l7", ("/pod-to-pod",), "skipped by user"),
        ("dns-only", (), "Feature l7-proxy is disabled"),
        ("host-firewall-ingress", (), "unsafe test which can modify state of cluster nodes"),
    ],
)
def test_why_a_test_is_skipped(name: str, filters: tuple[str, ...], said: str) -> None:
    assert reason(row(name), OPTIONS, FEATURES, Filter(filters)) == said


def test_a_wrong_filter_is_named() -> None:
    with pytest.raises(ValueError, match=r"'!\(' is no regular expression"):
        Filter(["!("])


def test_features_are_read_from_what_agents_say() -> None:
    runtime = {"EnableICMPRules": True, "EnableHealthChecking": True, "EnableEndpointHealthChecking": False}
    replacement = {"features": {"hostPort": {"enabled": True}}}
    config = {"enable-ipv4": "true", "enable-ipv6": "false", "policy-cidr-match-mode": "nodes"}
    found = read(config, runtime, {"kube-proxy-replacement": replacement, "proxy": {"ip": "x"}}, "1.20.0")
    assert found == Features("1.20.0", (4,), frozenset({"icmp-policy", "host-port", "l7-proxy", "cidr-match-nodes"}))
    bare = read({"enable-ipv6": "true"}, {}, {"host-firewall": {"mode": "Disabled"}}, "")
    assert bare == Features("", (6,), frozenset())
    assert read({}, {}, {"host-firewall": {"mode": "Enabled"}}, "").enabled == {"host-firewall"}


def test_all_nodes_are_in_the_smallest_network() -> None:
    assert networks(ACTORS) == {4: "172.30.1.8/29", 6: "fd30::10/126"}
