"""Services that nobody asks for, thousands of them: as objects of the API, and as kube-proxy sees them.

In: how many. Out: dual-stack Services with endpoints of their own, the same addresses on both sides of a comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

from bench.cluster import NAMESPACE, Cluster, until
from bench.kube_proxy.model import Endpoint, ServicePort

BACKENDS = 10
PORT, TARGET_PORT = 80, 8080
VERSIONS = (4, 6)
ROOM = {"bpf": {"lbServiceBackendMapMax": 262_144}}
"""Values with which 10,000 of them fit: two families, ten backends each."""
_FIRST = {4: int(IPv4Address("10.128.0.0")), 6: int(IPv6Address("fd00:128::"))}
_FIRST_CLUSTER_IP = {4: int(IPv4Address("10.96.128.0")), 6: int(IPv6Address("fd00:96::8000"))}
_STRIDE = 16


def endpoints(number: int, version: int, count: int = BACKENDS) -> list[str]:
    first = _FIRST[version] + number * _STRIDE
    return [_text(first + each, version) for each in range(count)]


def ports(count: int, version: int) -> Iterator[ServicePort]:
    """As kube-proxy has them, numbers 0 to `count` - 1."""
    for number in range(count):
        yield ServicePort(
            namespace=NAMESPACE, name=f"other-{number}", port_name="http", port=PORT,
            cluster_ip=_text(_FIRST_CLUSTER_IP[version] + number, version),
            endpoints=tuple(Endpoint(ip, TARGET_PORT) for ip in endpoints(number, version)),
        )  # fmt: skip


def fill(cluster: Cluster, first: int, last: int) -> None:
    """Numbers `first` to `last` - 1. Services come first: the more slices there are, the longer the lab's controllers
    look for those that may be theirs."""
    names = {number: f"other-{number}" for number in range(first, last)}
    for name in names.values():
        cluster.api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/services", {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"ipFamilyPolicy": "RequireDualStack", "ports": [{"name": "http", "port": PORT}]},
        })  # fmt: skip
    listening = [{"name": "http", "port": TARGET_PORT, "protocol": "TCP"}]
    for number, name in names.items():
        for version in VERSIONS:
            slice_of(cluster, name, version, endpoints(number, version), listening)


def slice_of(
    cluster: Cluster, service: str, version: int, addresses: Sequence[str], listening: Sequence[dict[str, object]]
) -> None:
    """An EndpointSlice by hand, for a Service without selector."""
    metadata = {"name": f"{service}-v{version}", "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": service}}  # fmt: skip
    cluster.api.request("POST", f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices", {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": f"IPv{version}",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": list(listening),
    })  # fmt: skip


def wait_frontends(cluster: Cluster, node: str, count: int) -> None:
    """Until the kernel of the node has so many addresses, and none is pending."""

    def there() -> bool:
        status = cluster.ask_agent(node, "/v1/healthz")
        rows = [entry["rows"] for entry in status["reconcilers"] if entry["name"] == "services"]
        return bool(rows) and not set(rows[0]) - {"Done"} and rows[0].get("Done", 0) >= count

    until(there, f"{count} frontends in the kernel", 120, interval=0.05)


def _text(number: int, version: int) -> str:
    return str(IPv6Address(number) if version == 6 else IPv4Address(number))
