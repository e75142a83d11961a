"""/metrics of an agent in a cluster that works: what happened is counted, and nothing that did not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scenario.cluster import Cluster, addresses, client, curl, server

pytestmark = pytest.mark.scenario
NS = "metrics"


class Scrape:
    """One answer of an agent."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        text = cluster.node(node, "curl", "-fsS", "-m", "5", "http://127.0.0.1:9962/metrics")
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum over series that have these labels."""
        return sum(
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture(scope="module", autouse=True)
def namespace(tunnel: Cluster) -> Iterator[None]:
    with tunnel.namespace(NS):
        yield


def test_a_pod_a_policy_and_a_drop_are_counted(tunnel: Cluster) -> None:
    before = Scrape(tunnel, "node1")
    for manifest in (client("asker", "node1"), server("answerer", "node1")):
        manifest["metadata"]["namespace"] = NS
        tunnel.apply(manifest)
    tunnel.wait_ready(NS)
    tunnel.apply(
        {
            "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "closed", "namespace": NS},
            "spec": {"endpointSelector": {"matchLabels": {"app": "answerer"}}, "ingress": [{}]},
        }
    )  # fmt: skip
    for ip in addresses(tunnel.get("-n", NS, "pod", "answerer")).values():
        tunnel.eventually(
            lambda ip=ip: "curl:" in tunnel.exec(NS, "asker", *curl(ip), check=False), f"{ip} is out of reach"
        )

    def counted() -> bool:
        after = Scrape(tunnel, "node1")
        grown = {
            name: after.value(name, **labels) - before.value(name, **labels)
            for name, labels in (
                ("cilium_cni_request_duration_seconds_count", {"command": "ADD", "outcome": "success"}),
                ("cilium_policy_implementation_delay_count", {}),
                ("cilium_endpoint_state", {"endpoint_state": "ready"}),
                ("cilium_hubble_flows_seen_total", {}),
                ("cilium_drop_count_total", {"reason": "Policy denied"}),
            )
        }
        return grown["cilium_cni_request_duration_seconds_count"] == 2 and all(grown.values())

    tunnel.eventually(counted, "every metric has moved")


def test_a_quiet_cluster_has_no_errors(tunnel: Cluster) -> None:
    for node in ("node1", "node2", "node3"):
        scrape = Scrape(tunnel, node)
        assert scrape.value("cilium_reconciler_errors_current") == 0
        assert scrape.value("cilium_k8s_watch_connected") == len(
            [sample for sample in scrape.samples if sample.name == "cilium_k8s_watch_connected"]
        )
        assert scrape.value("cilium_hubble_lost_events_total") == 0
        assert scrape.value("cilium_version") == 1
