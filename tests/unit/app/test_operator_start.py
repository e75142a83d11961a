"""The operator and an API server that is not well: it waits; one that refuses for good is an error."""

from __future__ import annotations

from typing import Any

import pytest

from cilium.app import operator
from cilium.sources.kubernetes.errors import ApiError, Unreachable
from cilium.sources.kubernetes.source import Resource


class Server:
    """Answers with these failures first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.written = list(failures), 0

        self.there: dict[str, Any] = {}

    async def find(self, collection: str, name: str) -> Any:
        return self.there.get(name)

    async def ensure(self, collection: str, name: str, body: Any) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.written += 1
        self.there[name] = body


def refusal(status: int) -> ApiError:
    return ApiError(status, "Reason", "no", request="PATCH /x")


async def test_what_passes_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "RETRY", 0.0)
    server = Server(Unreachable("away"), refusal(500), refusal(503), refusal(409), refusal(429))
    await operator.ensure_crds(server)  # type: ignore[arg-type]  # the one method that is called
    assert not server.failures
    assert server.written == len(list(operator.crds.load()))


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_what_does_not_is_an_error(status: int) -> None:
    with pytest.raises(ApiError):
        await operator.ensure_crds(Server(refusal(status)))  # type: ignore[arg-type]


async def test_definitions_of_others_are_left_as_they_are() -> None:
    theirs, own = "clusternetworkpolicies.policy.networking.k8s.io", "ciliumnetworkpolicies.cilium.io"
    server = Server()
    server.there = {theirs: {"metadata": {"name": theirs}}, own: {"metadata": {"name": own}}}
    await operator.ensure_crds(server)  # type: ignore[arg-type]
    assert server.written == len(operator.crds.load()) - 1
    del server.there[theirs]
    await operator.ensure_crds(server)  # type: ignore[arg-type]
    await operator.ensure_crds(server)  # type: ignore[arg-type]  # what we wrote, we write again
    assert server.written == 3 * len(operator.crds.load()) - 1


async def test_what_is_switched_off_is_not_defined() -> None:
    server = Server()
    await operator.ensure_crds(server, without={Resource.CLUSTER_NETWORK_POLICIES.crd})  # type: ignore[arg-type]
    assert set(server.there) == {crd["metadata"]["name"] for crd in operator.crds.load()} - {
        "clusternetworkpolicies.policy.networking.k8s.io"
    }
