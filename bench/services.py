"""Services: what a ClusterIP costs a connection as their number grows.

Connections go from pod to pod on one node, flow events on, and are compared with a direct connection that the kernel
routes with nothing attached.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench import plain
from bench.cluster import NAMESPACE, Cluster, until
from bench.figures import Figure
from bench.options import Options
from bench.tool import PORT, compiled
from bench.traffic import Route, Target, compare
from kubelab.underlay import cgroups

COUNTS = (1, 100, 1_000, 10_000)
VALUES = {"kubeProxyReplacement": True}


def run(options: Options) -> Iterator[Figure]:
    wanted = (Target("crr", "connect-request-close latency", 1.0, "lower"),)
    with options.cluster(nodes=1, values=VALUES) as cluster, compiled() as tool, plain.same_node() as kernel:
        client, server = cluster.attach("node1", ["service-client", "service-server"])
        addresses = {version: publish(cluster, version, str(ip)) for version, ip in server["ips"].items()}
        cgroup = cgroups.node_path(cluster.name, "node1") / "system"
        direct = Route(client["netns"], server["netns"], server["ips"], cgroup)
        through = Route(client["netns"], server["netns"], addresses, cgroup)
        wait_services(cluster, len(addresses))
        yield from compare(tool, "pod to pod, no service", direct, kernel, wanted, rounds=options.rounds)
        there = 1
        for count in COUNTS:
            fill(cluster, there, count)
            there = count
            wait_services(cluster, count - 1 + len(addresses))
            yield from compare(tool, f"1 of {count:,} services", through, kernel, wanted, rounds=options.rounds)
        rr = (Target("rr", "request/response latency", 0.95, "lower"),)
        yield from compare(tool, f"1 of {COUNTS[-1]:,} services", through, kernel, rr, rounds=options.rounds)


def publish(cluster: Cluster, version: int, backend: str) -> str:
    """The ClusterIP of a service of one family with one backend."""
    name = f"server-{version}"
    ports = [{"name": f"p{n}", "port": PORT + n, "protocol": "TCP"} for n in range(3)]
    spec = {"ipFamilies": [f"IPv{version}"], "ipFamilyPolicy": "SingleStack", "ports": ports}
    made = cluster.api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/services", {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    })  # fmt: skip
    labels = {"kubernetes.io/service-name": name}
    cluster.api.request("POST", f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices", {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "addressType": f"IPv{version}",
        "endpoints": [{"addresses": [backend], "conditions": {}}], "ports": ports,
    })  # fmt: skip
    return str(made["spec"]["clusterIP"])


def fill(cluster: Cluster, first: int, last: int) -> None:
    """Services that nobody asks for."""
    for number in range(first, last):
        cluster.api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/services", {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": f"other-{number}", "namespace": NAMESPACE},
            "spec": {"ports": [{"port": 80, "protocol": "TCP"}]},
        })  # fmt: skip


def wait_services(cluster: Cluster, count: int) -> None:
    """Until the kernel has them all."""

    def there() -> bool:
        status = cluster.ask_agent("node1", "/v1/healthz")
        rows = [entry["rows"] for entry in status["reconcilers"] if entry["name"] == "services"]
        return bool(rows) and not set(rows[0]) - {"Done"} and rows[0].get("Done", 0) >= count

    until(there, f"{count} services in the kernel", 60, interval=0.05)
