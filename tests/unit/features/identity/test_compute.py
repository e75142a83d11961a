"""Which identity endpoints get, and which somebody has to create first."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest
from unit.features.derived import Derived

from cilium.features.identity.compute import EndpointIdentities, known_identities
from cilium.features.identity.labels import LabelFilter, security_labels
from cilium.state import Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.identities import CIDRIdentity, NodeIdentity, Reserved
from cilium.tables.kubernetes import CiliumIdentity, NamedPort, Namespace, Pod
from cilium.tables.types import EndpointId, Identity, Labels

SHOP = Namespace("shop", {}, {})
WEB = Pod("shop", "web-0", "u", "n1", {"app": "web"}, {}, named_ports=(NamedPort("http", 8080, "TCP"),))
ENDPOINT = Endpoint(EndpointId(7), "pod", (ip_address("10.0.0.7"),), namespace="shop", pod="web-0")


def labels(pod: Pod, namespace: Namespace = SHOP) -> Labels:
    return security_labels(pod, namespace, cluster="c1", labels=LabelFilter())


@pytest.fixture
async def world() -> Derived:
    identities: Table[Any, Any] = Table(
        "cilium-identities", key=lambda row: row.id, indexes={"labels": lambda row: (row.labels,)}
    )
    return Derived(
        inputs={
            "endpoints": lambda row: row.id,
            "pods": lambda row: row.key,
            "namespaces": lambda row: row.name,
            "cilium-identities": identities,
        },
        outputs={"endpoint-identities": lambda row: row.endpoint, "identity-requests": lambda row: row.labels},
        compute=EndpointIdentities(cluster="c1", labels=LabelFilter()).compute,
    )


def numbers(world: Derived) -> dict[int, int]:
    return {key: row.identity for key, row in world.rows("endpoint-identities").items()}


async def test_a_pod_nobody_knows_yet_has_no_identity_and_asks_for_none(world: Derived) -> None:
    world.put("endpoints", ENDPOINT)
    world.put("pods", WEB)
    assert (numbers(world), world.rows("identity-requests")) == ({}, {})


async def test_labels_without_an_identity_become_a_request_until_there_is_one(world: Derived) -> None:
    world.put("endpoints", ENDPOINT)
    world.put("pods", WEB)
    world.put("namespaces", SHOP)
    (request,) = world.rows("identity-requests").values()
    assert request.labels == labels(WEB)
    assert 256 <= request.candidate <= 65535
    world.put("cilium-identities", CiliumIdentity(request.candidate, labels(WEB)))
    assert numbers(world) == {7: request.candidate}
    assert world.rows("endpoint-identities")[7].named_ports == WEB.named_ports
    assert world.rows("identity-requests") == {}


async def test_a_candidate_that_others_took_is_replaced(world: Derived) -> None:
    world.put("endpoints", ENDPOINT)
    world.put("pods", WEB)
    world.put("namespaces", SHOP)
    (first,) = world.rows("identity-requests").values()
    world.put("cilium-identities", CiliumIdentity(first.candidate, ("k8s:app=other",)))
    (second,) = world.rows("identity-requests").values()
    assert second.candidate != first.candidate


async def test_of_two_identities_with_the_same_labels_every_node_takes_the_lower(world: Derived) -> None:
    world.put("cilium-identities", *(CiliumIdentity(Identity(number), labels(WEB)) for number in (4712, 4711)))
    world.put("namespaces", SHOP)
    world.put("pods", WEB)
    world.put("endpoints", ENDPOINT)
    assert numbers(world) == {7: 4711}


async def test_losing_sight_of_the_api_changes_nobodys_identity(world: Derived) -> None:
    world.put("cilium-identities", CiliumIdentity(Identity(4711), labels(WEB)))
    world.put("namespaces", SHOP)
    world.put("pods", WEB)
    world.put("endpoints", ENDPOINT)
    world.drop("pods", WEB.key)
    world.drop("namespaces", "shop")
    assert numbers(world) == {7: 4711}
    world.drop("endpoints", 7)
    assert numbers(world) == {}


async def test_other_labels_are_another_identity(world: Derived) -> None:
    api = msgspec.structs.replace(WEB, labels={"app": "api"})
    world.put("cilium-identities", CiliumIdentity(Identity(4711), labels(WEB)))
    world.put("namespaces", SHOP)
    world.put("pods", WEB)
    world.put("endpoints", ENDPOINT)
    world.put("pods", api)
    assert numbers(world) == {7: 4711}
    world.put("cilium-identities", CiliumIdentity(Identity(4712), labels(api)))
    assert numbers(world) == {7: 4712}
    relabelled = Namespace("shop", {"team": "a"}, {})
    world.put("namespaces", relabelled)
    assert set(world.rows("identity-requests")) == {labels(api, relabelled)}


@pytest.mark.parametrize(("kind", "identity"), [("host", Reserved.HOST), ("health", Reserved.HEALTH)])
async def test_the_nodes_own_endpoints_are_reserved(world: Derived, kind: str, identity: Reserved) -> None:
    world.put("endpoints", Endpoint(EndpointId(9), kind, ()))
    row = world.rows("endpoint-identities")[9]
    assert (row.identity, row.labels) == (identity, (identity.label,))


async def test_every_identity_this_node_has_to_know() -> None:
    world = Derived(
        inputs={
            "cilium-identities": lambda row: row.id,
            "cidr-identities": lambda row: row.prefix,
            "node-identities": lambda row: row.identity,
        },
        outputs={"identities": lambda row: row.id},
        compute=known_identities,
    )
    prefix = ip_network("fd00::/8")
    world.put("cilium-identities", CiliumIdentity(Identity(4711), ("k8s:app=web",)))
    world.put("cidr-identities", CIDRIdentity(prefix, Identity(1 << 24 | 1), ("cidr:fd00--0/8",)))
    assert {(row.id, row.source) for row in world.rows("identities").values()} == {
        (4711, "cluster"),
        (1 << 24 | 1, "cidr"),
    }
    world.put("cidr-identities", CIDRIdentity(prefix, Identity(1 << 24 | 2), ("cidr:fd00--0/8",)))
    world.drop("cilium-identities", 4711)
    assert set(world.rows("identities")) == {1 << 24 | 2}
    world.drop("cidr-identities", prefix)
    assert world.rows("identities") == {}
    world.put("node-identities", NodeIdentity(Identity(2 << 24 | 1), "n2", ("node:a=b", "reserved:remote-node")))
    world.put("node-identities", NodeIdentity(Identity(Reserved.HOST), "n1", ("node:a=c", "reserved:host")))
    assert {row.id: (row.labels[0], row.source) for row in world.rows("identities").values()} == {
        2 << 24 | 1: ("node:a=b", "remote-node"),
        1: ("node:a=c", "reserved"),
    }
    world.drop("node-identities", 2 << 24 | 1)
    assert set(world.rows("identities")) == {1}
