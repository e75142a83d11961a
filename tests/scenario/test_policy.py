"""Policies before and after: what passed is closed, what is allowed passes, and every drop is explained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import Cluster, addresses, client, curl, ping, server

pytestmark = pytest.mark.scenario
NS = "policy"
AUDIT = "policy.cilium.io/audit-mode"
SERVERS = {"matchLabels": {"group": "server"}}


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[dict[str, Any]]:
    with cluster.namespace(NS):
        for manifest in (
            client("friend", "node1", role="friend"),
            client("stranger", "node2", role="stranger"),
            server("near", "node1", group="server"),
            server("far", "node2", group="server"),
        ):
            manifest["metadata"]["namespace"] = NS
            cluster.apply(manifest)
        cluster.wait_ready(NS)
        items = cluster.get("-n", NS, "pods")["items"]
        yield {item["metadata"]["name"]: item for item in items}


def cnp(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": NS}, "spec": spec,
    }  # fmt: skip


@pytest.fixture
def policies(cluster: Cluster) -> Iterator[None]:
    yield
    for kind in ("ciliumnetworkpolicies", "networkpolicies"):
        cluster.kubectl("-n", NS, "delete", kind, "--all")
    for kind in ("ciliumclusterwidenetworkpolicies", "clusternetworkpolicies"):
        cluster.kubectl("delete", kind, "--all")
    cluster.kubectl("annotate", "namespace", NS, f"{AUDIT}-")


class Probe:
    def __init__(self, cluster: Cluster, pods: dict[str, Any]) -> None:
        self._cluster, self._pods = cluster, pods

    def reaches(self, source: str, target: str, version: int, port: int = 8080) -> bool:
        ip = addresses(self._pods[target])[version]
        answer = self._cluster.exec(NS, source, *curl(ip, port), check=False)
        return f'"{target}"' in answer or target in answer.split("curl:")[0]

    def expect(self, source: str, target: str, *, reached: bool, port: int = 8080) -> None:
        for version in (4, 6):
            self._cluster.eventually(
                lambda version=version: self.reaches(source, target, version, port) is reached,
                f"{source} {'reaches' if reached else 'does not reach'} {target}:{port} over IPv{version}",
            )


@pytest.fixture
def probe(cluster: Cluster, pods: dict[str, Any], policies: None) -> Probe:
    return Probe(cluster, pods)


def test_ingress_by_label_and_port(cluster: Cluster, probe: Probe) -> None:
    for target in ("near", "far"):
        probe.expect("friend", target, reached=True)
        probe.expect("stranger", target, reached=True)
    cluster.apply(
        cnp("friends", endpointSelector={"matchLabels": {"group": "server"}},
            ingress=[{"fromEndpoints": [{"matchLabels": {"role": "friend"}}],
                      "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}]}])
    )  # fmt: skip
    for target in ("near", "far"):
        probe.expect("stranger", target, reached=False)
        probe.expect("friend", target, reached=True)
        ip = addresses(cluster.get("-n", NS, "pod", target))[4]
        assert "1 received" not in cluster.exec(NS, "friend", *ping(ip), check=False), "ICMP is not TCP 8080"
    cluster.kubectl("-n", NS, "delete", "cnp", "friends")
    for target in ("near", "far"):
        probe.expect("stranger", target, reached=True)


def test_egress_default_deny_and_replies(cluster: Cluster, probe: Probe) -> None:
    cluster.apply(cnp("closed", endpointSelector={"matchLabels": {"role": "friend"}},
                      egress=[{"toEndpoints": [{"matchLabels": {"app": "near"}}]}]))  # fmt: skip
    probe.expect("friend", "far", reached=False)
    probe.expect("friend", "near", reached=True)


def test_deny_beats_allow(cluster: Cluster, probe: Probe) -> None:
    cluster.apply(
        cnp("mixed", endpointSelector={"matchLabels": {"group": "server"}},
            ingress=[{"fromEndpoints": [{}]}],
            ingressDeny=[{"fromEndpoints": [{"matchLabels": {"role": "stranger"}}]}])
    )  # fmt: skip
    probe.expect("stranger", "near", reached=False)
    probe.expect("friend", "far", reached=True)


def test_kubernetes_network_policy(cluster: Cluster, probe: Probe) -> None:
    cluster.apply(
        {
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "k", "namespace": NS},
            "spec": {"podSelector": {"matchLabels": {"group": "server"}}, "policyTypes": ["Ingress"],
                     "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "friend"}}}]}]},
        }
    )  # fmt: skip
    probe.expect("stranger", "near", reached=False)
    probe.expect("friend", "near", reached=True)
    probe.expect("friend", "far", reached=True)


def test_clusterwide_policy(cluster: Cluster, probe: Probe) -> None:
    cluster.apply(
        {
            "apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "wide"},
            "spec": {"endpointSelector": {"matchLabels": {"app": "far"}},
                     "ingress": [{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}]},
        }
    )  # fmt: skip
    probe.expect("stranger", "far", reached=False)
    probe.expect("friend", "far", reached=True)
    probe.expect("stranger", "near", reached=True)


def test_cidr_with_exception_and_entities(cluster: Cluster, probe: Probe) -> None:
    world = {4: "203.0.113.10", 6: "2001:db8::10"}

    def out(version: int) -> bool:
        return cluster.exec(NS, "friend", *curl(world[version], 80), check=False).lstrip().startswith("{")

    for version in (4, 6):
        assert out(version)
    cluster.apply(
        cnp("out", endpointSelector={"matchLabels": {"role": "friend"}},
            egress=[{"toCIDRSet": [{"cidr": "203.0.113.0/24", "except": ["203.0.113.10/32"]}]},
                    {"toCIDR": ["2001:db8::/32"]}])
    )  # fmt: skip
    cluster.eventually(lambda: not out(4), "the exception is closed")
    cluster.eventually(lambda: out(6), "the IPv6 CIDR is open")
    cluster.apply(cnp("out", endpointSelector={"matchLabels": {"role": "friend"}}, egress=[{"toEntities": ["world"]}]))
    for version in (4, 6):
        cluster.eventually(lambda version=version: out(version), f"the world is open over IPv{version}")
    probe.expect("friend", "near", reached=False)


def test_a_drop_names_reason_and_an_allow_names_its_policy(cluster: Cluster, probe: Probe) -> None:
    cluster.apply(
        cnp("named", endpointSelector={"matchLabels": {"app": "near"}},
            ingress=[{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}])
    )  # fmt: skip
    probe.expect("stranger", "near", reached=False)
    probe.expect("friend", "near", reached=True)

    def flows(*filters: str) -> list[dict[str, Any]]:
        return cluster.hubble("node1", "--to-pod", f"{NS}/near", *filters, "--last", "50")

    dropped = cluster.eventually(
        lambda: flows("--verdict", "DROPPED", "--from-pod", f"{NS}/stranger"), "the drop is seen"
    )
    assert dropped[-1]["drop_reason_desc"] == "POLICY_DENIED"
    assert dropped[-1]["source"]["pod_name"] == "stranger"
    allowed = cluster.eventually(
        lambda: [f for f in flows("--type", "policy-verdict", "--verdict", "FORWARDED") if f.get("ingress_allowed_by")],
        "the allow is seen with its policy",
    )
    assert allowed[-1]["ingress_allowed_by"][0]["name"] == "named"


def test_an_invalid_update_keeps_the_last_valid_policy(cluster: Cluster, probe: Probe) -> None:
    selector = {"matchLabels": {"app": "near"}}
    cluster.apply(
        cnp("keep", endpointSelector=selector, ingress=[{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}])
    )
    probe.expect("stranger", "near", reached=False)
    bad = cnp("keep", endpointSelector=selector,
              ingress=[{"fromEndpoints": [{}], "fromCIDR": ["10.0.0.0/8"]}])  # fmt: skip
    cluster.apply(bad)
    cluster.eventually(
        lambda: "spec.ingress[0]" in cluster.dbg("node1", "policy", "get"), "the agent names the field that is wrong"
    )
    cluster.eventually(
        lambda: "False" in cluster.kubectl("-n", NS, "get", "cnp", "keep"), "kubectl shows that it is not valid"
    )
    probe.expect("stranger", "near", reached=False)
    probe.expect("friend", "near", reached=True)


def tier(name: str, tier: str, priority: int, action: str, role: str) -> dict[str, Any]:
    """About what the servers get from clients of a role."""
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NS}}}
    subject = {"pods": here | {"podSelector": SERVERS}}
    source = {"pods": here | {"podSelector": {"matchLabels": {"role": role}}}}
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": name},
        "spec": {"tier": tier, "priority": priority, "subject": subject,
                 "ingress": [{"name": f"{name}-rule", "action": action, "from": [source]}]},
    }  # fmt: skip


def denied_by(cluster: Cluster, verdict: str, source: str) -> set[tuple[str, int]]:
    """Policies that refused what `source` sent to the server on node1, with the family."""
    flows = cluster.hubble(
        "node1", "--verdict", verdict, "--from-pod", f"{NS}/{source}", "--to-pod", f"{NS}/near", "--last", "100"
    )
    return {
        (policy["name"], {"IPv4": 4, "IPv6": 6}[flow["IP"]["ipVersion"]])
        for flow in flows
        for policy in flow.get("ingress_denied_by", ())
    }


def test_tiers(cluster: Cluster, probe: Probe) -> None:
    friends = [{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}]
    cluster.apply(cnp("friends", endpointSelector=SERVERS, ingress=friends))
    probe.expect("stranger", "near", reached=False)
    probe.expect("friend", "near", reached=True)
    cluster.apply(tier("shut", "Admin", 10, "Deny", "friend"), tier("welcome", "Admin", 20, "Accept", "stranger"))
    for target in ("near", "far"):
        probe.expect("friend", target, reached=False)
        probe.expect("stranger", target, reached=True)
    cluster.eventually(lambda: denied_by(cluster, "DROPPED", "friend") >= {("shut", 4), ("shut", 6)}, "shut is named")
    assert "shut ingress[0] (shut-rule)" in cluster.dbg("node1", "bpf", "policy", "get", "--all")

    cluster.apply(tier("ask-others", "Admin", 5, "Pass", "friend"))
    probe.expect("friend", "near", reached=True)
    cluster.apply(tier("last", "Baseline", 0, "Deny", "friend"))
    probe.expect("friend", "near", reached=True)
    cluster.kubectl("-n", NS, "delete", "cnp", "friends")
    probe.expect("friend", "near", reached=False)
    cluster.eventually(lambda: ("last", 6) in denied_by(cluster, "DROPPED", "friend"), "the baseline is named")
    cluster.eventually(
        lambda: "True" in cluster.kubectl("get", "clusternetworkpolicies", "last"), "kubectl shows that it is valid"
    )
    cluster.kubectl("delete", "clusternetworkpolicies", "last")
    probe.expect("friend", "near", reached=True)
    probe.expect("stranger", "near", reached=True)


def test_audit_mode_of_a_policy_and_of_a_namespace(cluster: Cluster, probe: Probe) -> None:
    def annotate(*what: str) -> None:
        cluster.kubectl("-n", NS, "annotate", "--overwrite", *what)

    trial = cnp("trial", endpointSelector=SERVERS, ingress=[{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}])
    trial["metadata"]["annotations"] = {AUDIT: "enabled"}
    cluster.apply(trial)

    def reported() -> bool:
        probe.expect("stranger", "near", reached=True)
        return denied_by(cluster, "AUDIT", "stranger") >= {("trial", 4), ("trial", 6)}

    cluster.eventually(reported, "what would have been dropped is reported")
    cluster.eventually(lambda: "in audit mode" in cluster.dbg("node1", "policy", "get"), "the agent says so")
    probe.expect("friend", "near", reached=True)
    assert not denied_by(cluster, "AUDIT", "friend")
    annotate("cnp", "trial", f"{AUDIT}-")
    probe.expect("stranger", "near", reached=False)
    annotate("namespace", NS, f"{AUDIT}=enabled")
    probe.expect("stranger", "near", reached=True)
    cluster.apply(tier("shut", "Admin", 10, "Deny", "stranger"))
    probe.expect("stranger", "near", reached=False)
    annotate("namespace", NS, f"{AUDIT}-")
    cluster.kubectl("delete", "clusternetworkpolicies", "shut")
    probe.expect("stranger", "near", reached=False)
