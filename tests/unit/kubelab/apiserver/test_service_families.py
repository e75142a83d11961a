"""Services in clusters of one family, and of both with IPv6 first."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from kubelab.apiserver.bootstrap import create_namespaces
from kubelab.apiserver.builtins import builtin_resources
from kubelab.apiserver.errors import Invalid
from kubelab.apiserver.resources import Registry
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.catalog import StrategyCatalog
from kubelab.apiserver.strategies.services import ServiceRanges

V4, V6 = ip_network("10.96.0.0/24"), ip_network("fd00:10:96::/112")


async def cluster(ranges: ServiceRanges) -> Store:
    store = Store(Registry(builtin_resources()), strategies=StrategyCatalog(Schemas(), ranges))
    await create_namespaces(store, ranges)
    return store


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], **spec}}


@pytest.mark.parametrize(
    ("ranges", "families", "first"),
    [((V4,), ["IPv4"], "10.96.0.1"), ((V6,), ["IPv6"], "fd00:10:96::1"), ((V6, V4), ["IPv6", "IPv4"], "fd00:10:96::1")],
)
async def test_addresses_are_of_the_clusters_families(ranges: ServiceRanges, families: list[str], first: str) -> None:
    store = await cluster(ranges)
    kubernetes = store.peek("services", "kubernetes", namespace="default")
    assert kubernetes is not None
    assert (kubernetes["spec"]["clusterIPs"], kubernetes["spec"]["ipFamilies"]) == ([first], families[:1])
    made = await store.create("services", service(), namespace="default")
    assert (made["spec"]["ipFamilies"], made["spec"]["ipFamilyPolicy"]) == (families[:1], "SingleStack")
    assert ip_address(made["spec"]["clusterIP"]) in ranges[0]
    await store.delete("services", "web", namespace="default")
    made = await store.create("services", service(ipFamilyPolicy="PreferDualStack"), namespace="default")
    assert made["spec"]["ipFamilies"] == families
    pairs = zip(made["spec"]["clusterIPs"], ranges, strict=True)
    assert all(ip_address(address) in network for address, network in pairs)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"ipFamilyPolicy": "RequireDualStack"}, "spec.ipFamilyPolicy", "not configured for dual-stack services"),
        ({"ipFamilies": ["IPv6"]}, "spec.ipFamilies[0]", "not configured on this cluster"),
        ({"clusterIP": "fd00:10:96::77"}, "spec.ipFamilies[0]", "not configured on this cluster"),
    ],
)
async def test_what_the_cluster_does_not_have_is_refused(spec: dict[str, Any], field: str, message: str) -> None:
    store = await cluster((V4,))
    with pytest.raises(Invalid) as caught:
        await store.create("services", service(**spec), namespace="default")
    (cause,) = caught.value.causes
    assert cause.field == field
    assert message in cause.message
