"""Leadership while the API server comes and goes: waited for, lost in time, begun anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cilium.app.leader import Leader, LeaseLostError


class FakeLease:
    """One Lease; `answers` False: nobody is there, and with `hangs` not even that is said."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.answers, self.hangs = True, False

    async def _reach(self) -> None:
        while not self.answers:
            if not self.hangs:
                raise OSError("connection refused")
            await asyncio.sleep(0.01)

    async def read(self) -> dict[str, Any] | None:
        await self._reach()
        return self.lease

    async def write(self, lease: dict[str, Any] | None, spec: dict[str, Any]) -> bool:
        await self._reach()
        self.lease = {"spec": spec}
        return True


def leader(lease: FakeLease, name: str = "a", *, deadline: float = 0.1) -> Leader:
    return Leader(leases=lease, identity=name, duration=15, renew_deadline=deadline, retry_period=0.01)


async def test_an_api_server_that_is_away_is_waited_for() -> None:
    lease = FakeLease()
    lease.answers = False
    waiting = asyncio.create_task(leader(lease).acquire())
    await asyncio.sleep(0.03)
    assert not waiting.done()
    lease.answers = True
    await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize("hangs", [False, True], ids=["refused", "silent"])
async def test_nobody_believes_to_lead_for_longer_than_the_deadline(hangs: bool) -> None:
    lease = FakeLease()
    one = leader(lease)
    await one.acquire()
    lease.answers, lease.hangs = False, hangs
    with pytest.raises(LeaseLostError, match="could not be renewed"):
        await asyncio.wait_for(one.hold(), 5)
    lease.answers = True
    await asyncio.wait_for(one.acquire(), 5)


async def test_a_lease_that_another_holds_is_lost() -> None:
    lease = FakeLease()
    one = leader(lease, deadline=60)
    await one.acquire()
    assert lease.lease is not None
    lease.lease["spec"]["holderIdentity"] = "b"
    with pytest.raises(LeaseLostError, match="held by b"):
        await asyncio.wait_for(one.hold(), 5)


async def test_work_begins_anew_with_every_lease_and_its_task_stays_sound() -> None:
    lease = FakeLease()
    one = leader(lease)
    begun, changed = 0, asyncio.Event()

    async def work(tasks: asyncio.TaskGroup) -> None:
        nonlocal begun
        begun += 1
        changed.set()
        tasks.create_task(asyncio.Event().wait())

    leading = asyncio.create_task(one.lead(work))
    for term in range(1, 4):
        await asyncio.wait_for(changed.wait(), 5)
        changed.clear()
        assert begun == term
        lease.answers, lease.hangs = False, term % 2 == 0
        await asyncio.sleep(0.2)
        lease.answers = True
    assert leading.cancelling() == 0
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading


async def test_an_error_of_the_work_is_told() -> None:
    async def work(tasks: asyncio.TaskGroup) -> None:
        raise RuntimeError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(leader(FakeLease()).lead(work), 5)
    assert caught.value.subgroup(RuntimeError) is not None
