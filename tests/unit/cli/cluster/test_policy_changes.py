"""`cilium policy diff` and `suggest`: what they make of manifests and of flows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.cli.cluster.policy_world import ADDRESSES, FROM_WEB, NS, World, cnp
from unit.sources.kubernetes.fake_api import FakeAPI

from cilium.cli.cluster.policy.suggesting import manifests, observations, workloads
from cilium.cli.cluster.policy.talks import talks
from cilium.cli.cluster.policy.view import View, connected, look
from cilium.features.policy.suggest import suggest
from cilium.sources.kubernetes.source import Resource

CNP = Resource.CILIUM_NETWORK_POLICIES


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    async with FakeAPI() as api:
        made = World(api, tmp_path)
        await made.fill()
        yield made


async def view(world: World) -> View:
    async with connected(str(world.kubeconfig)) as client:
        return await look(client, "kube-system")


async def test_a_new_policy_before_it_is_applied(world: World) -> None:
    manifest = yaml.safe_dump(cnp("db", "db", **FROM_WEB))
    answer = await world.policy("diff", "-f", "-", "--since", "0", stdin=manifest)
    assert answer.output.splitlines() == [
        "What would change between all that policies tell apart",
        "└─ allowed → denied: denied by default (CiliumNetworkPolicy shop/db): no rule allows it",
        "   ├─ shop/db-1, shop/visitor, remote-node, kube-apiserver, health, world elsewhere (IPv4), 1 more"
        " → shop/db-1: all traffic",
        "   └─ shop/web-1 and 1 more → shop/db-1: all traffic but TCP 5432",
    ]
    assert answer.exit_code == 3
    await world.put(CNP, cnp("db", "db", **FROM_WEB))
    same = await world.policy("diff", "-f", "-", "--since", "0", stdin=manifest)
    assert (same.exit_code, same.output.splitlines()[1]) == (0, "└─ nothing")


async def test_a_deletion_and_an_edit_as_json(world: World) -> None:
    await world.put(CNP, cnp("db", "db", **FROM_WEB))
    answer = await world.policy("diff", "--delete", "cnp/shop/db", "--since", "0", "-o", "json")
    pairs = json.loads(answer.output)["pairs"]
    assert {pair["source"] for pair in pairs if pair["traffic"][0] == "TCP"} >= {"shop/visitor", "shop/db-1"}
    assert all((pair["before"], pair["after"]) == ("denied", "allowed") for pair in pairs)
    assert all(pair["why"].startswith("no longer denied by default") for pair in pairs)
    wider = cnp("db", "db", ingress=[{"fromEndpoints": [{"matchLabels": {"app": app}} for app in ("web", "visitor")],
                                      "toPorts": FROM_WEB["ingress"][0]["toPorts"]}])  # fmt: skip
    answer = await world.policy("diff", "-f", "-", "--since", "0", "-o", "json", stdin=json.dumps(wider))
    assert json.loads(answer.output)["pairs"] == [
        {
            "source": "shop/visitor", "destination": "shop/db-1", "traffic": ["TCP 5432"], "before": "denied",
            "after": "allowed", "why": "allowed by CiliumNetworkPolicy shop/db spec.ingress[0]",
        }
    ]  # fmt: skip


async def test_cidrs_that_rules_name_are_looked_at(world: World) -> None:
    rule = {"toCIDRSet": [{"cidr": "10.9.0.0/16", "except": ["10.9.9.0/24"]}]}
    answer = await world.policy("diff", "-f", "-", "--since", "0", "-o", "json",
                                stdin=json.dumps(cnp("out", "visitor", egress=[rule])))  # fmt: skip
    closed = {pair["destination"] for pair in json.loads(answer.output)["pairs"]}
    assert "10.9.9.0/24" in closed
    assert "10.9.0.0/16" not in closed


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        (["-f", "-"], "kind: Pod", "kind: 'Pod' is no policy: one of NetworkPolicy,"),
        (["-f", "-"], "{", "not YAML"),
        (["-f", "-"], "kind: NetworkPolicy", "NetworkPolicy: metadata.name: is missing"),
        (["-f", "-"], json.dumps(cnp("x", "y", ingress=[{"fromCIDR": ["no"]}])),
         "CiliumNetworkPolicy shop/x: spec.ingress[0].fromCIDR[0]: 'no' is not a CIDR"),
        (["--delete", "cnp/shop/none"], "", "there is no policy cnp/shop/none; policies: there are none"),
        ([], "", "give --file or --delete"),
    ],
)  # fmt: skip
async def test_mistakes_are_named(world: World, words: list[str], stdin: str, message: str) -> None:
    answer = await world.policy("diff", *words, "--since", "0", stdin=stdin)
    assert answer.exit_code in (1, 2)
    assert message in answer.output.replace("\n", " ")


def flow(source: str, destination: str, port: int, **fields: Any) -> dict[str, Any]:
    """As a trace of its delivery."""
    ends = {"source": _end(source), "destination": _end(destination)}
    addresses = {side: ADDRESSES.get(name, name) for side, name in (("source", source), ("destination", destination))}
    return {
        "time": "2026-01-01T00:00:00Z", "verdict": "FORWARDED", "trace_observation_point": "TO_ENDPOINT",
        "Type": "L3_L4", "is_reply": False, "l4": {"TCP": {"source_port": 40000, "destination_port": port}},
        "IP": addresses, **ends, **fields,
    }  # fmt: skip


def _end(name: str) -> dict[str, Any]:
    if name not in ADDRESSES:
        return {"identity": 9, "labels": ["reserved:world-ipv4", "cidr:1.0.0.0/8"]}
    app = name.partition("-")[0]
    labels = [
        f"k8s:app={app}",
        "k8s:io.cilium.k8s.namespace.labels.team=a",
        "k8s:io.cilium.k8s.policy.cluster=default",
        "k8s:io.cilium.k8s.policy.serviceaccount=default",
        f"k8s:io.kubernetes.pod.namespace={NS}",
    ]
    return {"identity": 1000, "namespace": NS, "pod_name": name, "labels": labels}


DROPPED = {"verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED", "trace_observation_point": ""}
FLOWS = [
    flow("web-1", "db-1", 5432),
    flow("web-2", "db-1", 5432),
    flow("db-1", "web-1", 40000, is_reply=True),
    flow("visitor", "10.96.0.1", 80, trace_observation_point="FROM_ENDPOINT"),
    flow("visitor", "web-1", 8080),
    flow("visitor", "1.2.3.4", 443, trace_observation_point="TO_NETWORK"),
    flow("visitor", "db-1", 5432, is_reply=None, **DROPPED),
    flow("visitor", "web-1", 8080, Type="SOCK"),
]


async def test_flows_become_talks_of_workloads(world: World) -> None:
    found = talks(await view(world), FLOWS)
    assert [(talk.text, talk.flows, talk.delivered, talk.denied) for talk in found] == [
        ("shop/visitor → 1.2.3.4 TCP 443", 1, True, False),
        ("shop/visitor → shop/db-1 TCP 5432", 1, False, True),
        ("shop/visitor → shop/web-1 TCP 8080", 1, True, False),
        ("shop/web-1 → shop/db-1 TCP 5432", 2, True, False),
    ]


async def test_talks_become_manifests(world: World) -> None:
    seen = await view(world)
    suggestions, silent = suggest(NS, workloads(seen), observations(seen, talks(seen, FLOWS)))
    text = manifests(suggestions, silent, header="Seen.")
    assert "# denied, and left out: ingress from shop/visitor, TCP 5432" in text
    documents = [one for one in yaml.safe_load_all(text) if one]
    assert [one["metadata"]["name"] for one in documents] == ["db-1", "visitor", "web-1"]
    assert documents[1]["spec"]["endpointSelector"] == {"matchLabels": {"app": "visitor"}}
    assert documents[1]["spec"]["egress"][1]["toCIDR"] == ["1.2.3.4/32"]
