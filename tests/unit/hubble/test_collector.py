"""The collector: pace, clocks, losses."""

import asyncio

import pytest
from unit.hubble.world import MemoryRing, numbered, record

from cilium.hubble.collector import FASTEST, FOLLOWED, SLOWEST, Collector
from cilium.hubble.store import EventStore


class Kernel:
    """Clocks and the count of lost events."""

    def __init__(self) -> None:
        self.now, self.lost = 5_000_000_000, 0

    def collector(self, ring: MemoryRing, store: EventStore) -> Collector:
        return Collector(
            ring,
            store,
            lost=lambda: self.lost,
            monotonic_ns=lambda: self.now,
            time_ns=lambda: self.now + 1_000,
        )


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def store() -> EventStore:
    return EventStore(1000)


def test_events_get_unix_times(kernel: Kernel, store: EventStore) -> None:
    ring = MemoryRing()
    ring.write_all(record(time=42))
    kernel.collector(ring, store).poll()
    assert store.read(0, 1)["time"].tolist() == [1042]


def test_losses_are_told_exactly_and_once(kernel: Kernel, store: EventStore) -> None:
    kernel.lost = 100  # before this agent
    collector = kernel.collector(MemoryRing(), store)
    collector.poll()
    assert store.lost == 0
    kernel.lost = 112
    collector.poll()
    collector.poll()
    assert [loss.count for loss in store.losses(0, 1)] == [12]


def test_pace_follows_the_load(kernel: Kernel, store: EventStore) -> None:
    collector = kernel.collector(MemoryRing(1 << 24), store)
    assert collector.pace(5_000, 0.01) == pytest.approx(0.0246, abs=0.001)
    assert collector.pace(25_000, 0.001) == FASTEST
    assert collector.pace(100_000, 1.0) == FASTEST  # nearly full: who knows what was lost
    assert collector.pace(10, 1.0) == SLOWEST


def test_idle_slows_down_step_by_step(kernel: Kernel, store: EventStore) -> None:
    collector = kernel.collector(MemoryRing(), store)
    collector.interval = FASTEST
    for _ in range(20):
        collector.interval = collector.pace(0, 1.0)
    assert collector.interval == SLOWEST


async def test_a_follower_is_served_soon(kernel: Kernel, store: EventStore) -> None:
    collector = kernel.collector(MemoryRing(), store)
    waiter = asyncio.ensure_future(store.wait(0))
    await asyncio.sleep(0)
    assert collector.pace(0, 1.0) == FOLLOWED
    waiter.cancel()


async def test_the_task_collects_until_cancelled(store: EventStore) -> None:
    ring = MemoryRing(1 << 16)
    collector = Collector(ring, store)
    task = asyncio.ensure_future(collector.run())
    ring.write_all(numbered(100))
    async with asyncio.timeout(5):
        await store.wait(99)
    task.cancel()
    assert store.end == 100
    assert ring.consumer_position == ring.producer_position
