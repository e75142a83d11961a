"""policyDenyResponse: icmp: whoever is denied knows at once, by either direction's policy, near and far; and rules have
counted what they let through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import Cluster, addresses, client, curl, server

pytestmark = pytest.mark.scenario
NS = "refused"
REFUSED = "exit code 7"
"""curl: failed to connect. A time-out is 28."""


@pytest.fixture(scope="module")
def pods(packets: Cluster) -> Iterator[dict[str, Any]]:
    with packets.namespace(NS):
        for manifest in (
            client("friend", "node1", role="friend"),
            client("stranger", "node1"),
            client("captive", "node1"),
            server("near", "node1", group="server"),
            server("far", "node2", group="server"),
        ):
            manifest["metadata"]["namespace"] = NS
            packets.apply(manifest)
        shut = {"endpointSelector": {"matchLabels": {"group": "server"}},
                "ingress": [{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}]}  # fmt: skip
        none = {"endpointSelector": {"matchLabels": {"app": "captive"}}, "egress": [{}]}
        for name, spec in (("shut", shut), ("none", none)):
            packets.apply(
                {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
                 "metadata": {"name": name, "namespace": NS}, "spec": spec}
            )  # fmt: skip
        packets.wait_ready(NS)
        yield {item["metadata"]["name"]: item for item in packets.get("-n", NS, "pods")["items"]}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["near", "far"])
@pytest.mark.parametrize("asker", ["stranger", "captive"], ids=["ingress", "egress"])
def test_a_denial_is_a_refusal(packets: Cluster, pods: dict[str, Any], asker: str, target: str, version: int) -> None:
    ask = curl(addresses(pods[target])[version])
    packets.eventually(
        lambda: REFUSED in packets.exec(NS, asker, *ask, check=False), f"{asker} is refused by {target} at once"
    )
    assert target in packets.exec(NS, "friend", *ask)


def test_rules_have_counted(packets: Cluster, pods: dict[str, Any]) -> None:
    before = counted(packets)
    for version in (4, 6):
        packets.exec(NS, "friend", *curl(addresses(pods["near"])[version]))
    # A request is at least SYN, SYN+ACK, ACK, request, answer and two FINs; all but the last segment are told by then.
    assert counted(packets) >= before + 2 * 6
    packets.kill_agent("node1")
    packets.eventually(lambda: counted(packets) >= before + 2 * 6, "counts outlive the agent")


def counted(cluster: Cluster) -> int:
    documents = json.loads(cluster.dbg("node1", "policy", "get", "-o", "json"))
    found = [document["rules"] for document in documents if (document["namespace"], document["name"]) == (NS, "shut")]
    return sum(int(rule["packets"]) for rules in found for rule in rules)
