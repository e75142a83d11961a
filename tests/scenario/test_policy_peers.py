"""Peers that are not written into the policy: services, CIDR groups, nodes. They come, change and go; both families."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import Cluster, addresses, client, curl, server

pytestmark = pytest.mark.scenario
NS = "peers"
WORLD = ({4: "203.0.113.10", 6: "2001:db8::10"}, {4: "203.0.113.11", 6: "2001:db8::11"})


@pytest.fixture(scope="module")
def pods(packets: Cluster) -> Iterator[dict[str, dict[int, str]]]:
    """Addresses by name; `node` is a process of node2 itself."""
    onto = server("node", "node2", ports=[("TCP", 8099)])
    onto["spec"]["hostNetwork"] = True
    with packets.namespace(NS):
        for manifest in (client("asker", "node1"), server("near", "node1"), server("far", "node2"), onto):
            manifest["metadata"]["namespace"] = NS
            packets.apply(manifest)
        packets.wait_ready(NS)
        yield {item["metadata"]["name"]: addresses(item) for item in packets.get("-n", NS, "pods")["items"]}


@pytest.fixture
def clean(packets: Cluster) -> Iterator[None]:
    yield
    packets.kubectl("-n", NS, "delete", "ciliumnetworkpolicies,services,endpointslices", "--all")
    packets.kubectl("delete", "ciliumcidrgroups", "--all")
    packets.kubectl("label", "node", "node2", "role-")


def cnp(app: str, section: str, element: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": NS},
        "spec": {"endpointSelector": {"matchLabels": {"app": app}}, section: [element], **more},
    }  # fmt: skip


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NS},
        "spec": {"ports": [{"port": 80, "targetPort": 8080}], **spec},
    }  # fmt: skip


def slices(name: str, ends: dict[int, str]) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": f"IPv{version}",
            "metadata": {"name": f"{name}-{version}", "namespace": NS, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [address]}], "ports": [{"port": 80, "protocol": "TCP"}],
        }
        for version, address in ends.items()
    ]  # fmt: skip


def group(*ends: dict[int, str]) -> dict[str, Any]:
    cidrs = [f"{address}/{32 if version == 4 else 128}" for each in ends for version, address in each.items()]
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumCIDRGroup", "metadata": {"name": "peers"},
        "spec": {"externalCIDRs": cidrs},
    }  # fmt: skip


class Probe:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def out(self, target: dict[int, str], port: int, *, reached: bool) -> None:
        """What the asker gets."""
        for version, address in target.items():
            self._expect(lambda ip=address: self._cluster.exec(NS, "asker", *curl(ip, port), check=False),
                         f"asker to {address}", reached, version)  # fmt: skip

    def from_node(self, target: dict[int, str], *, reached: bool) -> None:
        """What a process of node2 gets."""
        for version, address in target.items():
            self._expect(lambda ip=address: self._cluster.node("node2", *curl(ip), check=False),
                         f"node2 to {address}", reached, version)  # fmt: skip

    def _expect(self, ask: Any, what: str, reached: bool, version: int) -> None:
        self._cluster.eventually(
            lambda: ask().lstrip().startswith("{") is reached,
            f"{what} {'passes' if reached else 'is closed'} ({version})",
        )


@pytest.fixture
def probe(packets: Cluster, clean: None) -> Probe:
    return Probe(packets)


def message(cluster: Cluster) -> str:
    return cluster.dbg("node1", "policy", "get")


def test_services(packets: Cluster, pods: dict[str, Any], probe: Probe) -> None:
    by_name = {"k8sService": {"serviceName": "db", "namespace": NS}}
    packets.apply(cnp("asker", "egress", {"toServices": [by_name, {"k8sService": {"serviceName": "outside"}}]}))
    probe.out(pods["far"], 8080, reached=False)
    packets.eventually(lambda: f"no such object as Service {NS}/db" in message(packets), "the status says so")
    packets.apply(service("db", selector={"app": "far"}))
    probe.out(pods["far"], 8080, reached=True)
    probe.out(pods["near"], 8080, reached=False)
    packets.apply(service("db", selector={"app": "near"}))
    probe.out(pods["near"], 8080, reached=True)
    probe.out(pods["far"], 8080, reached=False)
    packets.apply(service("outside"), *slices("outside", WORLD[0]))
    probe.out(WORLD[0], 80, reached=True)
    probe.out(WORLD[1], 80, reached=False)
    packets.kubectl("-n", NS, "delete", "service", "db")
    packets.kubectl("-n", NS, "delete", "endpointslices", "--all")
    probe.out(pods["near"], 8080, reached=False)
    probe.out(WORLD[0], 80, reached=False)


def test_cidr_groups(packets: Cluster, pods: dict[str, Any], probe: Probe) -> None:
    hole = f"{WORLD[1][4]}/32"
    packets.apply(
        cnp("asker", "egress", {"toCIDRSet": [{"cidrGroupRef": "peers", "except": [hole]}]}, log={"value": "to peers"})
    )
    probe.out(WORLD[0], 80, reached=False)
    packets.apply(group(*WORLD))
    probe.out(WORLD[0], 80, reached=True)
    probe.out({4: WORLD[1][4]}, 80, reached=False)
    probe.out({6: WORLD[1][6]}, 80, reached=True)
    flow = packets.hubble("node1", "--from-pod", f"{NS}/asker", "--to-ip", WORLD[1][6], "--last", "1")[-1]
    assert flow["policy_log"] == ["to peers"]
    packets.apply(group(WORLD[1]))
    probe.out(WORLD[0], 80, reached=False)
    packets.kubectl("delete", "ciliumcidrgroup", "peers")
    probe.out(WORLD[1], 80, reached=False)
    packets.eventually(lambda: "no such object as CiliumCIDRGroup peers" in message(packets), "the status says so")


def test_cidrs_match_nodes(packets: Cluster, pods: dict[str, Any], probe: Probe) -> None:
    node = pods["node"]
    probe.out(node, 8099, reached=True)
    packets.apply(cnp("asker", "egress", {"toCIDR": ["198.51.100.0/24"]}))
    probe.out(node, 8099, reached=False)
    packets.apply(cnp("asker", "egress", {"toCIDR": [f"{node[4]}/32", f"{node[6]}/128"]}))
    probe.out(node, 8099, reached=True)
    packets.apply(cnp("asker", "egressDeny", {"toCIDR": ["0.0.0.0/0"]}, egress=[{"toEntities": ["all"]}]))
    probe.out({4: node[4]}, 8099, reached=False)
    probe.out({6: node[6]}, 8099, reached=True)
    packets.apply(cnp("asker", "egress", {"toEntities": ["world-ipv4", "world-ipv6"]}))
    probe.out(node, 8099, reached=False)
    probe.out(WORLD[0], 80, reached=True)


def test_nodes_by_label(packets: Cluster, pods: dict[str, Any], probe: Probe) -> None:
    databases = [{"matchLabels": {"role": "db"}}]
    probe.from_node(pods["near"], reached=True)
    packets.apply(cnp("near", "ingress", {"fromNodes": databases}))
    probe.from_node(pods["near"], reached=False)
    packets.kubectl("label", "node", "node2", "role=db")
    probe.from_node(pods["near"], reached=True)
    probe.out(pods["near"], 8080, reached=False)
    flow = packets.hubble("node1", "--to-pod", f"{NS}/near", "--verdict", "FORWARDED", "--last", "1")[-1]
    assert {"node:role=db", "reserved:remote-node"} <= set(flow["source"]["labels"])
    packets.apply(cnp("asker", "egress", {"toNodes": databases}))
    probe.from_node(pods["near"], reached=True)
    probe.out(pods["node"], 8099, reached=True)
    probe.out(pods["far"], 8080, reached=False)
    packets.kubectl("label", "node", "node2", "role-")
    probe.out(pods["node"], 8099, reached=False)


def test_labels_of_namespaces_service_accounts_and_clusters(
    packets: Cluster, pods: dict[str, Any], probe: Probe
) -> None:
    def only_from(**labels: str) -> None:
        wanted = {f"io.cilium.k8s.{key.replace('_', '.')}": value for key, value in labels.items()}
        packets.apply(cnp("near", "ingress", {"fromEndpoints": [{"matchLabels": wanted}]}))

    only_from(namespace_labels_team="a")
    probe.out(pods["near"], 8080, reached=False)
    packets.kubectl("label", "namespace", NS, "team=a")
    probe.out(pods["near"], 8080, reached=True)
    packets.kubectl("label", "namespace", NS, "team-")
    probe.out(pods["near"], 8080, reached=False)
    for key, name in (("policy_serviceaccount", "default"), ("policy_cluster", "default")):
        only_from(**{key: name})
        probe.out(pods["near"], 8080, reached=True)
        only_from(**{key: "another"})
        probe.out(pods["near"], 8080, reached=False)
