"""Who leads: one Lease, an API server that comes and goes."""

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
        if not self.answers:
            if self.hangs:
                await asyncio.Event().wait()
            raise OSError("connection refused")

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
