"""The store: sequence numbers, overwriting, losses and waiting."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.hubble.world import numbered, record, records

from cilium.datapath.generated import EventFlags
from cilium.hubble.store import EventStore, Loss


def lengths(store: EventStore, start: int, stop: int) -> list[int]:
    return store.read(start, stop)["length"].tolist()


@given(st.integers(1, 12), st.lists(st.integers(0, 30), max_size=12))
def test_the_newest_are_kept_under_their_numbers(capacity: int, runs: list[int]) -> None:
    store, total = EventStore(capacity), 0
    for run in runs:
        store.append(numbered(run, total))
        total += run
        assert store.end == total
        assert store.oldest == max(0, total - capacity)
        assert lengths(store, 0, total + 5) == list(range(store.oldest, total))
        middle = (store.oldest + total) // 2
        assert lengths(store, store.oldest, middle) == list(range(store.oldest, middle))


def test_what_was_read_stays_when_it_is_overwritten() -> None:
    store = EventStore(4)
    store.append(numbered(4))
    before = store.read(0, 4)
    store.append(numbered(4, 4))
    assert before["length"].tolist() == [0, 1, 2, 3]


def test_times_become_unix_times() -> None:
    store = EventStore(8)
    store.append(record(time=5), clock_offset=1000)
    assert store.read(0, 1)["time"].tolist() == [1005]


def test_flows_are_counted_as_they_expand() -> None:
    store = EventStore(2)
    both = EventFlags.EGRESS_DECIDED | EventFlags.INGRESS_DECIDED
    store.append(records(record(flags=0), record(flags=both), record(flags=EventFlags.INGRESS_DECIDED)))
    assert store.seen_flows == 6
    assert store.num_flows() == 5


def test_losses_keep_their_place() -> None:
    store = EventStore(8)
    store.append(numbered(2))
    store.note_loss(7, first=1, last=2)
    store.append(numbered(2, 2))
    assert store.lost == 7
    assert store.losses(0, 2) == []
    assert store.losses(2, 4) == [Loss(2, 7, 1, 2)]


async def test_waiting_ends_with_the_next_record_or_loss() -> None:
    store = EventStore(8)
    waiter = asyncio.ensure_future(store.wait(0))
    await asyncio.sleep(0)
    assert store.waiting == 1
    store.append(numbered(1))
    await waiter
    assert store.waiting == 0
    waiter = asyncio.ensure_future(store.wait(1))
    await asyncio.sleep(0)
    store.note_loss(1, first=0, last=0)
    await waiter
    await store.wait(0)


async def test_a_reader_who_goes_away_waits_no_more() -> None:
    store = EventStore(8)
    waiter = asyncio.ensure_future(store.wait(0))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert store.waiting == 0


def test_a_store_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="hubble-event-buffer-capacity"):
        EventStore(0)
