"""Pods come and go: all become ready, nothing of them stays, and who gets a used address gets nothing else with it.

`CILIUM_SOAK=N` makes N rounds instead of one.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from scenario.census import census, differences, usage
from scenario.cluster import Cluster, addresses, client, server

pytestmark = pytest.mark.scenario
NS = "churn"
NODES = ("node1", "node2", "node3")
ROUNDS = int(os.environ.get("CILIUM_SOAK", "1"))
DEPLOYMENTS, REPLICAS = 3, 40 if "CILIUM_SOAK" in os.environ else 10
GROWTH = 48 << 20  # bytes that a process may keep after hundreds of pods: caches, histories, the allocator


def deployment(number: int, version: str) -> dict[str, Any]:
    labels = {"app": f"d{number}"}
    container = {"name": "main", "image": "debian:12", "command": ["sleep", "infinity"]}
    template = {
        "metadata": {"labels": {**labels, "version": version}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": f"d{number}", "namespace": NS},
        "spec": {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template},
    }  # fmt: skip


def policy(number: int) -> dict[str, Any]:
    peer = {"matchLabels": {"app": f"d{(number + 1) % DEPLOYMENTS}"}}
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": f"p{number}", "namespace": NS},
        "spec": {"endpointSelector": {"matchLabels": {"app": f"d{number}"}}, "ingress": [{"fromEndpoints": [peer]}]},
    }  # fmt: skip


def rolled_out(cluster: Cluster) -> bool:
    items = cluster.get("-n", NS, "deployments")["items"]
    wanted = {"readyReplicas": REPLICAS, "updatedReplicas": REPLICAS, "replicas": REPLICAS}
    return all(
        item["status"].get("observedGeneration") == item["metadata"]["generation"]
        and all(item["status"].get(field) == count for field, count in wanted.items())
        for item in items
    )


def test_nothing_stays_of_pods_that_came_and_went(cluster: Cluster) -> None:
    before, taken = census(cluster, NODES), usage(cluster, NODES)
    with cluster.namespace(NS):
        cluster.apply(*map(policy, range(DEPLOYMENTS)))
        for number in range(ROUNDS):
            for version in (f"{number}a", f"{number}b"):
                cluster.apply(*(deployment(number, version) for number in range(DEPLOYMENTS)))
                cluster.eventually(lambda: rolled_out(cluster), "every pod is ready", 120)
            cluster.kubectl("-n", NS, "scale", "deployment", "--all", "--replicas=0")
            cluster.eventually(lambda: not cluster.get("-n", NS, "pods")["items"], "every pod is gone", 60)
    left: dict[str, tuple[int, int]] = {}

    def as_before() -> bool:
        nonlocal left
        left = differences(before, census(cluster, NODES))
        return not left

    try:
        cluster.eventually(as_before, "what there was before is what there is now", 30)
    except AssertionError as error:
        raise AssertionError(f"{error}: {left}") from None
    for name, now in usage(cluster, NODES).items():
        assert now.rss < taken[name].rss + GROWTH * max(1, ROUNDS / 2), f"{name}: {taken[name]} became {now}"
        if name.startswith("agent"):
            assert now.descriptors <= taken[name].descriptors + 4, f"{name}: {taken[name]} became {now}"


ASK = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    sock.bind(("", 40000))
    sock.settimeout(0.5)
    sock.connect((address, port))
    sock.send(b"hello")
    try:
        print("answered" if sock.recv(1000) else "")
    except OSError as error:
        print(error)
"""


@pytest.mark.soak  # an address comes again when all others had their turn
def test_a_reused_address_inherits_no_connection(tunnel: Cluster) -> None:
    """The very same five-tuple, allowed to the old pod and not to the new one."""
    with tunnel.namespace(NS):
        manifests = [client("old", "node1", role="friend"), server("server", "node2")]
        for manifest in manifests:
            manifest["metadata"]["namespace"] = NS
        rule = {"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}
        guard = {**policy(0), "spec": {"endpointSelector": {"matchLabels": {"app": "server"}}, "ingress": [rule]}}
        tunnel.apply(guard, *manifests)
        tunnel.wait_ready(NS)
        there = addresses(tunnel.get("-n", NS, "pod", "server"))
        mine = addresses(tunnel.get("-n", NS, "pod", "old"))

        def ask(pod: str, version: int) -> str:
            return tunnel.exec(NS, pod, sys.executable, "-I", "-c", ASK, there[version], 5353).strip()

        for version in (4, 6):
            tunnel.eventually(lambda version=version: ask("old", version) == "answered", "the friend is answered")
        tunnel.kubectl("-n", NS, "delete", "pod", "old", "--force")
        heir = reuse(tunnel, mine)
        for version in (4, 6):
            if addresses(tunnel.get("-n", NS, "pod", heir))[version] == mine[version]:
                assert ask(heir, version) == "timed out"


def reuse(cluster: Cluster, wanted: dict[int, str]) -> str:
    """A stranger's pod with one of these addresses; those that got others are kept until it is found."""
    for batch in range(12):
        names = [f"new{batch}-{number}" for number in range(24)]
        manifests = [client(name, "node1", role="stranger") for name in names]
        for manifest in manifests:
            manifest["metadata"]["namespace"] = NS
        cluster.apply(*manifests)
        cluster.wait_ready(NS)
        for pod in cluster.get("-n", NS, "pods")["items"]:
            if pod["metadata"]["name"].startswith("new") and set(addresses(pod).values()) & set(wanted.values()):
                return str(pod["metadata"]["name"])
        cluster.kubectl("-n", NS, "delete", "pods", *names, "--force")
    raise AssertionError(f"nobody got {wanted} again")
