"""The ring reader against the kernel's layout: wrap, BUSY, DISCARD, records of another size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.hubble.world import MemoryRing, numbered, record

from cilium.hubble.ring import STRIDE, RingReader


class Sink:
    def __init__(self) -> None:
        self.lengths: list[int] = []

    def __call__(self, records: np.ndarray) -> None:
        self.lengths += records["length"].tolist()


@pytest.fixture
def ring() -> MemoryRing:
    return MemoryRing(4096)


@pytest.fixture
def sink() -> Sink:
    return Sink()


def test_everything_written_arrives_in_order(ring: MemoryRing, sink: Sink) -> None:
    ring.write_all(numbered(20))
    assert RingReader(ring, sink).drain() == 20
    assert sink.lengths == list(range(20))
    assert ring.consumer_position == 20 * STRIDE


def test_records_that_cross_the_end_are_whole(ring: MemoryRing, sink: Sink) -> None:
    reader = RingReader(ring, sink)
    for start in range(0, 200, 25):
        ring.write_all(numbered(25, start))
        reader.drain()
    assert sink.lengths == list(range(200))


def test_reading_stops_at_a_record_being_written(ring: MemoryRing, sink: Sink) -> None:
    reader = RingReader(ring, sink)
    ring.write_all(numbered(3))
    position = ring.write(numbered(1, 3)[0].tobytes(), busy=True)
    ring.write_all(numbered(2, 4))
    assert reader.drain() == 3
    assert ring.consumer_position == position
    ring.finish(position)
    assert reader.drain() == 3
    assert sink.lengths == [0, 1, 2, 3, 4, 5]


def test_discarded_records_are_skipped_and_counted(ring: MemoryRing, sink: Sink) -> None:
    reader = RingReader(ring, sink)
    for number in range(6):
        ring.write(numbered(1, number)[0].tobytes(), discard=number % 2 == 1)
    reader.drain()
    assert sink.lengths == [0, 2, 4]
    assert reader.counters.discarded == 3
    assert reader.counters.records == 3


def test_records_of_another_size_are_skipped_and_counted(ring: MemoryRing, sink: Sink) -> None:
    reader = RingReader(ring, sink)
    ring.write_all(numbered(1))
    ring.write(b"x" * 13)
    ring.write(b"y" * 300, discard=True)
    ring.write_all(numbered(2, 1))
    reader.drain()
    assert sink.lengths == [0, 1, 2]
    assert (reader.counters.foreign, reader.counters.discarded) == (1, 1)
    assert ring.consumer_position == ring.producer_position


def test_a_short_foreign_record_being_written_stops_the_reader(ring: MemoryRing, sink: Sink) -> None:
    reader = RingReader(ring, sink)
    position = ring.write(b"", busy=True)
    assert reader.drain() == 0
    ring.finish(position)
    reader.drain()
    assert ring.consumer_position == ring.producer_position


def test_limit_bounds_one_drain(ring: MemoryRing, sink: Sink) -> None:
    ring.write_all(numbered(20))
    reader = RingReader(ring, sink)
    assert reader.drain(8) == 8
    assert reader.drain(100) == 12


def test_a_ring_of_odd_size_is_refused(sink: Sink) -> None:
    with pytest.raises(ValueError, match="no power of two"):
        RingReader(MemoryRing(4000), sink)


@given(st.lists(st.tuples(st.sampled_from(["event", "discard", "foreign", "drain"]), st.integers(0, 600)), max_size=80))
def test_any_mix_arrives_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    ring, sink, expected = MemoryRing(2048), Sink(), []
    reader = RingReader(ring, sink)
    for number, (step, size) in enumerate(steps):
        try:
            if step == "event":
                ring.write(record(length=number)[0].tobytes())
                expected.append(number)
            elif step == "discard":
                ring.write(record(length=number)[0].tobytes(), discard=True)
            elif step == "foreign" and size != 128:
                ring.write(b"z" * size)
            else:
                reader.drain()
        except BlockingIOError:
            reader.drain()
    reader.drain()
    assert sink.lengths == expected
    assert ring.consumer_position == ring.producer_position
