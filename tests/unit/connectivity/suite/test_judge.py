"""A verdict is told from something broken, by exit codes and by flows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.connectivity.suite.cluster import actions, flow

from cilium.connectivity.suite.action import Action
from cilium.connectivity.suite.cluster import Ran
from cilium.connectivity.suite.expect import Expected
from cilium.connectivity.suite.hubble import lacking, of_action
from cilium.connectivity.suite.judge import judge, unhealthy
from cilium.connectivity.suite.options import FlowValidation

CURL, PING = actions("pod-to-pod")[0], actions("client-to-client")[0]
ALLOWED, DROPPED, TIMEOUT = Expected(), Expected("ingress", "default"), Expected("ingress", "default", 28)


@pytest.mark.parametrize(
    ("action", "wanted", "code", "problem"),
    [
        (CURL, ALLOWED, 0, ""),
        (CURL, ALLOWED, 28, "failed: exit code 28"),
        (CURL, DROPPED, 28, ""),
        (CURL, DROPPED, 7, ""),
        (CURL, TIMEOUT, 7, "exit code 7, not 28"),
        (CURL, DROPPED, 0, "succeeded, though it should be dropped at ingress by default deny"),
        (CURL, DROPPED, 127, "exit code 127, which says nothing of the network"),
        (CURL, DROPPED, 3, "which says nothing"),
        (CURL, DROPPED, 22, "which says nothing"),
        (CURL, DROPPED, None, "was not run to its end: pod is gone"),
        (PING, DROPPED, 1, ""),
        (PING, DROPPED, 2, "which says nothing"),
    ],
)
def test_exit_codes(action: Action, wanted: Expected, code: int | None, problem: str) -> None:
    found = judge(action, wanted, Ran(code, "", "", "pod is gone"), None, FlowValidation.WARNING)
    assert bool(found.problems) is bool(problem)
    assert problem in "\n".join(found.problems)


@pytest.mark.parametrize(
    ("wanted", "flows", "said"),
    [
        (ALLOWED, [{"verdict": "FORWARDED", "drop_reason_desc": ""}], ""),
        (ALLOWED, [], "no flow was seen"),
        (
            ALLOWED,
            [{}],
            "on node2: default deny of CiliumNetworkPolicy cilium-test-1/closed",
        ),
        (DROPPED, [{"verdict": "FORWARDED"}, {}], ""),
        (DROPPED, [{"verdict": "FORWARDED"}], "no drop was seen"),
        (DROPPED, [{"traffic_direction": "EGRESS"}], "was dropped otherwise: egress of cilium-test-1/client"),
        (
            DROPPED,
            [{"drop_reason_desc": "POLICY_DENY"}],
            "otherwise: ingress of cilium-test-1/echo on node2: a deny",
        ),
        (DROPPED, [{"drop_reason_desc": "CT_MAP_INSERTION_FAILED"}], "CT_MAP_INSERTION_FAILED ingress on node2"),
        (Expected("either"), [{"traffic_direction": "EGRESS", "drop_reason_desc": "POLICY_DENY"}], ""),
    ],
)
def test_what_flows_lack(wanted: Expected, flows: list[dict[str, Any]], said: str) -> None:
    own = of_action(CURL, [flow(CURL, **changes) for changes in flows])
    found = lacking(wanted, own)
    assert bool(found) is bool(said)
    assert said in "\n".join(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"IP": {"source": "10.0.1.2", "destination": "10.0.2.5"}},
        {"IP": {"source": "10.0.1.1", "destination": "10.0.1.4"}},
        {"l4": {"TCP": {"destination_port": 8081}}},
        {"l4": {"ICMPv4": {"type": 8}}},
        {"is_reply": True},
    ],
)
def test_flows_of_others_do_not_count(changes: dict[str, Any]) -> None:
    assert of_action(CURL, [flow(CURL)])
    assert not of_action(CURL, [flow(CURL, **changes)])


def test_flows_by_way_of_a_service_are_those_to_its_pods() -> None:
    (action, *_) = actions("pod-to-service")
    backend = {"source": "10.0.1.1", "destination": "10.0.2.5"}
    layer = {"TCP": {"destination_port": 8080}}
    assert of_action(action, [flow(action, IP=backend, l4=layer)])
    assert not of_action(action, [flow(action, IP={**backend, "destination": "10.0.1.4"}, l4=layer)])
    (world, *_) = actions("pod-to-world")
    far = {"source": "10.0.1.1", "destination": "1.1.1.1"}
    assert of_action(world, [flow(world, IP=far)]), "of a name, the address is not known"


def test_flows_are_failures_only_where_they_shall_be() -> None:
    ran = Ran(0, "", "")
    assert judge(CURL, ALLOWED, ran, [], FlowValidation.STRICT).problems == ("no flow was seen of it",)
    warned = judge(CURL, ALLOWED, ran, [], FlowValidation.WARNING)
    assert (warned.problems, warned.warnings) == ((), ("no flow was seen of it",))
    for unseen in (None, []):
        assert not judge(CURL, ALLOWED, ran, unseen, FlowValidation.DISABLED).warnings
    (unwatched, *_) = actions("host-to-pod")
    assert not judge(unwatched, ALLOWED, ran, [], FlowValidation.STRICT).problems


def test_health_names_the_path_that_fails() -> None:
    def path(ip: str, status: str) -> dict[str, Any]:
        return {"ip": ip, "http": {"status": status}, "icmp": {"status": ""}}

    host = {"primary-address": path("192.0.2.1", ""), "secondary-addresses": [path("fd00::1", "no answer")]}
    document = {"nodes": [{"name": "n1", "host": host, "health-endpoint": None}]}
    assert unhealthy(json.dumps(document)) == ["n1: host fd00::1 http: no answer"]
    assert unhealthy('{"nodes": []}') == ["cilium-health knows no node"]
    assert unhealthy("Connection refused") == ["cilium-health printed no status of nodes"]
    agent = actions("cilium-health")[0]
    found = judge(agent, ALLOWED, Ran(0, json.dumps(document), ""), None, FlowValidation.WARNING)
    assert found.problems == ("n1: host fd00::1 http: no answer",)
