"""Cluster DNS as pods meet it: names of Services and of their members, the world, an API server away, policies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import BIN, Cluster, client

from kubelab.lab import Lab

pytestmark = pytest.mark.scenario
SPACE = "dns-names"


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": SPACE}, "spec": spec}


@pytest.fixture(scope="module")
def cluster(tunnel: Cluster) -> Iterator[Cluster]:
    """A client, and two members of a headless Service."""
    port = {"name": "http", "port": 80, "targetPort": 8080}
    with tunnel.namespace(SPACE):
        members = []
        for number in range(2):
            member = client(f"db-{number}", f"node{number + 1}", set="db")
            member["spec"] |= {"hostname": f"db-{number}", "subdomain": "db"}
            members.append(member)
        asker = client("asker", "node1")
        for pod in (*members, asker):
            pod["metadata"]["namespace"] = SPACE
        tunnel.apply(
            *members,
            asker,
            service("db", clusterIP="None", ipFamilyPolicy="PreferDualStack", selector={"set": "db"}, ports=[port]),
            service("web", selector={"set": "db"}, ports=[port], ipFamilyPolicy="RequireDualStack"),
            service("away", type="ExternalName", externalName="www.world.test"),
        )
        tunnel.wait_ready(SPACE)
        tunnel.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s", timeout=70)
        yield tunnel


def dig(cluster: Cluster, *words: str, check: bool = True) -> list[str]:
    command = ("dig", "+short", "+search", "+time=2", "+tries=2", *words)
    return sorted(cluster.exec(SPACE, "asker", *command, check=check).split())


def test_names_of_the_cluster(cluster: Cluster) -> None:
    pods = {pod["metadata"]["name"]: pod["status"] for pod in cluster.get("-n", SPACE, "pods")["items"]}
    members = {name: [entry["ip"] for entry in pods[name]["podIPs"]] for name in ("db-0", "db-1")}
    web = cluster.get("-n", SPACE, "service", "web")["spec"]["clusterIPs"]
    for family, kind in enumerate(("A", "AAAA")):
        ips = sorted(pair[family] for pair in members.values())
        cluster.eventually(lambda kind=kind, ips=ips: dig(cluster, "db", kind) == ips, "both members have a name")
    assert dig(cluster, "db-1.db", "AAAA") == [members["db-1"][1]]
    assert [*dig(cluster, "web"), *dig(cluster, "web.dns-names", "AAAA")] == web
    assert dig(cluster, "-x", members["db-0"][0]) == ["db-0.db.dns-names.svc.cluster.local."]
    assert dig(cluster, "-x", web[1]) == ["web.dns-names.svc.cluster.local."]
    assert dig(cluster, "_http._tcp.web", "SRV") == sorted(["0", "100", "80", "web.dns-names.svc.cluster.local."])
    assert dig(cluster, "missing") == []
    hosts = cluster.exec(SPACE, "db-0", "hostname", "-f").strip()
    assert hosts == "db-0.db.dns-names.svc.cluster.local"


def test_both_protocols_and_families_of_the_server_and_the_world_behind_it(cluster: Cluster) -> None:
    servers = cluster.get("-n", "kube-system", "service", "kube-dns")["spec"]["clusterIPs"]
    assert servers == ["10.96.0.10", "fd00:10:96::a"]
    resolver = cluster.exec(SPACE, "asker", "cat", "/etc/resolv.conf")
    assert resolver.splitlines()[0] == "search dns-names.svc.cluster.local svc.cluster.local cluster.local"
    for server in servers:
        assert f"nameserver {server}\n" in resolver
        for protocol in ("+notcp", "+tcp"):
            assert dig(cluster, f"@{server}", protocol, "kubernetes.default") == ["10.96.0.1"]
    assert dig(cluster, "web.world.test", "AAAA") == ["2001:db8::10"]
    assert dig(cluster, "away") == ["203.0.113.10", "web.world.test.", "www.world.test."]
    assert "Transfer failed" in cluster.exec(SPACE, "asker", "dig", "cluster.local", "AXFR")
    node = cluster.exec("kube-system", cluster.agent("node1"), "cat", "/etc/resolv.conf")
    assert "203.0.113.53" in node
    assert "cluster.local" not in node


def test_an_api_server_that_is_away(cluster: Cluster) -> None:
    (web,) = dig(cluster, "web")
    argv = Lab(cluster.name).container_argv(
        *_place(cluster, "asker"), ["dig", "+short", "web.dns-names.svc.cluster.local"]
    )
    lab = Lab(cluster.name)
    lab.stop("control-plane", kill=True)
    try:
        assert cluster.run(*argv).strip() == web
    finally:
        lab.start_control_plane()
    cluster.eventually(lambda: cluster.get("nodes")["items"], "the API server answers again")
    cluster.apply(service("late", selector={"set": "db"}, ports=[{"port": 80}]))
    cluster.eventually(lambda: dig(cluster, "late"), "a Service made after the outage has a name")


def _place(cluster: Cluster, name: str) -> tuple[str, str, str]:
    pod = cluster.get("-n", SPACE, "pod", name)
    return pod["spec"]["nodeName"], pod["metadata"]["uid"], pod["spec"]["containers"][0]["name"]


def test_default_deny_cuts_dns_and_the_suggested_policy_gives_it_back(cluster: Cluster) -> None:
    assert dig(cluster, "kubernetes.default") == ["10.96.0.1"]
    argv = (BIN / "cilium", "policy", "suggest", "-n", SPACE, "-o", "json")

    def suggested() -> list[dict[str, Any]]:
        found = json.loads(cluster.run(*argv))
        items = found["items"] if isinstance(found, dict) and "items" in found else found
        return [item for item in items if item["metadata"]["name"] == "asker"]

    (allow,) = cluster.eventually(suggested, "the asker's flows are seen")
    dns = {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}
    rules = [rule for rule in allow["spec"]["egress"] if {"matchLabels": dns} in rule.get("toEndpoints", [])]
    assert {"port": "53", "protocol": "UDP"} in [
        port for rule in rules for each in rule["toPorts"] for port in each["ports"]
    ]
    deny = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nothing-out", "namespace": SPACE},
        "spec": {"podSelector": {"matchLabels": {"app": "asker"}}, "policyTypes": ["Egress"]},
    }
    short = ("+time=1", "+tries=1", "kubernetes.default.svc.cluster.local")
    cluster.apply(deny)
    cluster.eventually(lambda: "10.96.0.1" not in dig(cluster, *short, check=False), "DNS is cut, too")
    allow["metadata"]["namespace"] = SPACE
    cluster.apply(allow)
    cluster.eventually(lambda: dig(cluster, *short, check=False) == ["10.96.0.1"], "names are found again")
