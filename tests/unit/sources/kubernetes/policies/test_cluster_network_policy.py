"""ClusterNetworkPolicies become rules in tiers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cilium.sources.kubernetes.policies import decode_cluster_network_policy, decode_knp
from cilium.tables.matching import selects
from cilium.tables.rules import Action, PolicyObject, PortRange, Rule, Tier

NS, TEAM, CLUSTER = (
    "k8s:io.kubernetes.pod.namespace",
    "k8s:io.cilium.k8s.namespace.labels.team",
    "k8s:io.cilium.k8s.policy.cluster",
)
EVERYWHERE = {"namespaces": {}}
WEB = {"pods": {"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {"matchLabels": {"team": "a"}}}}


def decoded(annotations: dict[str, str] | None = None, **spec: Any) -> PolicyObject:
    body = {"tier": "Admin", "priority": 7, "subject": EVERYWHERE} | spec
    metadata = {"name": "p", "uid": "u", "generation": 3, "annotations": annotations}
    return decode_cluster_network_policy(msgspec.json.encode({"metadata": metadata, "spec": body}))


def rule(**spec: Any) -> Rule:
    row = decoded(**spec)
    assert not row.error
    return row.rules[0]


def test_the_envelope() -> None:
    row = decoded()
    assert (row.kind, row.namespace, row.name, row.generation, row.error, row.audit) == (
        "ClusterNetworkPolicy", "", "p", 3, "", False,
    )  # fmt: skip
    (only,) = row.rules
    assert (only.tier, only.priority) == (Tier.ADMIN, 7)
    assert (only.default_deny_ingress, only.default_deny_egress) == (False, False)
    assert rule(tier="Baseline").tier is Tier.BASELINE


@pytest.mark.parametrize(
    ("subject", "labels", "expected"),
    [
        (EVERYWHERE, (f"{NS}=shop",), True),
        (EVERYWHERE, ("reserved:health",), False),
        ({"namespaces": {"matchLabels": {"team": "a"}}}, (f"{NS}=shop", f"{TEAM}=a"), True),
        ({"namespaces": {"matchLabels": {"team": "a"}}}, (f"{NS}=shop", f"{TEAM}=b"), False),
        ({"namespaces": {"matchLabels": {"team": "a"}}}, (f"{NS}=shop", "k8s:team=a"), False),
        (WEB, (f"{NS}=shop", f"{TEAM}=a", "k8s:app=web"), True),
        (WEB, (f"{NS}=shop", f"{TEAM}=a", "k8s:app=db"), False),
        ({"pods": {"podSelector": {}}}, (f"{NS}=shop",), True),
    ],
)
def test_subjects(subject: dict[str, Any], labels: tuple[str, ...], expected: bool) -> None:
    assert selects(rule(subject=subject).subject, labels) is expected


def test_elements_keep_their_order_names_and_actions() -> None:
    actions = ["Accept", "Deny", "Pass"]
    found = rule(ingress=[{"name": a.lower(), "action": a, "from": [WEB, EVERYWHERE]} for a in actions]).ingress
    assert [(one.index, one.name, one.action) for one in found] == [
        (0, "accept", Action.ALLOW), (1, "deny", Action.DENY), (2, "pass", Action.PASS),
    ]  # fmt: skip
    assert {one.section for one in found} == {"ingress"}
    assert all(one.ports is None and not one.peers.wildcard for one in found)
    for selector in found[0].peers.selectors:
        pod = (f"{NS}=shop", f"{TEAM}=a", "k8s:app=web")
        assert selects(selector, (*pod, f"{CLUSTER}=default"))
        assert not selects(selector, (*pod, f"{CLUSTER}=elsewhere"))


@pytest.mark.parametrize(
    ("protocols", "expected"),
    [
        ([{"tcp": {"destinationPort": {"number": 80}}}], (PortRange(6, 80, 80),)),
        ([{"udp": {"destinationPort": {"range": {"start": 1, "end": 9}}}}], (PortRange(17, 1, 9),)),
        (
            [{"sctp": {"destinationPort": {"number": 7}}}, {"destinationNamedPort": "HTTP"}],
            (PortRange(132, 7, 7), PortRange(0, name="http")),
        ),
    ],
)
def test_protocols(protocols: list[dict[str, Any]], expected: tuple[PortRange, ...]) -> None:
    (found,) = rule(ingress=[{"action": "Accept", "from": [EVERYWHERE], "protocols": protocols}]).ingress
    assert found.ports == expected


@pytest.mark.parametrize(("networks", "everybody"), [(["10.0.0.0/8"], False), (["0.0.0.0/0", "::/0"], True)])
def test_networks(networks: list[str], everybody: bool) -> None:
    (found,) = rule(egress=[{"action": "Deny", "to": [{"networks": networks}]}]).egress
    assert [str(peer.cidr) for peer in found.peers.cidrs] == networks
    assert found.peers.wildcard is everybody
    half = decoded(egress=[{"action": "Deny", "to": [{"networks": ["::/0"]}]}])
    assert half.warnings[0].startswith("spec.egress[0].to: ::/0 means addresses outside of the cluster")


@pytest.mark.parametrize(
    ("peer", "path"),
    [
        ({"nodes": {"matchLabels": {"role": "edge"}}}, "spec.egress[0].to[1].nodes"),
        ({"domainNames": ["example.org"]}, "spec.egress[0].to[1].domainNames"),
        ({"invented": 1}, "spec.egress[0].to[1].invented"),
        ({}, "spec.egress[0].to[1]"),
    ],
)
def test_peers_that_nobody_can_tell_fail_closed(peer: dict[str, Any], path: str) -> None:
    (accept,) = rule(egress=[{"action": "Accept", "to": [EVERYWHERE, peer]}]).egress
    assert (accept.action, accept.unenforced) == (Action.ALLOW, (path,))
    assert len(accept.peers.selectors) == 1
    assert not accept.peers.wildcard
    for action in ("Deny", "Pass") if "domainNames" not in peer else ():
        (other,) = rule(egress=[{"action": action, "to": [EVERYWHERE, peer]}]).egress
        assert (other.action, other.peers.wildcard, other.ports, other.unenforced) == (Action.DENY, True, None, (path,))


@pytest.mark.parametrize(
    ("selector", "node_selectors", "labels", "expected"),
    [
        ({}, False, ("reserved:host",), True),
        ({}, False, ("reserved:kube-apiserver", "reserved:remote-node"), True),
        ({}, False, (f"{NS}=shop",), False),
        ({"matchLabels": {"role": "edge"}}, True, ("reserved:remote-node", "node:role=edge"), True),
        ({"matchLabels": {"role": "edge"}}, True, ("reserved:host", "node:role=core"), False),
        ({"matchLabels": {"role": "edge"}}, True, (f"{NS}=shop", "node:role=edge"), False),
    ],
)
def test_nodes(selector: dict[str, Any], node_selectors: bool, labels: tuple[str, ...], expected: bool) -> None:
    spec = {"tier": "Admin", "priority": 1, "subject": EVERYWHERE}
    spec |= {"egress": [{"action": "Pass", "to": [{"nodes": selector}]}]}
    raw = msgspec.json.encode({"metadata": {"name": "p"}, "spec": spec})
    row = decode_cluster_network_policy(raw, node_selectors=node_selectors)
    (found,) = row.rules[0].egress
    assert (found.action, found.unenforced, row.warnings) == (Action.PASS, (), ())
    assert any(selects(one, labels) for one in found.peers.selectors) is expected


def test_a_protocol_that_nobody_knows_fails_closed() -> None:
    odd = {"from": [EVERYWHERE], "protocols": [{"quic": {}}]}
    accept, deny = rule(ingress=[{"action": "Accept"} | odd, {"action": "Pass"} | odd]).ingress
    assert (accept.ports, accept.unenforced) == ((), ("spec.ingress[0].protocols[0].quic",))
    assert (deny.action, deny.ports) == (Action.DENY, None)


def element(**fields: Any) -> dict[str, Any]:
    return {"egress": [{"action": "Accept", "to": [EVERYWHERE]} | fields]}


def tcp(**port: Any) -> dict[str, Any]:
    return element(protocols=[{"tcp": {"destinationPort": port}}])


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"tier": "Normal"}, "spec.tier: 'Normal' is not one of Admin, Baseline"),
        ({"priority": 1001}, "spec.priority: 1001 is not between 0 and 1000"),
        ({"priority": -1}, "spec.priority: -1 is not between 0 and 1000"),
        ({"subject": {}}, "spec.subject: needs either namespaces or pods"),
        ({"subject": EVERYWHERE | WEB}, "spec.subject: needs either namespaces or pods"),
        ({"surprise": 1}, "spec: Object contains unknown field 'surprise'"),
        (element(action="Allow"), "spec.egress[0].action: 'Allow' is not one of Accept, Deny, Pass"),
        (element(to=[]), "spec.egress[0].to: has 0 entries; between 1 and 25 are allowed"),
        (element(protocols=[]), "spec.egress[0].protocols: has 0 entries; between 1 and 25 are allowed"),
        (element(to=[EVERYWHERE | WEB]), "spec.egress[0].to[0]: sets namespaces and pods: write one entry for each"),
        (element(to=[{"pods": {}}]), "spec.egress[0].to[0].pods: Object missing required field 'podSelector'"),
        (element(to=[{"networks": ["ten"]}]), "spec.egress[0].to[0].networks[0]: 'ten' is not a CIDR"),
        (element(action="Deny", to=[{"domainNames": ["a.b"]}]), "to[0].domainNames: is for rules with action Accept"),
        (
            element(to=[{"networks": ["::/0"]}], protocols=[{"destinationNamedPort": "http"}]),
            "spec.egress[0].protocols[0].destinationNamedPort: cannot be combined with networks",
        ),
        (element(protocols=[{"destinationNamedPort": "a--b"}]), "'a--b' is not a port name"),
        (tcp(), "spec.egress[0].protocols[0].tcp.destinationPort: needs either number or range"),
        (tcp(number=0), "spec.egress[0].protocols[0].tcp.destinationPort.number: is not between 1 and 65535"),
        (tcp(range={"start": 9, "end": 9}), "tcp.destinationPort.range: start 9 is not below end 9"),
        (element(protocols=[{"tcp": {}}]), "spec.egress[0].protocols[0].tcp.destinationPort: is missing"),
        ({"egress": element()["egress"] * 26}, "spec.egress: has 26 entries; between 0 and 25 are allowed"),
    ],
)
def test_what_is_wrong_is_named(spec: dict[str, Any], error: str) -> None:
    row = decoded(**spec)
    assert error in row.error
    assert row.rules == ()


@pytest.mark.parametrize(
    ("value", "audit", "warned"), [("enabled", True, False), ("disabled", False, False), ("True", False, True)]
)
def test_audit_mode_by_annotation(value: str, audit: bool, warned: bool) -> None:
    annotations = {"policy.cilium.io/audit-mode": value}
    knp = msgspec.json.encode({"metadata": {"name": "k", "namespace": "n", "annotations": annotations}, "spec": {}})
    for row in (decoded(annotations), decode_knp(knp)):
        assert not row.error
        assert (row.audit, bool(row.warnings)) == (audit, warned)
