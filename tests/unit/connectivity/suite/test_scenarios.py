"""Who asks whom by which command, and what is expected of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.connectivity.suite.cluster import ACTORS, OPTIONS, actions, every_action, row

from cilium.connectivity.suite.expect import expected


@pytest.mark.parametrize(
    ("scenario", "number"),
    [
        ("pod-to-pod", 12), ("pod-to-pod-with-endpoints", 36), ("client-to-client", 12), ("pod-to-service", 6),
        ("pod-to-hostport", 6), ("pod-to-world", 9), ("pod-to-host", 12), ("host-to-pod", 8), ("pod-to-cidr", 12),
        ("pod-to-remote-nodeport", 12), ("pod-to-local-nodeport", 12), ("pod-to-itself-via-service", 2),
        ("cilium-health", 2), ("ccnp-client-to-client", 0),
    ],
)  # fmt: skip
def test_numbers_of_actions_on_two_nodes_with_both_families(scenario: str, number: int) -> None:
    found = actions(scenario)
    assert len(found) == number
    assert len({(str(one.source), one.target.address, one.name) for one in found}) == number


def test_one_family_is_half_of_it() -> None:
    one = replace(ACTORS, families=(6,))
    assert {action.family for action in actions("pod-to-pod", one)} == {6}
    assert len(actions("pod-to-host", one)) == 6
    assert next(action.target.address for action in actions("pod-to-cidr", one)) == "2606:4700:4700::1111"


def test_commands_are_those_of_upstream() -> None:
    first = actions("pod-to-pod")[1]
    assert str(first).startswith("pod-to-pod:curl-ipv6-0: cilium-test-1/client (fd00:1::1) -> ")
    assert first.command[-6:] == (
        "/dev/null", "--connect-timeout", "2", "--max-time", "10", "http://[fd00:2::5]:8080/",
    )  # fmt: skip
    assert actions("client-to-client")[0].command == ("ping", "-c", "1", "-W", "2", "-w", "2", "10.0.1.2")
    world = actions("pod-to-world", retry="port-80")
    assert [action.command[-1] for action in world[:3]] == [
        "http://one.one.one.one.:80/", "https://one.one.one.one.:443/", "https://one.one.one.one.:443/index.html",
    ]  # fmt: skip
    assert [("--retry" in action.command) for action in world[:3]] == [True, False, False]
    assert world[0].command[-8:-6] == ("-H", "Host: one.one.one.one")
    quick = replace(OPTIONS, connect_timeout=0.5, request_timeout=0, curl_insecure=True)
    words = actions("pod-to-pod", options=quick)[0].command
    assert words[-4:-1] == ("--connect-timeout", "0.5", "--insecure")
    assert actions("client-to-client", options=quick)[0].command == (
        "ping",
        "-c",
        "1",
        "-W",
        "0.5",
        "-w",
        "1",
        "10.0.1.2",
    )


def test_node_ports_are_asked_at_the_own_node_and_at_others() -> None:
    local = {(action.source.node, action.target.address) for action in actions("pod-to-local-nodeport")}
    assert local == {("node1", "172.30.1.11"), ("node1", "fd30::11"), ("node2", "172.30.1.12"), ("node2", "fd30::12")}
    remote = actions("pod-to-remote-nodeport")
    assert {action.target.port for action in remote} == {30004, 30005}
    assert not {(action.source.node, action.target.address) for action in remote} & local


SAID = {
    "no-policies": {"allowed"},
    "client-ingress": {"allowed", "dropped at ingress by default deny"},
    "all-ingress-deny": {"allowed", "dropped at ingress by default deny"},
    "all-entities-deny": {"dropped at egress by a deny rule"},
    "echo-ingress-from-other-client-deny": {"allowed", "dropped at ingress by a deny rule"},
    "to-entities-world": {"allowed", "dropped at egress by default deny"},
    "client-egress-to-cidr-deny-default": {"dropped at egress by a deny rule", "dropped at egress by default deny"},
    "host-firewall-ingress": {"allowed", "dropped by default deny"},
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_expected_of_the_actions_of_a_test(name: str) -> None:
    found = {str(expected(test, action)) for test, action in every_action() if test.name == name}
    assert found == SAID[name]


def test_expectations_fit_ends_ports_and_addresses() -> None:
    deny = row("client-egress-to-echo-service-account-deny")
    said = {action.target.name: str(expected(deny, action)) for action in actions("pod-to-pod")}
    assert said == {
        "cilium-test-1/echo-other-node": "allowed",
        "cilium-test-1/echo-same-node": "dropped at egress by a deny rule",
    }
    cidr = row("to-cidr-external")
    assert [expected(cidr, action).code for action in actions("pod-to-cidr")] == [0, 0, 0, 28, 28, 28] * 2
