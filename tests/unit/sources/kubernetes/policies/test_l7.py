"""What is not enforced by this version is checked all the same, opens nothing, and says so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cilium.sources.kubernetes.policies import decode_cnp
from cilium.tables.rules import PolicyObject

WEB = {"port": "80", "protocol": "TCP"}
DNS = {"port": "53"}


def cnp(section: str, element: dict[str, Any]) -> PolicyObject:
    spec = {"endpointSelector": {}, section: [element]}
    return decode_cnp(msgspec.json.encode({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}))


def port(**parts: Any) -> dict[str, Any]:
    return {"toPorts": [{"ports": [WEB], **parts}]}


TLS = {"secret": {"name": "s"}}
LISTENER = {"envoyConfig": {"name": "e"}, "name": "l"}


@pytest.mark.parametrize(
    ("section", "element", "parts"),
    [
        ("egress", {"toFQDNs": [{"matchPattern": "**.example.com"}, {"matchName": "a.b."}]}, ["toFQDNs"]),
        ("egress", {"toPorts": [{"ports": [DNS], "rules": {"dns": [{"matchPattern": "*"}]}}]}, ["toPorts[0].rules"]),
        ("ingress", port(rules={"http": [{"method": "GET", "path": "/a/.*"}]}), ["toPorts[0].rules"]),
        (
            "egress",
            port(rules={"http": []}, terminatingTLS=TLS, serverNames=["*.example.com"]),
            ["toPorts[0].rules", "toPorts[0].terminatingTLS", "toPorts[0].serverNames"],
        ),
        ("egress", port(listener=LISTENER), ["toPorts[0].listener"]),
        ("ingress", port(authentication={"mode": "required"}), ["toPorts[0].authentication"]),
        ("ingress", {"fromEndpoints": [{}], "authentication": {"mode": "test-always-fail"}}, ["authentication"]),
    ],
)
def test_held_and_not_enforced(section: str, element: dict[str, Any], parts: list[str]) -> None:
    policy = cnp(section, element)
    assert not policy.error
    (direction,) = policy.rules[0].ingress or policy.rules[0].egress
    assert list(direction.unenforced) == [f"spec.{section}[0].{part}" for part in parts]
    assert direction.ports == () or direction.peers.selectors == () == direction.peers.cidrs
    assert not direction.peers.wildcard or direction.ports == (), "nothing is opened"


@pytest.mark.parametrize(
    ("section", "element", "error"),
    [
        ("egress", {"toFQDNs": [{}]}, "toFQDNs[0]: needs exactly one of matchName and matchPattern"),
        ("egress", {"toFQDNs": [{"matchName": "a b"}]}, "toFQDNs[0].matchName: 'a b' is not a DNS name"),
        ("egress", {"toFQDNs": [{"matchName": "a" * 256}]}, "toFQDNs[0].matchName: has 256 characters"),
        ("egress", {"toFQDNs": [{"matchPattern": "a.**.b!"}]}, "toFQDNs[0].matchPattern: 'a.**.b!' is not a DNS name"),
        ("egress", {"toFQDNs": [{"matchName": "a"}], "toCIDR": []}, "toFQDNs: cannot be combined with toCIDR"),
        ("egress", port(rules={"kafka": []}), "toPorts[0].rules.kafka: is not one of http, dns"),
        ("egress", port(rules={"http": [], "dns": []}), "toPorts[0].rules: names two L7 protocols"),
        ("ingress", port(rules={"dns": []}), "toPorts[0].rules.dns: is for egress only"),
        ("egress", port(rules={"http": [{"path": "("}]}), "toPorts[0].rules.http[0].path: is no regular expression"),
        ("egress", port(rules={"http": [{"verb": "GET"}]}), "toPorts[0].rules.http[0]: Object contains unknown field"),
        (
            "egress",
            port(rules={"http": [{"headerMatches": [{"name": "a", "mismatch": "EAT"}]}]}),
            "toPorts[0].rules.http[0].headerMatches[0].mismatch: 'EAT' is not one of",
        ),
        ("egress", {"toPorts": [{"rules": {"http": []}}]}, "toPorts[0].ports: must be given for L7 rules"),
        (
            "egress",
            {"toPorts": [{"ports": [{"port": "53", "endPort": 54}], "rules": {"dns": []}}]},
            "toPorts[0].ports[0].endPort: cannot be given for dns rules",
        ),
        ("egress", port(serverNames=[""]), "toPorts[0].serverNames[0]: '' is not a server name"),
        ("egress", port(serverNames=["a"], rules={"http": []}), "toPorts[0].serverNames: needs terminatingTLS"),
        ("ingress", port(listener=LISTENER), "toPorts[0].listener: is for egress only"),
        ("egress", port(listener=LISTENER | {"priority": 101}), "toPorts[0].listener.priority: 101 is not between"),
        ("egress", port(listener=LISTENER, rules={"http": []}), "toPorts[0].listener: cannot be combined with rules"),
        ("egress", port(authentication={"mode": "on"}), "toPorts[0].authentication.mode: 'on' is not one of"),
    ],
)
def test_mistakes_have_paths(section: str, element: dict[str, Any], error: str) -> None:
    assert cnp(section, element).error.startswith(f"spec.{section}[0].{error}")
