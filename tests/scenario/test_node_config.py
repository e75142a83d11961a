"""A CiliumNodeConfig makes one node different: audit mode lets pass there what the other node refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scenario.cluster import Cluster, addresses, client, curl, server

pytestmark = pytest.mark.scenario
NS = "different"
CONFIG = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNodeConfig",
    "metadata": {"name": "audit", "namespace": "kube-system"},
    "spec": {
        "nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "node2"}},
        "defaults": {"policy-audit-mode": "true", "policy-audit-mood": "true", "mtu": "large"},
    },
}


@pytest.fixture
def different(packets: Cluster) -> Iterator[Cluster]:
    packets.apply(CONFIG)
    try:
        packets.kill_agent("node2")
        yield packets
    finally:
        packets.kubectl("-n", "kube-system", "delete", "ciliumnodeconfig", "audit")
        packets.kill_agent("node2")
        packets.eventually(lambda: audits(packets, "node2") == "false", "node2 is as it was")


def audits(cluster: Cluster, node: str) -> str:
    rows = (line.split() for line in cluster.dbg(node, "config").splitlines())
    return next(row[1] for row in rows if row[0] == "policy-audit-mode")


def test_one_node_audits(different: Cluster) -> None:
    with different.namespace(NS):
        for manifest in (client("client", "node1"), server("near", "node1"), server("far", "node2")):
            manifest["metadata"]["namespace"] = NS
            different.apply(manifest)
        shut = {"endpointSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["near", "far"]}]}}
        different.apply(
            {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "shut", "namespace": NS},
             "spec": {**shut, "ingress": [{}]}}
        )  # fmt: skip
        different.wait_ready(NS)
        pods = {item["metadata"]["name"]: item for item in different.get("-n", NS, "pods")["items"]}
        for version in (4, 6):
            near, far = (curl(addresses(pods[name])[version]) for name in ("near", "far"))
            different.eventually(
                lambda near=near: "exit code 7" in different.exec(NS, "client", *near, check=False), "node1 refuses"
            )
            different.eventually(lambda far=far: "far" in different.exec(NS, "client", *far), "node2 lets pass")
    assert audits(different, "node1") == "false"
    origins = different.dbg("node2", "config")
    assert "CiliumNodeConfig kube-system/audit" in origins
    status = different.dbg("node2", "status", check=False)
    assert "CiliumNodeConfig kube-system/audit: policy-audit-mood: unknown setting" in status
    assert "CiliumNodeConfig kube-system/audit: mtu: 'large' is not valid" in status
