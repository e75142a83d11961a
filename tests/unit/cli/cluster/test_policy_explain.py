"""`cilium policy explain`: who is meant, what is said, with which exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from unit.cli.cluster.policy_world import FROM_WEB, NS, World, cnp, pod, tcp
from unit.sources.kubernetes.fake_api import FakeAPI

from cilium.sources.kubernetes.source import Resource

CNP = Resource.CILIUM_NETWORK_POLICIES


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    async with FakeAPI() as api:
        made = World(api, tmp_path)
        await made.fill()
        yield made


async def test_a_denial_names_who_closed_it_and_the_rule_that_was_meant(world: World) -> None:
    await world.put(CNP, cnp("db", "db", **FROM_WEB))
    answer = await world.policy("explain", "--from", f"{NS}/visitor", "--to", f"{NS}/db-1", "--port", "5432/TCP")
    assert answer.output.splitlines() == [
        "shop/visitor → shop/db-1, TCP 5432: denied",
        "├─ egress of shop/visitor: allowed",
        "│  └─ no rule denies it, and nothing is denied by default",
        "└─ ingress of shop/db-1: denied",
        "   ├─ denied by default (CiliumNetworkPolicy shop/db): no rule allows it",
        "   ├─ default deny by CiliumNetworkPolicy shop/db",
        "   └─ nearly matches",
        "      └─ CiliumNetworkPolicy shop/db spec.ingress[0]: allows {app=web,io.kubernetes.pod.namespace=shop}"
        " on TCP sql",
        "         └─ peer: app=web: shop/visitor has 'visitor'",
    ]
    assert answer.exit_code == 3


async def test_an_allowed_connection_as_json(world: World) -> None:
    await world.put(CNP, cnp("db", "db", **FROM_WEB))
    answer = await world.policy(
        "explain", "--from", f"{NS}/web-1", "--to", f"{NS}/db-1", "--port", "sql/TCP", "-o", "json"
    )
    assert answer.exit_code == 0, answer.output
    (document,) = json.loads(answer.output)
    assert (document["verdict"], document["protocol"], document["port"]) == ("allowed", 6, 5432)
    assert document["egress"]["enforced"] is False
    assert document["ingress"]["decided_by"] == [
        {
            "kind": "CiliumNetworkPolicy", "namespace": NS, "name": "db", "rule": "spec.ingress[0]", "action": "allow",
            "tier": "NORMAL", "audit": False,
        }
    ]  # fmt: skip
    assert document["source"]["labels"] == [
        "k8s:app=web",
        "k8s:io.cilium.k8s.namespace.labels.team=a",
        "k8s:io.cilium.k8s.policy.cluster=default",
        "k8s:io.cilium.k8s.policy.serviceaccount=default",
        "k8s:io.kubernetes.pod.namespace=shop",
    ]


WEB_PORT = {"ingress": [{"fromEntities": ["all"], "toPorts": tcp("80")}]}
NO_SUCH_NAME = {"ingress": [{"fromEntities": ["all"], "toPorts": tcp("nope")}]}
FROM_BANK = {"matchLabels": {"app": "visitor", "k8s:io.kubernetes.pod.namespace": "bank"}}


@pytest.mark.parametrize(
    ("spec", "port", "miss"),
    [
        (WEB_PORT, "81/TCP", "port: it is about TCP 80, not TCP 81"),
        (WEB_PORT, "80/UDP", "protocol: it is about TCP 80, not UDP"),
        (
            NO_SUCH_NAME,
            "80/TCP",
            "port: it is about TCP nope (a name that the destination does not have), not TCP 80",
        ),
        (
            {"ingress": [{}], "egress": [{"toEntities": ["all"]}]},
            "80/TCP",
            "direction: it is about egress, this is ingress",
        ),
        (
            {"ingress": [{"fromEndpoints": [FROM_BANK]}]},
            "80/TCP",
            "peer: namespace bank: shop/visitor is in shop",
        ),
        ({"ingress": [{"fromCIDR": ["10.0.0.0/8"]}]}, "80/TCP", "it is known by its labels, CIDRs are about the world"),
        ({"ingress": [{"fromGroups": [{}]}]}, "80/TCP", "not enforced by this version: spec.ingress[0].fromGroups"),
    ],
)  # fmt: skip
async def test_near_misses_say_what_is_wrong(world: World, spec: dict[str, Any], port: str, miss: str) -> None:
    await world.put(CNP, cnp("db", "db", **spec))
    answer = await world.policy("explain", "--from", f"{NS}/visitor", "--to", f"{NS}/db-1", "--port", port)
    assert answer.exit_code == 3, answer.output
    assert miss in answer.output


async def test_a_policy_that_misses_its_subject_by_one_label_or_by_its_namespace(world: World) -> None:
    await world.put(CNP, cnp("close", "db", ingress=[{}]))
    await world.put(CNP, cnp("typo", "bd", ingress=[{"fromEntities": ["all"]}]))
    await world.put(CNP, cnp("elsewhere", "db", namespace="bank", ingress=[{"fromEntities": ["all"]}]))
    answer = await world.policy("explain", "--from", f"{NS}/visitor", "--to", f"{NS}/db-1", "--port", "1/TCP")
    assert "subject: app=bd: shop/db-1 has 'db'" in answer.output
    assert "subject: namespace bank: shop/db-1 is in shop" in answer.output


@pytest.mark.parametrize(
    ("source", "destination", "heads"),
    [
        (f"{NS}/visitor", f"svc/{NS}/web", ["shop/visitor → shop/web-1 (service shop/web:80), TCP 8080: allowed"]),
        (f"{NS}/visitor", "web.shop.svc", ["shop/visitor → shop/web-1 (service shop/web:80), TCP 8080: allowed"]),
        (f"{NS}/visitor", "10.96.0.1", ["shop/visitor → shop/web-1 (service shop/web:80), TCP 8080: allowed"]),
        ("10.0.0.3", "10.0.1.2", ["shop/visitor → shop/db-1, TCP 80: allowed"]),
        ("172.30.0.2", f"{NS}/web-1", ["node n2 → shop/web-1, TCP 80: allowed"]),
        (f"{NS}/visitor", "8.8.8.8", ["shop/visitor → 8.8.8.8, TCP 80: allowed"]),
        (f"{NS}/visitor", "8.8.0.0/16", ["shop/visitor → 8.8.0.0/16, TCP 80: allowed"]),
        ("world-ipv4", f"{NS}/db-1", ["world-ipv4 → shop/db-1, TCP 80: allowed"]),
        (
            f"{NS}/visitor",
            "example.com",
            [f"shop/visitor → example.com (IPv{version}), TCP 80: allowed" for version in (4, 6)],
        ),
    ],
)
async def test_who_is_meant(world: World, source: str, destination: str, heads: list[str]) -> None:
    answer = await world.policy("explain", "--from", source, "--to", destination, "--port", "80/TCP")
    assert [line for line in answer.output.splitlines() if "→" in line] == heads, answer.output


async def test_the_node_is_let_in_and_another_node_is_not(world: World) -> None:
    await world.put(CNP, cnp("close", "web", ingress=[{}]))
    for node, status in (("172.30.0.1", 0), ("172.30.0.2", 3)):
        answer = await world.policy("explain", "--from", node, "--to", f"{NS}/web-1", "--port", "8080/TCP")
        assert answer.exit_code == status, answer.output


async def test_cidrs_that_mean_nodes_and_nodes_by_their_labels(world: World) -> None:
    await world.put(Resource.NODES, {"metadata": {"name": "n2", "labels": {"pool": "a"}}})
    asked = ("explain", "--from", "172.30.0.2", "--to", f"{NS}/web-1", "--port", "80/TCP")
    for rule, values in (
        ({"fromCIDR": ["172.30.0.0/24"]}, {"policyCIDRMatchMode": ["nodes"]}),
        ({"fromNodes": [{"matchLabels": {"pool": "a"}}]}, {"nodeSelectorLabels": True}),
    ):
        await world.put(CNP, cnp("p", "web", ingress=[rule]))
        await world.fill()
        assert (await world.policy(*asked)).exit_code == 3
        await world.fill(**values)
        allowed = await world.policy(*asked)
        assert allowed.exit_code == 0, allowed.output


async def test_policies_on_nodes(world: World) -> None:
    web = {"matchLabels": {"app": "web", "k8s:io.kubernetes.pod.namespace": NS}}
    spec = {
        "nodeSelector": {"matchLabels": {"pool": "a"}},
        "ingress": [{"fromEndpoints": [web], "toPorts": tcp("22")}],
    }
    guard = {"metadata": {"name": "guard", "uid": "g"}, "spec": spec}
    await world.put(Resource.CILIUM_CLUSTERWIDE_NETWORK_POLICIES, guard)
    asked = ("explain", "--to", "172.30.0.2", "--port", "22/TCP", "--from")
    assert (await world.policy(*asked, f"{NS}/visitor")).exit_code == 0, "the host firewall is off"
    await world.fill(hostFirewall={"enabled": True})
    other = await world.policy(*asked, f"{NS}/visitor")
    assert other.exit_code == 0, other.output
    await world.put(Resource.NODES, {"metadata": {"name": "n2", "labels": {"pool": "a"}}})
    denied = await world.policy(*asked, f"{NS}/visitor")
    assert denied.exit_code == 3, denied.output
    assert "default deny by CiliumClusterwideNetworkPolicy guard" in denied.output
    assert (await world.policy(*asked, f"{NS}/web-1")).exit_code == 0
    await world.fill(hostFirewall={"enabled": True, "auditMode": True})
    assert "ingress of node n2: audit" in (await world.policy(*asked, f"{NS}/visitor")).output


async def test_all_traffic_at_once_and_a_pod_that_need_not_exist(world: World) -> None:
    await world.put(CNP, cnp("db", "db", **FROM_WEB))
    words = ("--from-labels", "app=web", "-n", NS, "--to", f"{NS}/db-1")
    answer = await world.policy("explain", *words)
    assert answer.output.splitlines() == [
        "shop/(app=web) → shop/db-1",
        "├─ denied: TCP 0-5431, TCP 5433-65535, UDP, SCTP, ICMP, ICMPv6, other protocols",
        "└─ allowed: TCP 5432",
    ]
    assert (await world.policy("explain", *words, "--port", "5432/TCP")).exit_code == 0


async def test_audit_mode_and_switched_off(world: World) -> None:
    await world.put(CNP, cnp("db", "db", **FROM_WEB))
    question = ("explain", "--from", f"{NS}/visitor", "--to", f"{NS}/db-1", "--port", "5432/TCP")
    for values, said in (({"policyAuditMode": True}, "audit"), ({"policyEnforcementMode": "never"}, "allowed")):
        await world.fill(**values)
        answer = await world.policy(*question)
        assert answer.exit_code == 0
        assert answer.output.splitlines()[0].endswith(f": {said}")
    await world.fill(policyEnforcementMode="always")
    answer = await world.policy("explain", "--from", f"{NS}/web-1", "--to", f"{NS}/db-1", "--port", "5432/TCP")
    assert "denied by default (enforcement mode always)" in answer.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", f"{NS}/visitr", "--to", "world", "--port", "1/TCP"], "did you mean shop/visitor"),
        (["--from", f"{NS}/visitor", "--to", "no one", "--port", "1/TCP"], "'no one' is no NAMESPACE/POD"),
        (["--from", f"{NS}/visitor", "--to", f"svc/{NS}/web", "--port", "81/TCP"], "has no port 81/TCP; it has 80/TCP"),
        (["--from", f"{NS}/visitor", "--to", "world", "--port", "80"], "'80' is not PORT/PROTOCOL"),
        (["--from", f"{NS}/visitor", "--to", "world", "--port", "256/ICMP"], "256 is too large for ICMP"),
        (["--from", f"{NS}/visitor", "--to", f"{NS}/db-1", "--port", "x/TCP"], "shop/db-1 has no port named x/TCP"),
        (["--from-labels", "a=b", "-n", "none", "--to", "world"], "namespace 'none' does not exist"),
        (["--to", "world"], "give one of --from and --from-labels"),
        (["--from", f"{NS}/visitor", "--to", "world", "--live"], "--live needs --port"),
    ],
)
async def test_mistakes_are_named(world: World, words: list[str], message: str) -> None:
    answer = await world.policy("explain", *words)
    assert answer.exit_code == 2
    assert message in answer.output.replace("\n", " ")


async def test_an_invalid_policy_is_a_warning(world: World) -> None:
    await world.put(CNP, cnp("bad", "db", ingress=[{"fromCIDR": ["nonsense"]}]))
    answer = await world.policy("explain", "--from", f"{NS}/visitor", "--to", f"{NS}/db-1", "--port", "1/TCP")
    assert "warning: CiliumNetworkPolicy/shop/bad is not valid (spec.ingress[0].fromCIDR[0]" in answer.stderr


async def test_a_workload_stands_for_its_pods_that_differ(world: World) -> None:
    for name, app in (("a-1", "a"), ("a-2", "a"), ("a-3", "canary")):
        made = pod(name, app, "n1")
        made["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": "a", "controller": True, "uid": "u"}]
        await world.put(Resource.PODS, made)
    answer = await world.policy("explain", "--from", f"{NS}/a", "--to", f"{NS}/db-1", "--port", "1/TCP")
    heads = [line.split()[0] for line in answer.output.splitlines() if "→" in line]
    assert heads == ["shop/a-1", "shop/a-3"]
