"""Filter flags become filters: sides, namespaces, --not, bad values."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from cilium.cli.hubble.main import hubble


def filters(*arguments: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(whitelist, blacklist) as the command would send them."""
    result = CliRunner().invoke(hubble, ["observe", "--print-raw-filters", *arguments])
    assert result.exit_code == 0, result.output
    lists: dict[str, list[dict[str, Any]]] = {"allowlist:": [], "denylist:": []}
    current = lists["allowlist:"]
    for line in result.output.splitlines():
        if line in lists:
            current = lists[line]
        else:
            current.append(json.loads(line.removeprefix("    - ")))
    return lists["allowlist:"], lists["denylist:"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", []),
        ("--pod web", [{"source_pod": ["default/web"]}, {"destination_pod": ["default/web"]}]),
        ("--from-pod shop/web", [{"source_pod": ["shop/web"]}]),
        ("--to-pod web --port 80", [
            {"destination_pod": ["default/web"], "source_port": ["80"]},
            {"destination_pod": ["default/web"], "destination_port": ["80"]},
        ]),
        ("-n shop --to-pod web", [{"destination_pod": ["shop/web"]}]),
        ("-n shop", [{"source_pod": ["shop/"]}, {"destination_pod": ["shop/"]}]),
        ("--from-namespace a --from-namespace b", [{"source_pod": ["a/", "b/"]}]),
        ("-A --from-pod web", [{"source_pod": ["/web"]}]),
        ("--to-all-namespaces --to-pod web", [{"destination_pod": ["/web"]}]),
        ("--from-ip 10.0.0.1 --to-ip fd00::/8", [{"source_ip": ["10.0.0.1"], "destination_ip": ["fd00::/8"]}]),
        ("--VERDICT dropped", [{"verdict": ["DROPPED"]}]),
        ("--verdict FORWARDED --verdict audit", [{"verdict": ["FORWARDED", "AUDIT"]}]),
        ("--verdict DROPPED,ERROR", [{"verdict": ["DROPPED", "ERROR"]}]),
        ("-t drop -t trace:to-overlay", [
            {"event_type": [{"type": 1}, {"type": 4, "match_sub_type": True, "sub_type": 4}]}
        ]),
        ("-t trace-sock,trace-sock:pre-xlate-rev -t trace-sock:2", [
            {"event_type": [
                {"type": 7},
                {"type": 7, "match_sub_type": True, "sub_type": 3},
                {"type": 7, "match_sub_type": True, "sub_type": 2},
            ]}
        ]),
        ("--service web", [{"source_service": ["default/web"]}, {"destination_service": ["default/web"]}]),
        ("--to-service shop/web --from-pod a", [
            {"source_pod": ["default/a"], "destination_service": ["shop/web"]}
        ]),
        ("--snat-ip 192.0.2.1", [{"source_ip_xlated": ["192.0.2.1"]}]),
        ("--protocol tcp -4", [{"protocol": ["tcp"], "ip_version": ["IPv4"]}]),
        ("--from-identity world --to-identity 1234", [{"source_identity": [2], "destination_identity": [1234]}]),
        ("--tcp-flags syn,ACK", [{"tcp_flags": [{"SYN": True, "ACK": True}]}]),
        ("--traffic-direction ingress", [{"traffic_direction": ["INGRESS"]}]),
        ("--from-workload Deployment/web", [{"source_workload": [{"kind": "Deployment", "name": "web"}]}]),
        ("--drop-reason-desc policy_denied", [{"drop_reason_desc": ["POLICY_DENIED"]}]),
        ("--interface eth0", [{"interface": [{"name": "eth0"}]}]),
        ("--unencrypted", [{"encrypted": [False]}]),
        ("--from-label app=web,tier!=db", [{"source_label": ["app=web,tier!=db"]}]),
        ("--cel-expression true", [{"experimental": {"cel_expression": ["true"]}}]),
    ],
)  # fmt: skip
def test_whitelist(arguments: str, expected: list[dict[str, Any]]) -> None:
    assert filters(*arguments.split()) == (expected, [])


def test_flags_without_sides_are_independent_of_each_other() -> None:
    white, _ = filters("--pod", "a/x", "--pod", "a/y", "--port", "80")
    assert white == [
        {"source_pod": ["a/x", "a/y"], "source_port": ["80"]},
        {"source_pod": ["a/x", "a/y"], "destination_port": ["80"]},
        {"destination_pod": ["a/x", "a/y"], "source_port": ["80"]},
        {"destination_pod": ["a/x", "a/y"], "destination_port": ["80"]},
    ]


def test_not_speaks_of_the_next_filter_only() -> None:
    white, black = filters("--not", "--verdict", "DROPPED", "--verdict", "AUDIT", "--not", "--to-port", "53", "-4")
    assert white == [{"verdict": ["AUDIT"], "ip_version": ["IPv4"]}]
    assert black == [{"verdict": ["DROPPED"]}, {"destination_port": ["53"]}]


def test_raw_filters_replace_the_flags() -> None:
    assert filters("--allowlist", '{"source_ip": ["10.0.0.1"]}', "--denylist", '{"verdict": ["DROPPED"]}') == (
        [{"source_ip": ["10.0.0.1"]}],
        [{"verdict": ["DROPPED"]}],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--verdict lost", "'lost' is no verdict: give one of FORWARDED"),
        ("--port http", "'http' is no port: give a number"),
        ("-t trace:to-moon", "no sub-type of trace: give to-endpoint"),
        ("-t trace-sock:moon", "no sub-type of trace-sock: give pre-xlate-fwd, post-xlate-fwd"),
        ("-t thing", "no event type: give one of drop"),
        ("--identity nobody", "no identity: give a number or one of unknown, host"),
        ("--pod a --from-pod b", "--pod and --from-pod cannot be combined"),
        ("--not", "--not at the end"),
        ("--not --not --port 1", "--not twice"),
        ("--not --last 1", "--not before --last"),
        ("--first 1 --last 1", "--first and --last exclude each other"),
        ("--all --last 1", "--all excludes"),
        ("--since yesterday", "'yesterday' is no time: give a duration"),
        ("--allowlist {", "is no JSON"),
        ("--allowlist []", "is no FlowFilter"),
        ("--allowlist {\"colour\":1}", "colour"),
        ("--drop-reason-desc bad_mood", "BAD_MOOD"),
        ("--tcp-flags sin", "no TCP flag"),
    ],
)  # fmt: skip
def test_bad_input_is_told_with_the_way_out(arguments: str, message: str) -> None:
    result = CliRunner().invoke(hubble, ["observe", "--print-raw-filters", *arguments.split()])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
