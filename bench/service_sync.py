"""Services: what they cost the agent to keep.

Measured on the maps of the running kernel, from the bytes that the API serves: parsed, computed, written.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import numpy as np

from bench.figures import Figure, distribution, median
from bench.options import Options
from cilium.datapath.generated.maps import MAPS
from cilium.datapath.loader import load
from cilium.datapath.maps import PinnedMap
from cilium.datapath.nested import Nested
from cilium.datapath.paths import BPF_FILESYSTEM, OBJECT_DIRECTORY
from cilium.features.services.compute import Frontends
from cilium.features.services.maglev import Maglev
from cilium.features.services.ops import ServiceMaps
from cilium.settings.service_groups import ServiceSettings
from cilium.sources.kubernetes.decoders import decode_endpoint_slice, decode_service
from cilium.state import Derivation, Table
from cilium.tables.services import Algorithm, Backend, Frontend, Scope

MAGLEV, SEED = "cilium_lb_maglev", b"bench"
SERVICES, BACKENDS = 10_000, 10
SYNCS, CHANGES = 3, 200
SIZES = {"cilium_lb_backends": 262_144, "cilium_lb_slots": 524_288, "cilium_lb_affinity_match": 524_288}
TABLES, SHARING, ENTRIES = 1_000, 100, 16_381


def run(options: Options) -> Iterator[Figure]:
    yield from keep()
    yield from everything()
    yield from tables()


class Kernel:
    """Maps of their own, and a derivation that feeds them as the agent's does."""

    def __init__(self, pins: Path) -> None:
        self.services: Table[str, Any] = Table("services", key=lambda row: row.key)
        self.slices: Table[str, Any] = Table("endpoint-slices", key=lambda row: row.key)
        self.frontends: Table[Any, Any] = Table("frontends", key=lambda row: row.key)
        self.findings: Table[Any, Any] = Table("service-findings", key=lambda row: row.key)
        self.writers = self.services.writer("bench"), self.slices.writer("bench")
        self._changes = self.frontends.changes()
        self._derivation = Derivation(
            "services", inputs={"services": self.services, "endpoint-slices": self.slices},
            outputs={
                "frontends": self.frontends.writer("bench"), "service-findings": self.findings.writer("bench"),
            },
            compute=Frontends(
                node="n1", versions=frozenset({4, 6}), settings=ServiceSettings(replacement=True)
            ).compute,
        )  # fmt: skip
        maps = {name: PinnedMap(name, pins) for name in MAPS if name.startswith("cilium_lb_")}
        nested = {MAGLEV: Nested(maps.pop(MAGLEV))}
        self._operations = ServiceMaps(maps=maps, nested=nested, maglev=Maglev(size=ENTRIES, seed=SEED))

    def take(self, services: list[bytes], slices: list[bytes]) -> None:
        """From bytes to the kernel."""
        self.writers[0].commit([decode_service(raw) for raw in services], [])
        self.writers[1].commit([decode_endpoint_slice(raw) for raw in slices], [])
        self._derivation.step()
        self.write([change.new for change in self._changes.pop() if change.new is not None])

    def write(self, rows: list[Frontend]) -> None:
        errors = self._operations.update(rows)
        assert not errors, next(iter(errors.values()))


@contextmanager
def empty_maps() -> Iterator[Path]:
    """Where they are pinned."""
    pins = BPF_FILESYSTEM / f"bench-services-{os.getpid()}"
    try:
        with load(OBJECT_DIRECTORY / "sock.bpf.o", pin_dir=pins, max_entries=SIZES):
            yield pins
    finally:
        shutil.rmtree(pins, ignore_errors=True)


def keep() -> Iterator[Figure]:
    """Full syncs, each into empty maps, then single changes and a restart over full maps."""
    services = [service(number) for number in range(SERVICES)]
    slices = [endpoint_slice(number, BACKENDS) for number in range(SERVICES)]
    times, memory = [], []
    for _ in range(SYNCS):
        with empty_maps() as pins:
            before = resident()
            kernel = Kernel(pins)
            times.append(seconds(kernel.take, services, slices))
            memory.append(resident() - before)
            changed = list(changes(kernel))
            slices = [endpoint_slice(number, BACKENDS) for number in range(SERVICES)]
            again = seconds(Kernel(pins).take, services, slices)
    yield median(f"services: full sync of {SERVICES:,} with {BACKENDS} backends each", times, unit="s", target=3)
    yield from distribution("services: one changed backend among them", changed, unit="ms", target=10)
    yield Figure(name="services: a restart over maps that have them", value=again, unit="s", target=3)
    yield Figure(name="services: memory of the first sync", value=memory[0], unit="MB", target=120)


def everything() -> Iterator[Figure]:
    """Node ports, which are asked from inside and outside, and clients that stay with a backend."""
    services = [service(number, {"type": "NodePort", "sessionAffinity": "ClientIP"}) for number in range(SERVICES)]
    slices = [endpoint_slice(number, BACKENDS) for number in range(SERVICES)]
    with empty_maps() as pins:
        kernel = Kernel(pins)
        first = seconds(kernel.take, services, slices)
        rows = len(kernel.frontends.snapshot())
        changed = list(changes(kernel))
    name = f"services: full sync of {SERVICES:,} node ports with affinity, {rows:,} rows"
    yield Figure(name=name, value=first, unit="s")
    yield from distribution("services: one changed backend among those", changed, unit="ms", target=10)


def tables() -> Iterator[Figure]:
    """Maglev tables of services that share nothing; what a backend that goes takes with it."""
    maglev = Maglev(size=ENTRIES, seed=SEED)
    sets = [[f"{number} {end}".encode() for end in range(SHARING)] for number in range(TABLES)]
    times = [seconds(computed, maglev, sets) for _ in range(SYNCS)]
    yield median(f"Maglev: {TABLES:,} tables of {SHARING} backends, {ENTRIES:,} entries", times, unit="s", target=2)
    moved = [disruption(maglev, names, number % SHARING) for number, names in enumerate(sets[:CHANGES])]
    yield median("Maglev: moved beyond the unavoidable when 1 of 100 goes", moved, unit="%", target=1)
    with empty_maps() as pins:
        kernel = Kernel(pins)
        rows = [balanced(number, SHARING) for number in range(TABLES)]
        yield Figure(name="Maglev: those services into the kernel", value=seconds(kernel.write, rows), unit="s")
        one = [seconds(kernel.write, [balanced(number, SHARING - 1)]) * 1000 for number in range(50)]
    # Without a target: most of it is the kernel's wait for programs that use the old table.
    yield from distribution("Maglev: one changed backend among them", one, unit="ms")


def computed(maglev: Maglev, sets: list[list[bytes]]) -> None:
    for names in sets:
        maglev.table(names, [1] * SHARING)


def disruption(maglev: Maglev, names: list[bytes], gone: int) -> float:
    """Percent of the table."""
    rest = names[:gone] + names[gone + 1 :]
    before = np.array(names)[maglev.table(names, [1] * len(names))]
    after = np.array(rest)[maglev.table(rest, [1] * len(rest))]
    return float(((before != after) & (before != names[gone])).mean() * 100)


def balanced(number: int, count: int) -> Frontend:
    """A row that is asked from outside."""
    ends = tuple(Backend(IPv4Address(0x0A000000 + number * 128 + end), 8080) for end in range(count))
    return Frontend(
        IPv4Address(0xC6120000 + number), 80, "TCP", f"bench/s{number}", "http", "LoadBalancer", ends,
        scope=Scope.EXTERNAL, algorithm=Algorithm.MAGLEV,
    )  # fmt: skip


def changes(kernel: Kernel) -> Iterator[float]:
    """Milliseconds until one backend more or less is in the kernel."""
    for number in range(CHANGES):
        raw = [endpoint_slice(number % SERVICES, BACKENDS + 1 - number % 2)]
        yield seconds(kernel.take, [], raw) * 1000


def seconds(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def service(number: int, more: dict[str, str] | None = None) -> bytes:
    """Even numbers are IPv4, odd ones IPv6."""
    version = 6 if number % 2 else 4
    ip = str(IPv6Address(0xFD96 << 112 | number)) if version == 6 else str(IPv4Address(0x0A600000 + number))
    metadata = {"name": f"s{number}", "namespace": "bench", "creationTimestamp": "2026-01-01T00:00:00Z"}
    ports: list[dict[str, Any]] = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    if more:
        ports[0]["nodePort"] = 30_000 + number
    spec = {"clusterIP": ip, "clusterIPs": [ip], "ports": ports} | (more or {})
    return json.dumps({"metadata": metadata, "spec": spec}).encode()


def endpoint_slice(number: int, count: int) -> bytes:
    version = 6 if number % 2 else 4
    base = number * 16
    ips = [
        str(IPv6Address(0xFD00 << 112 | base + n)) if version == 6 else str(IPv4Address(0x0A000000 + base + n))
        for n in range(count)
    ]
    conditions = {"ready": True, "serving": True, "terminating": False}
    return json.dumps({
        "metadata": {
            "name": f"s{number}-x", "namespace": "bench", "labels": {"kubernetes.io/service-name": f"s{number}"}
        },
        "addressType": f"IPv{version}",
        "endpoints": [{"addresses": [ip], "conditions": conditions, "nodeName": "n2"} for ip in ips],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }).encode()  # fmt: skip


def resident() -> float:
    """Megabytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
