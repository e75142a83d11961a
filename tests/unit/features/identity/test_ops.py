"""CiliumIdentities: how they are created, and when nobody needs one any more."""

from __future__ import annotations

from typing import Any

import pytest

from cilium.features.identity.collect import IdentityCollector
from cilium.features.identity.ops import IdentityRequestOps
from cilium.features.identity.rows import IdentityRequest
from cilium.tables.kubernetes import CiliumEndpoint, CiliumIdentity
from cilium.tables.types import Identity

REQUEST = IdentityRequest(("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"), Identity(4711))


class RefusedError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"refused with {status}")
        self.status = status


class Writes:
    def __init__(self, refusal: int = 0) -> None:
        self.bodies: list[Any] = []
        self._refusal = refusal

    async def create_identity(self, body: Any) -> None:
        if self._refusal:
            raise RefusedError(self._refusal)
        self.bodies.append(body)


async def test_the_object_carries_the_labels_and_its_number() -> None:
    writes = Writes()
    assert not await IdentityRequestOps(writes).update([REQUEST])
    (body,) = writes.bodies
    assert body["metadata"] == {"name": "4711", "labels": {"io.kubernetes.pod.namespace": "shop"}}
    assert body["security-labels"] == {"k8s:app": "web", "k8s:io.kubernetes.pod.namespace": "shop"}


@pytest.mark.parametrize(("status", "failed"), [(409, False), (403, True), (500, True)])
async def test_a_name_that_is_taken_is_no_error(status: int, failed: bool) -> None:
    errors = await IdentityRequestOps(Writes(status)).update([REQUEST])
    assert bool(errors) is failed


def test_an_identity_outlives_its_last_endpoint_for_a_while() -> None:
    collector = IdentityCollector(patience=60)
    web = CiliumIdentity(Identity(4711), ())
    pod = CiliumEndpoint("shop", "web-0", 7, Identity(4711), (), (), None)
    for now, endpoints, expected in (
        (0.0, [pod], []),
        (10.0, [], []),
        (69.0, [], []),
        (70.0, [], [4711]),
        (80.0, [pod], []),  # it came back: the time begins anew
        (130.0, [], []),
        (189.0, [], []),
        (190.0, [], [4711]),
    ):
        assert collector.collect(identities=[web], endpoints=endpoints, now=now) == expected, now
    assert collector.collect(identities=[], endpoints=[], now=1000.0) == []
