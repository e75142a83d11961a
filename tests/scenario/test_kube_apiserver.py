"""The API server as a peer: a pod may talk to it and to nobody else, over both families."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import Cluster, addresses, client, curl, server

pytestmark = pytest.mark.scenario
NS = "apiserver"


@pytest.fixture(scope="module")
def pods(tunnel: Cluster) -> Iterator[dict[str, Any]]:
    with tunnel.namespace(NS):
        for manifest in (client("asker", "node1"), server("near", "node1"), server("far", "node2")):
            manifest["metadata"]["namespace"] = NS
            tunnel.apply(manifest)
        tunnel.wait_ready(NS)
        yield {item["metadata"]["name"]: item for item in tunnel.get("-n", NS, "pods")["items"]}


def api_servers(cluster: Cluster) -> list[str]:
    slices = cluster.get("-n", "default", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes")["items"]
    return [address for piece in slices for backend in piece["endpoints"] for address in backend["addresses"]]


def answers(cluster: Cluster, address: str) -> bool:
    """Any answer over TLS will do: the API server says who may see what."""
    host = f"[{address}]" if ":" in address else address
    command = ["curl", "-gksS", "-m", "1", "-o", "/dev/null", "-w", "%{http_code}", f"https://{host}:6443/version"]
    return cluster.exec(NS, "asker", *command, check=False).strip()[-3:] in {"200", "401", "403"}


IN_CLUSTER = """
from kubernetes import client, config
config.load_incluster_config()
review = client.AuthenticationV1Api().create_self_subject_review(client.V1SelfSubjectReview())
print(client.Configuration.get_default_copy().host, review.status.user_info.username)
"""
BY_NAME = """
cd /var/run/secrets/kubernetes.io/serviceaccount
for name in kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local; do
  curl -sS -m 3 --cacert ca.crt -H "Authorization: Bearer $(cat token)" -o /dev/null -w '%{http_code} ' \\
    https://$name/api/v1/nodes
done"""


def test_clients_in_pods_find_the_api_server_by_its_service(tunnel: Cluster, pods: dict[str, Any]) -> None:
    service = tunnel.get("-n", "default", "service", "kubernetes")["spec"]["clusterIP"]
    told = tunnel.exec(NS, "asker", sys.executable, "-c", IN_CLUSTER).split()
    assert told == [f"https://{service}:443", f"system:serviceaccount:{NS}:default"]
    tunnel.eventually(
        lambda: tunnel.exec(NS, "asker", "sh", "-c", BY_NAME, check=False).split() == ["403"] * 3,
        "known by every name, and without rights",
    )
    endpoints = tunnel.get("-n", "default", "endpoints", "kubernetes")["subsets"]
    assert [entry["ip"] for entry in endpoints[0]["addresses"]] == [ip for ip in api_servers(tunnel) if "." in ip]
    agent = tunnel.exec("kube-system", tunnel.agent("node1"), "printenv", "KUBERNETES_SERVICE_HOST").strip()
    assert agent in api_servers(tunnel), "pods on the node's network do not need whom they serve"


def test_a_pod_may_reach_the_api_server_only(tunnel: Cluster, pods: dict[str, Any]) -> None:
    servers = api_servers(tunnel)
    assert {":" in address for address in servers} == {False, True}, "one address per family"
    others = [ip for name in ("near", "far") for ip in addresses(pods[name]).values()]
    assert all(answers(tunnel, address) for address in servers)
    assert all("near" in text or "far" in text for text in (tunnel.exec(NS, "asker", *curl(ip)) for ip in others))
    tunnel.apply(
        {
            "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "api-only", "namespace": NS},
            "spec": {"endpointSelector": {"matchLabels": {"app": "asker"}},
                     "egress": [{"toEntities": ["kube-apiserver"]}]},
        }
    )  # fmt: skip
    for ip in others:
        tunnel.eventually(
            lambda ip=ip: "curl:" in tunnel.exec(NS, "asker", *curl(ip), check=False), f"{ip} is out of reach"
        )
    assert all(answers(tunnel, address) for address in servers)
    flow = tunnel.hubble("node1", "--from-pod", f"{NS}/asker", "--port", "6443", "--last", "1")[-1]
    assert "reserved:kube-apiserver" in flow["destination"]["labels"]


def test_the_identity_says_who_it_is(tunnel: Cluster) -> None:
    for address in api_servers(tunnel):
        rows = {row["prefix"]: row for row in _json(tunnel, "statedb", "ipcache")}
        row = rows[f"{address}/{128 if ':' in address else 32}"]
        identity = tunnel.dbg("node2", "identity", "get", str(row["identity"]))
        assert "reserved:kube-apiserver" in identity


def _json(cluster: Cluster, *command: str) -> Any:
    import json

    return json.loads(cluster.dbg("node2", *command, "-o", "json"))
