"""Labs of one family, with zones; what is in their API goes into a file and into a fresh lab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from kernel.kubelab.conftest import unique
from scenario.cluster import BIN, Cluster, lacks

pytestmark = pytest.mark.scenario
WORLD = {4: "203.0.113.10", 6: "2001:db8::10"}
API_SERVER = """
host=$KUBERNETES_SERVICE_HOST; echo $host; case $host in *:*) host="[$host]";; esac
cd /var/run/secrets/kubernetes.io/serviceaccount
curl -gsS -m3 --cacert ca.crt -H "Authorization: Bearer $(cat token)" -o /dev/null -w '%{http_code}' \\
  https://$host:$KUBERNETES_SERVICE_PORT/api/v1/nodes"""
OTHER = {4: "--ipv6", 6: "--ipv4"}


@pytest.fixture
def fresh() -> Iterator[Cluster]:
    if reason := lacks():
        pytest.skip(reason)
    cluster = Cluster(unique("f"))
    try:
        yield cluster
    finally:
        cluster.down()


def lab(cluster: Cluster, *words: object, check: bool = True) -> str:
    return cluster.run(BIN / "cilium", "lab", words[0], "--name", cluster.name, *words[1:], check=check)


def web(policy: str) -> list[dict[str, Any]]:
    labels = {"app": "web"}
    spread = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    spec = {
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [spread]}},
        "containers": [{"name": "web", "image": "example/web", "ports": [{"containerPort": 8080}]}],
    }
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {
            "selector": labels, "ipFamilyPolicy": policy, "ports": [{"port": 80, "targetPort": 8080}]}},
    ]  # fmt: skip


def addresses(cluster: Cluster) -> list[str]:
    found = [a["address"] for node in cluster.get("nodes")["items"] for a in node["status"]["addresses"]
             if a["type"] == "InternalIP"]  # fmt: skip
    found += [ip for service in cluster.get("services", "-A")["items"] for ip in service["spec"]["clusterIPs"]]
    found += [ip["ip"] for pod in cluster.get("pods", "-A")["items"] for ip in pod["status"]["podIPs"]]
    return found + [
        cidr.partition("/")[0] for node in cluster.get("nodes")["items"] for cidr in node["spec"]["podCIDRs"]
    ]


@pytest.mark.parametrize("family", [4, 6])
def test_a_lab_of_one_family_has_one_family_only(fresh: Cluster, family: int, tmp_path: Path) -> None:
    wrong = tmp_path / "values.yaml"
    wrong.write_text(json.dumps({f"ipv{family}": {"enabled": True}}))
    refused = lab(fresh, "up", OTHER[family], "--values", wrong, check=False)
    assert f"ipv{family}.enabled: the lab does not have this family" in refused
    fresh.up(f"--ipv{family}", "--zones", "2", nodes=2)
    zones = {node["metadata"]["name"]: node["metadata"]["labels"] for node in fresh.get("nodes")["items"]}
    assert [zones[name]["topology.kubernetes.io/zone"] for name in ("node1", "node2")] == ["zone1", "zone2"]
    fresh.apply(*web("PreferDualStack"))
    fresh.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    assert {ip_address(text).version for text in addresses(fresh)} == {family}
    first, second = fresh.get("pods", "-l", "app=web")["items"]
    assert first["spec"]["nodeName"] != second["spec"]["nodeName"]
    for address, port in ((second["status"]["podIP"], 8080), (WORLD[family], 80)):
        url = f"http://[{address}]:{port}/" if family == 6 else f"http://{address}:{port}/"
        answer = json.loads(fresh.exec("default", first["metadata"]["name"], "curl", "-s", "-m3", url))
        assert ip_address(answer["client"]).version == family
    at = fresh.exec("default", first["metadata"]["name"], "sh", "-c", API_SERVER).split()
    assert (ip_address(at[0]).version, at[1]) == (family, "403"), "its cluster IP is in its certificate"
    both = {**web("RequireDualStack")[1], "metadata": {"name": "both"}}
    said = fresh.kubectl("apply", "-f", "-", stdin=json.dumps(both), check=False)
    assert "this cluster is not configured for dual-stack services" in said


WIDGET = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.org"},
    "spec": {"group": "example.org", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
             "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                 "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]},
}  # fmt: skip


def test_what_is_in_the_api_comes_back_in_a_fresh_lab(fresh: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    fresh.up(nodes=2)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}, "data": {"a": "b"}}
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": {"containers": [
        {"name": "c", "image": "example/web", "ports": [{"containerPort": 8080}]}]}}  # fmt: skip
    fresh.apply(*web("PreferDualStack"), WIDGET, owner, bare)
    widget = {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 3}}
    fresh.eventually(lambda: fresh.apply(widget) is None, "the kind is served")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner"}
    reference["uid"] = fresh.get("cm", "owner")["metadata"]["uid"]
    fresh.apply({**owner, "metadata": {"name": "owned", "ownerReferences": [reference]}})
    fresh.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    assert "objects of lab" in lab(fresh, "snapshot", file)
    assert "kind: Node\n" not in file.read_text()

    fresh.apply({**owner, "data": {"a": "changed"}})
    fresh.kubectl("delete", "deployment/web", "--timeout=30s")
    assert " 0 unchanged" not in lab(fresh, "restore", file)
    assert fresh.get("cm", "owner")["data"] == {"a": "b"}
    fresh.kubectl("rollout", "status", "deployment/web", "--timeout=30s")

    before = fresh.get("service", "web")["spec"]["clusterIPs"]
    fresh.down()
    fresh.up(nodes=1)
    broken = {"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "g", "namespace": "default"}}
    file.write_text(f"{file.read_text()}---\n{json.dumps(broken)}\n")
    said = lab(fresh, "restore", file, check=False)
    assert "Gadget default/g: Gadget g: the API server does not serve example.org/v1 Gadget" in said
    assert "1 refused" in said
    assert fresh.get("widget", "w")["spec"] == {"size": 3}
    assert fresh.get("service", "web")["spec"]["clusterIPs"] == before
    uid = fresh.get("cm", "owner")["metadata"]["uid"]
    assert fresh.get("cm", "owned")["metadata"]["ownerReferences"][0]["uid"] == uid
    fresh.kubectl("wait", "--for=condition=Ready", "pod/bare", "--timeout=30s")
    fresh.eventually(lambda: fresh.get("deployment", "web")["status"].get("readyReplicas") == 1, "one has a place")
    assert len(fresh.get("replicasets", "-l", "app=web")["items"]) == 1, "the deployment knows its own again"
