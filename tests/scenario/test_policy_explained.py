"""Policies understood: written from traffic, explained, compared before they are applied, seen in agents and flows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from scenario.cluster import BIN, Cluster, CommandError, addresses, client, curl, server

pytestmark = pytest.mark.scenario
NS = "explained"
SERVER = f"{NS}/back"


@pytest.fixture(scope="module")
def pods(tunnel: Cluster) -> Iterator[dict[str, Any]]:
    with tunnel.namespace(NS):
        for manifest in (client("front", "node1"), client("stranger", "node2"), server("back", "node2")):
            manifest["metadata"]["namespace"] = NS
            tunnel.apply(manifest)
        tunnel.wait_ready(NS)
        yield {item["metadata"]["name"]: item for item in tunnel.get("-n", NS, "pods")["items"]}


def policy(cluster: Cluster, *words: str, stdin: str = "") -> tuple[int, str]:
    """(exit status, output) of `cilium policy`."""
    script = '"$@"; echo "status $?"'
    output = cluster.run("sh", "-c", script, "-", BIN / "cilium", "policy", *words, stdin=stdin)
    text, _, status = output.rpartition("status ")
    return int(status), text


def reaches(cluster: Cluster, pods: dict[str, Any], source: str, version: int, port: int = 8080) -> bool:
    answer = cluster.exec(NS, source, *curl(addresses(pods["back"])[version], port), check=False)
    return '"back"' in answer


def test_policies_from_traffic_let_it_pass_and_nothing_else(tunnel: Cluster, pods: dict[str, Any]) -> None:
    for version in (4, 6):
        tunnel.eventually(lambda version=version: reaches(tunnel, pods, "front", version), f"front over IPv{version}")

    def suggested() -> list[dict[str, Any]]:
        status, text = policy(tunnel, "suggest", "--namespace", NS, "--since", "5m")
        assert status == 0, text
        written = [one for one in yaml.safe_load_all(text) if one]
        return written if {one["metadata"]["name"] for one in written} == {"front", "back"} else []

    written = tunnel.eventually(suggested, "both ends are seen")
    preview = policy(tunnel, "diff", "-f", "-", "--since", "5m", stdin=yaml.safe_dump_all(written))
    assert preview[0] == 3, preview[1]
    assert "0 of " in preview[1].splitlines()[0], "what was seen goes on passing"
    assert f"{NS}/stranger" in preview[1]
    tunnel.apply(*written)
    for version in (4, 6):
        tunnel.eventually(lambda version=version: not reaches(tunnel, pods, "stranger", version), "a stranger is out")
        assert reaches(tunnel, pods, "front", version)
    assert policy(tunnel, "diff", "-f", "-", "--since", "0", stdin=yaml.safe_dump_all(written))[0] == 0


def test_objects_and_kernel_agree_on_who_passes(tunnel: Cluster, pods: dict[str, Any]) -> None:
    for source, destination, port, expected in (
        (f"{NS}/front", SERVER, "8080/TCP", 0),
        (f"{NS}/front", SERVER, "8081/TCP", 3),
        (f"{NS}/stranger", SERVER, "8080/TCP", 3),
        ("world", SERVER, "8080/TCP", 3),
        (f"{NS}/front", "203.0.113.10", "80/TCP", 3),
        (f"{NS}/stranger", "2001:db8::10", "80/TCP", 0),
    ):
        status, text = policy(
            tunnel, "explain", "--from", source, "--to", destination, "--port", port, "--live", "-o", "json"
        )
        assert status == expected, text
        for answer in json.loads(text):
            asked = [answer[way]["live"] for way in ("egress", "ingress") if "live" in answer[way]]
            assert asked, text
            assert all(one["verdict"] == answer[way]["verdict"] for way in ("egress", "ingress")
                       if isinstance(one := answer[way].get("live"), dict))  # fmt: skip
            assert all(isinstance(one, dict) for one in asked), text
    status, text = policy(tunnel, "explain", "--from", f"{NS}/stranger", "--to", SERVER, "--port", "8080/TCP")
    assert f"default deny by CiliumNetworkPolicy {SERVER}" in text
    assert "peer: app=front: explained/stranger has 'stranger'" in text


def test_tiers_and_audit_mode_are_understood_alike(tunnel: Cluster, pods: dict[str, Any]) -> None:
    name = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NS}}}
    admin = {
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "explained"},
        "spec": {
            "tier": "Admin", "priority": 10,
            "subject": {"pods": {**name, "podSelector": {"matchLabels": {"app": "back"}}}},
            "ingress": [{
                "name": "no-strangers", "action": "Deny",
                "from": [{"pods": {**name, "podSelector": {"matchLabels": {"app": "stranger"}}}}],
            }],
        },
    }  # fmt: skip
    watching = {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "watching", "namespace": NS, "annotations": {"policy.cilium.io/audit-mode": "enabled"}},
        "spec": {"endpointSelector": {"matchLabels": {"app": "stranger"}}, "egress": [{}]},
    }  # fmt: skip
    try:
        tunnel.apply(admin, watching)
        asked = ("explain", "--from", f"{NS}/stranger", "--to", SERVER, "--port", "8080/TCP", "--live")

        def understood() -> bool:
            status, text = policy(tunnel, *asked)
            wanted = (
                f"egress of {NS}/stranger: audit",
                "kernel: audit",
                "denied by the first rule that matches (tier ADMIN)",
                "ClusterNetworkPolicy explained spec.ingress[0] (no-strangers): denies",
            )
            missing = [part for part in wanted if part not in text]
            if status != 3 or missing:
                raise CommandError(f"status {status}, not said: {missing}\n{text}")
            return True

        tunnel.eventually(understood, "objects and kernels agree, when agents have followed")
    finally:
        tunnel.kubectl("delete", "clusternetworkpolicies", "explained", "--ignore-not-found")
        tunnel.kubectl("-n", NS, "delete", "cnp", "watching", "--ignore-not-found")


def test_a_deletion_before_it_is_done(tunnel: Cluster, pods: dict[str, Any]) -> None:
    reaches(tunnel, pods, "stranger", 4)

    def seen() -> bool:
        status, text = policy(tunnel, "diff", "--delete", f"cnp/{SERVER}", "--since", "5m")
        return status == 3 and f"{NS}/stranger → {SERVER} TCP 8080: denied → allowed" in text

    tunnel.eventually(seen, "the flow that was denied would be allowed")
    assert f"cnp/{NS}/none" in policy(tunnel, "diff", "--delete", f"cnp/{NS}/none")[1]


def test_the_agent_shows_rules_selectors_and_verdicts(tunnel: Cluster, pods: dict[str, Any]) -> None:
    selectors = json.loads(tunnel.dbg("node2", "policy", "selectors", "-o", "json"))
    (front,) = [one for one in selectors if "any:app=front" in one["selector"]]
    assert front["labels"] == [f"CiliumNetworkPolicy {SERVER}"]
    assert len(front["identities"]) == 1
    table = tunnel.dbg("node2", "bpf", "policy", "get", "--all")
    (line,) = [line for line in table.splitlines() if f"CiliumNetworkPolicy {SERVER} ingress[0]" in line]
    assert line.split()[:4] == ["Allow", "Ingress", *line.split()[2:3], "8080/TCP"]
    assert "k8s:app=front" in line.split()[2]
    numeric = tunnel.dbg("node2", "bpf", "policy", "get", "--all", "-n")
    assert f"Allow    Ingress     {front['identities'][0]}" in numeric
    revision = json.loads(tunnel.dbg("node2", "endpoint", "get", SERVER))["status"]["policy"]["revision"]
    assert tunnel.dbg("node2", "policy", "wait", revision) == f"revision {revision} is enforced\n"


def test_flows_name_the_rule_and_the_default_deny(tunnel: Cluster, pods: dict[str, Any]) -> None:
    reaches(tunnel, pods, "front", 4)
    reaches(tunnel, pods, "stranger", 4)

    def verdicts(source: str, field: str) -> list[dict[str, Any]]:
        flows = tunnel.hubble("node2", "--to-pod", SERVER, "--from-pod", f"{NS}/{source}", "--type", "policy-verdict")
        return [flow[field][0] for flow in flows if flow.get(field)]

    allowed = tunnel.eventually(lambda: verdicts("front", "ingress_allowed_by"), "the rule that allowed it")[-1]
    assert (allowed["kind"], allowed["namespace"], allowed["name"]) == ("CiliumNetworkPolicy", NS, "back")
    assert int(allowed["revision"]) > 0
    assert "k8s:io.cilium.k8s.policy.rule=spec.ingress[0]" in allowed["labels"]
    denied = tunnel.eventually(lambda: verdicts("stranger", "ingress_denied_by"), "who closed it")[-1]
    assert (denied["name"], denied["revision"]) == ("back", allowed["revision"])
    text = tunnel.exec("kube-system", tunnel.agent("node2"), "hubble", "observe", "--to-pod", SERVER,
                       "--print-policy-names", "--type", "policy-verdict")  # fmt: skip
    assert f"(ingress allowed by CiliumNetworkPolicy {SERVER} spec.ingress[0])" in text
    assert f"(ingress denied by CiliumNetworkPolicy {SERVER})" in text
