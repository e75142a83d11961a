"""One active operator: who gets the Lease, who keeps it, who has to end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cilium.app.leader import Leader, LeaseLostError


class Store:
    """One Lease of an API server; every write moves its resourceVersion."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.away = False

    async def read(self) -> dict[str, Any] | None:
        if self.away:
            raise OSError("connection refused")
        return self.lease

    async def write(self, lease: dict[str, Any] | None, spec: dict[str, Any]) -> bool:
        if self.away:
            raise OSError("connection refused")
        version = 0 if self.lease is None else self.lease["metadata"]["resourceVersion"]
        if (0 if lease is None else lease["metadata"]["resourceVersion"]) != version:
            return False
        self.lease = {"metadata": {"resourceVersion": version + 1}, "spec": spec}
        return True

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec


def leader(store: Any, name: str, *, duration: float = 15.0, deadline: float = 10.0) -> Leader:
    return Leader(leases=store, identity=name, duration=duration, renew_deadline=deadline, retry_period=0.001)


async def test_the_first_leads_and_the_second_waits() -> None:
    store = Store()
    await leader(store, "one").acquire()
    assert (store.spec["holderIdentity"], store.spec["leaseTransitions"]) == ("one", 0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await leader(store, "two").acquire()
    assert store.spec["holderIdentity"] == "one"


async def test_a_lease_that_does_not_move_is_taken_over() -> None:
    store = Store()
    await leader(store, "one", duration=0).acquire()
    async with asyncio.timeout(5):
        await leader(store, "two").acquire()
    assert (store.spec["holderIdentity"], store.spec["leaseTransitions"]) == ("two", 1)


async def test_a_lease_that_was_given_up_is_taken_at_once() -> None:
    store = Store()
    await leader(store, "one").acquire()
    store.spec["holderIdentity"] = ""
    async with asyncio.timeout(5):
        await leader(store, "two").acquire()
    assert store.spec["holderIdentity"] == "two"


async def test_whoever_leads_renews_and_keeps_the_time_of_its_beginning() -> None:
    store = Store()
    one = leader(store, "one")
    await one.acquire()
    began, renewed = store.spec["acquireTime"], store.spec["renewTime"]
    holding = asyncio.create_task(one.hold())
    async with asyncio.timeout(5):
        while store.spec["renewTime"] == renewed:  # noqa: ASYNC110 - a Lease is a thing one polls
            await asyncio.sleep(0)
    holding.cancel()
    assert (store.spec["acquireTime"], store.spec["leaseTransitions"]) == (began, 0)


async def test_whoever_lost_the_lease_ends() -> None:
    store = Store()
    one = leader(store, "one")
    await one.acquire()
    store.spec["holderIdentity"] = "two"
    async with asyncio.timeout(5):
        with pytest.raises(LeaseLostError, match="held by two"):
            await one.hold()


async def test_whoever_cannot_renew_in_time_ends() -> None:
    store = Store()
    one = leader(store, "one", deadline=0.02)
    await one.acquire()
    store.away = True
    async with asyncio.timeout(5):
        with pytest.raises(LeaseLostError, match="could not be renewed"):
            await one.hold()


async def test_of_two_that_write_at_once_one_leads() -> None:
    store = Store()
    stale = await store.read()
    await leader(store, "one").acquire()

    class Slow(Store):
        """Reads what was there before the other's write."""

        async def read(self) -> dict[str, Any] | None:
            return stale

        async def write(self, lease: dict[str, Any] | None, spec: dict[str, Any]) -> bool:
            return await store.write(lease, spec)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await leader(Slow(), "two").acquire()
    assert store.spec["holderIdentity"] == "one"
