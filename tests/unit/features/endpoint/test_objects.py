"""CiliumEndpoints of this node: what is written, what is removed, whose are left alone."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec

from cilium.features.endpoint.collect import EndpointCollector
from cilium.features.endpoint.ops import EndpointObjectOps, endpoint_body
from cilium.features.endpoint.rows import EndpointObject
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.state import Table
from cilium.tables.kubernetes import CiliumEndpoint, NamedPort
from cilium.tables.types import Identity

WEB = EndpointObject(
    namespace="shop", name="web-0", endpoint=7, pod_uid="u7", identity=Identity(4711), labels=("k8s:app=web",),
    addresses=(ip_address("10.0.0.7"), ip_address("fd00::7")), node_ip=ip_address("172.30.0.1"),
    named_ports=(NamedPort("http", 8080, "TCP"),), ingress_enforced=True, egress_enforced=False,
)  # fmt: skip


class Writes:
    """The API: (namespace, name) to node IP; `refuses` is a name that cannot be written."""

    def __init__(self, *, refuses: str = "", **present: str) -> None:
        self.objects: dict[tuple[str, str], Any] = {("shop", name): node for name, node in present.items()}
        self._refuses = refuses

    async def apply_endpoint(self, namespace: str, name: str, body: Any) -> None:
        if name == self._refuses:
            raise OSError("the API server is away")
        self.objects[namespace, name] = body["status"]["networking"]["node"]

    async def delete_endpoint(self, namespace: str, name: str, *, node_ip: str) -> None:
        if self.objects.get((namespace, name)) == node_ip:
            del self.objects[namespace, name]

    def published(self) -> Table[str, CiliumEndpoint]:
        """What the watch shows of it."""
        table = KubernetesTables().cilium_endpoints
        writer = table.writer("test")
        writer.commit(
            CiliumEndpoint(namespace, name, 1, Identity(9), (), (), ip_address(node))
            for (namespace, name), node in self.objects.items()
        )
        writer.ready()
        return table


def test_the_object_is_its_pods() -> None:
    body = endpoint_body(WEB)
    assert body["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "u7"}]
    assert body["status"]["networking"] == {
        "addressing": [{"ipv4": "10.0.0.7", "ipv6": "fd00::7"}],
        "node": "172.30.0.1",
    }
    assert body["status"]["named-ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert body["status"]["policy"] == {
        "ingress": {"enforcing": True, "state": "ENABLED"},
        "egress": {"enforcing": False, "state": "DISABLED"},
    }


async def test_one_object_that_is_refused_leaves_the_others() -> None:
    writes = Writes(refuses="web-1")
    rows = [WEB, *(msgspec.structs.replace(WEB, name=name) for name in ("web-1", "web-2"))]
    operations = EndpointObjectOps(writes=writes, node_ip=ip_address("172.30.0.1"), published=writes.published())
    assert set(await operations.update(rows)) == {"shop/web-1"}
    assert set(writes.objects) == {("shop", "web-0"), ("shop", "web-2")}
    assert not await operations.delete([WEB, WEB])
    assert set(writes.objects) == {("shop", "web-2")}


async def test_pruning_leaves_the_objects_of_other_nodes() -> None:
    writes = Writes(**{"web-0": "172.30.0.1", "left": "172.30.0.1", "other": "172.30.0.2"})
    operations = EndpointObjectOps(writes=writes, node_ip=ip_address("172.30.0.1"), published=writes.published())
    await operations.prune([WEB])
    assert set(writes.objects) == {("shop", "web-0"), ("shop", "other")}


def test_an_object_is_collected_when_its_pod_was_missing_twice() -> None:
    collector = EndpointCollector()
    one, two = (CiliumEndpoint("shop", name, 1, Identity(9), (), (), None) for name in ("one", "two"))
    assert collector.collect(endpoints=[one, two], pods={"shop/one"}) == []
    assert collector.collect(endpoints=[one, two], pods={"shop/two"}) == []
    assert collector.collect(endpoints=[one, two], pods=set()) == [one]
