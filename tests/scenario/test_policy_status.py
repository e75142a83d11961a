"""What policies say of themselves: where they are enforced, what stays enforced of an invalid update, also after a
restart, and what does not fit into the kernel's maps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import Cluster, addresses, client, curl, server

pytestmark = pytest.mark.scenario
NS = "said"
SERVERS = {"matchLabels": {"group": "server"}}
FRIENDS = [{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}]
INVALID = [{**FRIENDS[0], "icmps": [{"fields": [{"type": 8}]}], "toPorts": [{"ports": [{"port": "8080"}]}]}]
"""The API server's schema has nothing against it."""


@pytest.fixture(scope="module")
def pods(packets: Cluster) -> Iterator[dict[str, Any]]:
    with packets.namespace(NS):
        for manifest in (
            client("friend", "node1", role="friend"),
            client("stranger", "node1"),
            server("near", "node1", group="server"),
            server("far", "node2", group="server"),
        ):
            manifest["metadata"]["namespace"] = NS
            packets.apply(manifest)
        packets.wait_ready(NS)
        yield {item["metadata"]["name"]: item for item in packets.get("-n", NS, "pods")["items"]}


def cnp(name: str, ingress: Any, selector: Any = SERVERS) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": name, "namespace": NS},
        "spec": {"endpointSelector": selector, "ingress": ingress},
    }  # fmt: skip


@pytest.fixture
def friends(packets: Cluster, pods: dict[str, Any]) -> Iterator[Cluster]:
    packets.apply(cnp("friends", FRIENDS))
    packets.eventually(lambda: columns(packets, "friends") == ["True", "2/2"], "both nodes enforce it")
    yield packets
    packets.kubectl("-n", NS, "delete", "ciliumnetworkpolicies", "--all")


def columns(cluster: Cluster, name: str) -> list[str]:
    """VALID and NODES, as users see them."""
    line: str = cluster.kubectl("-n", NS, "get", "ciliumnetworkpolicies", name, "--no-headers")
    return line.split()[-2:]


def status(cluster: Cluster, name: str) -> Any:
    return cluster.get("-n", NS, "ciliumnetworkpolicies", name)["status"]


def looked(cluster: Cluster, node: str) -> bool:
    """Whether the agent has compared what the objects say of its node with what it would say."""
    document = json.loads(cluster.dbg(node, "status", "-o", "json"))
    return any(each["name"] == "policy-node-status" and each["pruned"] for each in document["reconcilers"])


def refused(cluster: Cluster, pods: dict[str, Any], asker: str, target: str) -> bool:
    answers = [cluster.exec(NS, asker, *curl(ip), check=False) for ip in addresses(pods[target]).values()]
    assert len({target in answer for answer in answers}) == 1, answers
    return all(target not in answer for answer in answers)


def test_only_nodes_with_endpoints_speak(friends: Cluster, pods: dict[str, Any]) -> None:
    assert set(status(friends, "friends")["nodes"]) == {"node1", "node2"}
    friends.kubectl("-n", NS, "label", "pod", "far", "group=none", "--overwrite")
    try:
        friends.eventually(lambda: columns(friends, "friends") == ["True", "1/1"], "node2 has nothing to do with it")
        assert set(status(friends, "friends")["nodes"]) == {"node1"}
    finally:
        friends.kubectl("-n", NS, "label", "pod", "far", "group=server", "--overwrite")


def test_an_invalid_update_keeps_the_last_valid_one_also_after_a_restart(
    friends: Cluster, pods: dict[str, Any]
) -> None:
    generation = friends.get("-n", NS, "ciliumnetworkpolicies", "friends")["metadata"]["generation"]
    friends.apply(cnp("friends", INVALID))
    kept = f"generation {generation}, the last valid one, stays enforced"
    friends.eventually(lambda: kept in status(friends, "friends")["conditions"][0]["message"], "the status says so")
    friends.eventually(
        lambda: all(kept in node["error"] for node in status(friends, "friends")["nodes"].values()), "the nodes say so"
    )
    assert columns(friends, "friends") == ["False", "0/2"]
    told = status(friends, "friends")
    friends.kill_agent("node1")
    friends.eventually(lambda: kept in friends.dbg("node1", "policy", "get"), "the next agent enforces it, too")
    assert not refused(friends, pods, "friend", "near")
    assert refused(friends, pods, "stranger", "near")
    assert refused(friends, pods, "stranger", "far")
    friends.eventually(lambda: looked(friends, "node1"), "it has looked at the status")
    assert status(friends, "friends") == told  # nothing new was said
    friends.apply(cnp("friends", FRIENDS))
    friends.eventually(lambda: columns(friends, "friends") == ["True", "2/2"], "valid again")


def test_a_full_map_is_told_and_heals(friends: Cluster, pods: dict[str, Any]) -> None:
    many = [{"fromCIDR": [f"203.{i // 250}.{i % 250}.0/24" for i in range(1500)]}]
    friends.apply(cnp("many", many, {"matchLabels": {"app": "near"}}))
    said = friends.eventually(lambda: status(friends, "many")["nodes"]["node1"]["error"], "the object says so")
    assert "the kernel did not take all of it, so old verdicts stay and nothing opens" in said
    friends.eventually(lambda: columns(friends, "many") == ["True", "0/1"], "no node has it")
    assert "NOT WHOLLY ENFORCED" in friends.dbg("node1", "status", check=False)
    events = friends.kubectl("-n", NS, "get", "events", "--field-selector", "involvedObject.name=many")
    assert "PolicyIncomplete" in events
    assert not refused(friends, pods, "friend", "near")  # the verdicts from before
    assert refused(friends, pods, "stranger", "near")
    friends.kubectl("-n", NS, "delete", "ciliumnetworkpolicies", "many")
    friends.eventually(lambda: columns(friends, "friends") == ["True", "2/2"], "all is well again")
    friends.eventually(lambda: "NOT WHOLLY" not in friends.dbg("node1", "status", check=False), "and the node says so")
    assert refused(friends, pods, "stranger", "near")
