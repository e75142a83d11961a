"""What a cluster starts with, over restarts of the API server."""

from __future__ import annotations

from typing import Any

from kubelab.apiserver.bootstrap import ENDPOINT_SLICES, create_namespaces, publish_addresses
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.services import SERVICE_RANGES


def published(store: Store) -> dict[str, Any]:
    return {
        row["metadata"]["name"]: (
            row["addressType"],
            [e["addresses"] for e in row["endpoints"]],
            row["ports"][0]["port"],
        )
        for row in store.peek_all(ENDPOINT_SLICES, namespace="default")
    }


async def test_the_service_kubernetes_has_the_api_servers_addresses(store: Store) -> None:
    await create_namespaces(store, SERVICE_RANGES)
    await publish_addresses(
        store, [("127.0.0.1", 6443), ("192.0.2.1", 6443), ("2001:db8::1", 6443), ("::1", 6443), ("0.0.0.0", 6443)]
    )
    assert published(store) == {
        "kubernetes": ("IPv4", [["192.0.2.1"]], 6443),
        "kubernetes-ipv6": ("IPv6", [["2001:db8::1"]], 6443),
    }
    slice_ = store.peek(ENDPOINT_SLICES, "kubernetes", namespace="default")
    assert slice_ is not None
    assert slice_["metadata"]["labels"]["kubernetes.io/service-name"] == "kubernetes"
    endpoints = store.peek("endpoints", "kubernetes", namespace="default")
    assert endpoints is not None
    assert endpoints["subsets"] == [
        {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}
    ]


async def test_a_restart_elsewhere_replaces_them_and_one_in_place_writes_nothing(store: Store) -> None:
    await create_namespaces(store, SERVICE_RANGES)
    await publish_addresses(store, [("192.0.2.1", 6443), ("2001:db8::1", 6443)])
    before = store.version
    await publish_addresses(store, [("192.0.2.1", 6443), ("2001:db8::1", 6443)])
    assert store.version == before
    await publish_addresses(store, [("192.0.2.9", 7443)])
    assert published(store) == {"kubernetes": ("IPv4", [["192.0.2.9"]], 7443)}
