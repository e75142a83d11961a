"""Ring buffer to stored columns: how fast, and what is lost at a given pace.

A child process lets the kernel run `from_lxc` on a packet that it drops, so that every run writes one event into a real
ring of 16 MiB. Every event sent is stored or counted as lost.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.figures import Figure, median
from bench.options import Options
from cilium.datapath.generated import RUNTIME
from cilium.datapath.loader import LoadedObject, load
from cilium.datapath.maps import PinnedMap
from cilium.datapath.paths import BPF_FILESYSTEM, OBJECT_DIRECTORY
from cilium.datapath.ringbuf import RingBuffer
from cilium.datapath.testrun import SkBuff, run_program
from cilium.hubble.collector import Collector
from cilium.hubble.losses import LossCounter
from cilium.hubble.ring import RingReader
from cilium.hubble.store import EventStore

RATE = 500_000
SECONDS, FULL_SECONDS = 10.0, 60.0
IDLE_SECONDS = 5.0
RING_BYTES = 1 << 24
CAPACITY = 65_535
ROUNDS = 15
TICK = 0.002
"""Seconds between two bursts of the paced writer."""
LOOPBACK = 1


def packet() -> bytes:
    """A TCP SYN from an address that no interface owns: dropped, and told."""
    ethernet = bytes.fromhex("02000000ff01020000000001") + b"\x08\x00"
    ip = bytes.fromhex("4500002800010000400600000a0000630a000002")
    return ethernet + ip + bytes.fromhex("9c4000500000000000000000500220000000" + "0000")


class Events:
    """The datapath's own program as a source of events."""

    def __init__(self, loaded: LoadedObject, pins: Path) -> None:
        self._program = loaded.programs["from_lxc"].fd
        self._packet = packet()
        self.ring = RingBuffer("cilium_events", pins, overlap=mmap.PAGESIZE)
        self.lost = LossCounter(PinnedMap("cilium_events_lost", pins))
        PinnedMap("cilium_runtime", pins).update(np.zeros(1, np.uint32), np.zeros(1, RUNTIME))

    def write(self, count: int) -> None:
        run_program(self._program, self._packet, context=SkBuff(ifindex=LOOPBACK), repeat=count)

    def write_paced(self, rate: int, seconds: float) -> int:
        """`rate` events per second in bursts; returns how many."""
        start, sent = time.perf_counter(), 0
        while (now := time.perf_counter() - start) < seconds:
            due = int(rate * now) - sent
            if due > 0:
                self.write(due)
                sent += due
            time.sleep(TICK)
        return sent


@contextmanager
def events() -> Iterator[Events]:
    pins = Path(tempfile.mkdtemp(prefix=f"bench-{os.getpid()}-", dir=BPF_FILESYSTEM))
    sizes = {"cilium_events": RING_BYTES}
    try:
        with load(OBJECT_DIRECTORY / "lxc.bpf.o", pin_dir=pins, max_entries=sizes, programs=["from_lxc"]) as loaded:
            yield Events(loaded, pins)
    finally:
        for pin in pins.iterdir():
            pin.unlink()
        pins.rmdir()


def capacity(source: Events) -> list[float]:
    """Events per second of CPU time from a full ring into the store, once per round."""
    store = EventStore(CAPACITY)
    reader = RingReader(source.ring, store.append)
    rates = []
    for _ in range(ROUNDS):
        source.write(reader.capacity)
        before, taken = time.process_time(), 0
        while run := reader.drain():
            taken += run
        rates.append(taken / (time.process_time() - before))
    return rates


async def paced(source: Events, rate: int, seconds: float) -> tuple[int, int, int, float]:
    """(sent, stored, lost, share of a core) of the collector while another process writes."""
    store = EventStore(CAPACITY)
    collector = Collector(source.ring, store, lost=source.lost)
    lost_before = source.lost()
    task = asyncio.ensure_future(collector.run())
    pipe_read, pipe_write = os.pipe()
    await asyncio.sleep(0)
    cpu, start = time.process_time(), time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            os.write(pipe_write, str(source.write_paced(rate, seconds)).encode())
        finally:
            os._exit(0)
    sent = int(await asyncio.to_thread(os.read, pipe_read, 32))
    share = (time.process_time() - cpu) / (time.perf_counter() - start)
    await asyncio.to_thread(os.waitpid, child, 0)
    task.cancel()
    collector.poll()
    return sent, store.end, source.lost() - lost_before, share


async def idle(source: Events, seconds: float) -> float:
    """Share of a core when nothing happens."""
    collector = Collector(source.ring, EventStore(CAPACITY), lost=source.lost)
    task = asyncio.ensure_future(collector.run())
    cpu, start = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    share = (time.process_time() - cpu) / (time.perf_counter() - start)
    task.cancel()
    return share


def run(options: Options) -> Iterator[Figure]:
    """Raises AssertionError when events vanished without being counted."""
    seconds = FULL_SECONDS if options.full else SECONDS
    with events() as source:
        rates = [rate / 1e6 for rate in capacity(source)]
        yield median("ring to stored columns", rates, unit="M events/s of a core", target=5, better="higher")
        sent, stored, lost, share = asyncio.run(paced(source, RATE, seconds))
        assert sent == stored + lost, f"{sent:,} sent, {stored:,} stored, {lost:,} lost"
        what = f"events at {sent / seconds:,.0f}/s for {seconds:g} s"
        yield Figure(name=f"{what}: lost", value=lost, target=0)
        yield Figure(name=f"{what}: collector", value=share * 100, unit="% of a core", target=50)
        resting = asyncio.run(idle(source, IDLE_SECONDS)) * 100
        yield Figure(name="collector without events", value=resting, unit="% of a core")
