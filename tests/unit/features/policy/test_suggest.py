"""Policies from what was seen: as narrow as that, in the same words every time, and valid."""

from __future__ import annotations

import random
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from cilium.features.policy.suggest import Observation, Other, choose, suggest
from cilium.sources.kubernetes.policies import decode_cnp

WEB, DB, DNS = ("shop", "web"), ("shop", "db"), ("kube-system", "coredns")
WORKLOADS = {
    WEB: {"app": "web", "tier": "front", "chart": "x-1"},
    DB: {"app": "db", "tier": "back"},
    ("shop", "idle"): {"app": "idle"},
    DNS: {"k8s-app": "kube-dns"},
}


def saw(
    workload: Any, other: Any, protocol: int, port: int, *, egress: bool = True, passed: bool = True
) -> Observation:
    if isinstance(other, tuple):
        peer = Other(workload=other, name="/".join(other))
    elif other[0].isdigit():
        peer = Other(network=ip_network(other), name=other)
    else:
        peer = Other(entity=other, name=other)
    return Observation(workload, egress, peer, protocol, port, passed)


SEEN = [
    saw(WEB, DB, 6, 5432),
    saw(DB, WEB, 6, 5432, egress=False),
    saw(WEB, DNS, 17, 53),
    saw(WEB, "192.0.2.1", 6, 443),
    saw(WEB, "2001:db8::1", 6, 443),
    saw(WEB, DB, 1, 8),
    saw(WEB, "remote-node", 6, 8080, egress=False),
    saw(WEB, "health", 6, 8080, egress=False),
    saw(DB, WEB, 6, 22, egress=False, passed=False),
    saw(DB, WEB, 6, 5432, egress=False, passed=False),
]


def test_what_passed_is_allowed_and_nothing_else() -> None:
    suggestions, silent = suggest("shop", WORKLOADS, SEEN)
    assert silent == ["idle"]
    db, web = suggestions
    assert db.policy["spec"] == {
        "endpointSelector": {"matchLabels": {"app": "db"}},
        "ingress": [
            {
                "fromEndpoints": [{"matchLabels": {"app": "web"}}],
                "toPorts": [{"ports": [{"port": "5432", "protocol": "TCP"}]}],
            }
        ],
        "egress": [{}],
    }
    assert db.notes == ["denied, and left out: ingress from shop/web, TCP 22"]
    assert web.policy["spec"]["ingress"] == [
        {"fromEntities": ["health", "remote-node"], "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}]}
    ]
    both = [{"port": "53", "protocol": "TCP"}, {"port": "53", "protocol": "UDP"}]
    kube_dns = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}}
    assert web.policy["spec"]["egress"] == [
        {"toEndpoints": [{"matchLabels": {"app": "db"}}], "icmps": [{"fields": [{"family": "IPv4", "type": 8}]}]},
        {"toEndpoints": [kube_dns], "toPorts": [{"ports": both}]},
        {
            "toEndpoints": [{"matchLabels": {"app": "db"}}],
            "toPorts": [{"ports": [{"port": "5432", "protocol": "TCP"}]}],
        },
        {
            "toCIDR": ["192.0.2.1/32", "2001:db8::1/128"],
            "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}],
        },
    ]


def test_they_are_valid_and_the_order_of_what_was_seen_does_not_matter() -> None:
    first, _ = suggest("shop", WORKLOADS, SEEN)
    for one in first:
        row = decode_cnp(msgspec.json.encode(one.policy))
        assert not row.error
        assert row.rules[0].default_deny_ingress
        assert row.rules[0].default_deny_egress
    shuffled = random.Random(1).sample(SEEN, len(SEEN))
    assert suggest("shop", WORKLOADS, shuffled)[0] == first


def test_many_addresses_are_the_world() -> None:
    seen = [saw(WEB, f"192.0.2.{number}", 6, 443) for number in range(30)]
    ((one,), _) = suggest("shop", WORKLOADS, seen)
    assert one.policy["spec"]["egress"] == [
        {"toEntities": ["world"], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}
    ]


@pytest.mark.parametrize(
    ("own", "others", "chosen"),
    [
        ({"app": "a", "tier": "t"}, [{"app": "b", "tier": "t"}], {"app": "a"}),
        ({"app": "a", "role": "x"}, [{"app": "a", "role": "y"}], {"app": "a", "role": "x"}),
        ({"zzz": "1", "app": "a"}, [], {"app": "a"}),
        ({"zzz": "1", "app": "a"}, [{"app": "a"}], {"app": "a", "zzz": "1"}),
        ({"app.kubernetes.io/name": "n", "app": "a"}, [{"app": "b"}], {"app.kubernetes.io/name": "n"}),
        ({}, [{"app": "b"}], {}),
    ],
)
def test_labels_that_matter(own: dict[str, str], others: list[dict[str, str]], chosen: dict[str, str]) -> None:
    assert choose(own, others) == chosen


def test_workloads_that_labels_do_not_tell_apart_are_named() -> None:
    workloads = {WEB: {"app": "web"}, ("shop", "web-2"): {"app": "web"}}
    ((one,), _) = suggest("shop", workloads, [saw(WEB, "world", 6, 1)])
    assert one.notes == ["its labels select web-2 too"]
