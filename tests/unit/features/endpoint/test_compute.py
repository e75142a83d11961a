"""What the datapath and the API are to show of an endpoint, as its identity and its policy become known."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
from unit.features.derived import Derived

from cilium.features.endpoint.compute import EndpointMap, EndpointObjects
from cilium.tables.endpoints import Endpoint, EndpointIdentity, EndpointPolicy
from cilium.tables.identities import Reserved
from cilium.tables.kubernetes import CiliumEndpoint, Pod
from cilium.tables.types import EndpointId, Identity, Ifindex, PolicyId

V4, V6 = ip_address("10.0.0.7"), ip_address("fd00::7")
WEB = Endpoint(
    EndpointId(7), "pod", (V4, V6), container_id="c1", ifname="lxc7", ifindex=Ifindex(12),
    mac="02:00:00:00:00:07", host_mac="02:00:00:00:00:08", namespace="shop", pod="web-0", pod_uid="u7",
)  # fmt: skip
IDENTITY = EndpointIdentity(EndpointId(7), Identity(4711), ("k8s:app=web",))
POLICY = EndpointPolicy(EndpointId(7), Identity(4711), PolicyId(3), PolicyId(0), revision=1)
HOST = Endpoint(EndpointId(65535), "host", (ip_address("172.30.0.1"),))


def derived(compute: Any, output: str, key: Any) -> Derived:
    return Derived(
        inputs={
            "endpoints": lambda row: row.id,
            "endpoint-identities": lambda row: row.endpoint,
            "endpoint-policies": lambda row: row.endpoint,
            "cilium-endpoints": lambda row: row.key,
            "pods": lambda row: row.key,
        },
        outputs={output: key},
        compute=compute,
    )


@pytest.fixture
async def rows() -> Derived:
    return derived(EndpointMap().compute, "endpoint-map", lambda row: row.address)


@pytest.fixture
async def objects() -> Derived:
    compute = EndpointObjects(node_ip=ip_address("172.30.0.1")).compute
    return derived(compute, "endpoint-objects", lambda row: row.key)


def seen(world: Derived) -> dict[str, tuple[int, int, bool]]:
    found = world.rows("endpoint-map").values()
    return {str(row.address): (row.identity, row.ingress_policy, row.not_ready) for row in found}


async def test_an_endpoint_is_closed_until_its_policy_is_known(rows: Derived) -> None:
    rows.put("endpoints", WEB)
    assert seen(rows) == dict.fromkeys(("10.0.0.7", "fd00::7"), (Reserved.INIT, 0, True))
    rows.put("endpoint-identities", IDENTITY)
    assert seen(rows) == dict.fromkeys(("10.0.0.7", "fd00::7"), (4711, 0, True))
    rows.put("endpoint-policies", POLICY)
    assert seen(rows) == dict.fromkeys(("10.0.0.7", "fd00::7"), (4711, 3, False))


async def test_identity_and_policy_change_together(rows: Derived) -> None:
    rows.put("endpoints", WEB)
    rows.put("endpoint-identities", IDENTITY)
    rows.put("endpoint-policies", POLICY)
    rows.put("endpoint-identities", msgspec.structs.replace(IDENTITY, identity=Identity(4712)))
    assert seen(rows)["10.0.0.7"] == (4711, 3, False)
    rows.put("endpoint-policies", msgspec.structs.replace(POLICY, identity=Identity(4712), ingress=PolicyId(4)))
    assert seen(rows)["10.0.0.7"] == (4712, 4, False)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(None, (Reserved.HOST, 0, False)), (PolicyId(5), (Reserved.HOST, 5, False))],
)
async def test_the_node_is_reachable_without_a_policy(
    rows: Derived, policy: PolicyId | None, expected: tuple[int, int, bool]
) -> None:
    rows.put("endpoints", HOST)
    if policy is not None:
        rows.put("endpoint-policies", EndpointPolicy(HOST.id, Identity(Reserved.HOST), policy, PolicyId(0), 1))
    assert seen(rows) == {"172.30.0.1": expected}


@pytest.mark.parametrize(("kind", "health"), [("pod", False), ("health", True)])
async def test_flags_of_the_kind(rows: Derived, kind: str, health: bool) -> None:
    rows.put("endpoints", msgspec.structs.replace(WEB, kind=kind))
    rows.put("endpoint-policies", msgspec.structs.replace(POLICY, audit=True))
    row = rows.rows("endpoint-map")[V4]
    assert (row.host, row.health, row.audit) == (False, health, True)


async def test_addresses_that_move_or_go(rows: Derived) -> None:
    rows.put("endpoints", WEB)
    rows.put("endpoints", msgspec.structs.replace(WEB, addresses=(V4, ip_address("fd00::8"))))
    assert set(seen(rows)) == {"10.0.0.7", "fd00::8"}
    heir = msgspec.structs.replace(WEB, id=EndpointId(8), addresses=(V4,), ifindex=Ifindex(13))
    rows.put("endpoints", heir, instead_of=[7])
    assert {str(address): row.ifindex for address, row in rows.rows("endpoint-map").items()} == {"10.0.0.7": 13}
    rows.drop("endpoints", 8)
    assert seen(rows) == {}


async def test_an_address_of_two_endpoints_stays_with_the_one_that_stays(rows: Derived) -> None:
    """Such as one that a device of the node has had for a moment."""
    rows.put("endpoints", WEB)
    rows.put("endpoints", msgspec.structs.replace(HOST, addresses=(V4,)))
    rows.drop("endpoints", HOST.id)
    assert rows.rows("endpoint-map")[V4].ifindex == WEB.ifindex


async def test_a_pod_is_published_once_its_identity_is_known(objects: Derived) -> None:
    objects.put("endpoints", WEB, HOST)
    assert objects.rows("endpoint-objects") == {}
    objects.put("endpoint-identities", IDENTITY, EndpointIdentity(HOST.id, Identity(1), ()))
    assert set(objects.rows("endpoint-objects")) == {"shop/web-0"}
    objects.put("endpoint-policies", POLICY)
    row = objects.rows("endpoint-objects")["shop/web-0"]
    assert (row.identity, row.ingress_enforced, row.egress_enforced) == (4711, True, False)
    objects.drop("endpoints", 7)
    assert objects.rows("endpoint-objects") == {}


async def test_a_new_sandbox_of_a_pod_keeps_its_object(objects: Derived) -> None:
    objects.put("endpoints", WEB)
    objects.put("endpoint-identities", IDENTITY, msgspec.structs.replace(IDENTITY, endpoint=EndpointId(8)))
    objects.put("endpoints", msgspec.structs.replace(WEB, id=EndpointId(8), addresses=(V4,)))
    objects.drop("endpoints", 7)
    assert objects.rows("endpoint-objects")["shop/web-0"].endpoint == 8


PUBLISHED = CiliumEndpoint("shop", "web-0", 7, Identity(4711), (), (V4, V6), ip_address("172.30.0.1"), pod_uid="u7")
POD = Pod("shop", "web-0", "u7", "n1", {}, {})


async def test_an_object_that_somebody_deletes_is_written_again(objects: Derived) -> None:
    objects.put("endpoints", WEB)
    objects.put("endpoint-identities", IDENTITY)
    objects.put("pods", POD)
    first = objects.rows("endpoint-objects")["shop/web-0"]
    for time in (1, 2):
        objects.put("cilium-endpoints", PUBLISHED, msgspec.structs.replace(PUBLISHED, name="other"))
        revision = objects.outputs["endpoint-objects"].revision
        objects.drop("cilium-endpoints", "shop/other")
        assert objects.outputs["endpoint-objects"].revision == revision, "not ours"
        objects.drop("cilium-endpoints", "shop/web-0")
        assert objects.rows("endpoint-objects")["shop/web-0"] == msgspec.structs.replace(first, deletions=time)
    objects.put("cilium-endpoints", PUBLISHED)
    objects.drop("endpoints", 7)
    objects.drop("cilium-endpoints", "shop/web-0")
    assert objects.rows("endpoint-objects") == {}


@pytest.mark.parametrize("pod", [None, msgspec.structs.replace(POD, uid="u8")])
async def test_an_object_goes_with_its_pod(objects: Derived, pod: Pod | None) -> None:
    """Who writes it again would have it deleted again, by the API server's garbage collection."""
    objects.put("endpoints", WEB)
    objects.put("endpoint-identities", IDENTITY)
    objects.put("pods", POD)
    objects.put("cilium-endpoints", PUBLISHED)
    objects.put("pods", *([pod] if pod else []), instead_of=[] if pod else ["shop/web-0"])
    objects.drop("cilium-endpoints", "shop/web-0")
    assert objects.rows("endpoint-objects")["shop/web-0"].deletions == 0
