"""Services: what they cost the agent to keep.

Measured on the maps of the running kernel, from the bytes that the API serves: parsed, computed, written.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

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
from cilium.sources.kubernetes.decoders import decode_endpoint_slice, decode_service
from cilium.state import Derivation, Table

MAGLEV = "cilium_lb_maglev"
SERVICES, BACKENDS = 10_000, 10
SYNCS, CHANGES = 3, 200
SIZES = {"cilium_lb_backends": 262_144, "cilium_lb_slots": 524_288}


def run(options: Options) -> Iterator[Figure]:
    yield from keep()


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
            compute=Frontends(node="n1", versions=frozenset({4, 6})).compute,
        )  # fmt: skip
        maps = {name: PinnedMap(name, pins) for name in MAPS if name.startswith("cilium_lb_")}
        nested = {MAGLEV: Nested(maps.pop(MAGLEV))}
        self._operations = ServiceMaps(maps=maps, nested=nested, maglev=Maglev(size=16381, seed=b"bench"))

    def take(self, services: list[bytes], slices: list[bytes]) -> None:
        """From bytes to the kernel."""
        self.writers[0].commit([decode_service(raw) for raw in services], [])
        self.writers[1].commit([decode_endpoint_slice(raw) for raw in slices], [])
        self._derivation.step()
        errors = self._operations.update([change.new for change in self._changes.pop() if change.new is not None])
        assert not errors, next(iter(errors.values()))


def keep() -> Iterator[Figure]:
    """Full syncs, each into empty maps, then single changes and a restart over full maps."""
    services = [service(number) for number in range(SERVICES)]
    slices = [endpoint_slice(number, BACKENDS) for number in range(SERVICES)]
    times, memory = [], []
    pins = BPF_FILESYSTEM / f"bench-services-{os.getpid()}"
    for _ in range(SYNCS):
        try:
            with load(OBJECT_DIRECTORY / "sock.bpf.o", pin_dir=pins, max_entries=SIZES):
                before = resident()
                kernel = Kernel(pins)
                start = time.perf_counter()
                kernel.take(services, slices)
                times.append(time.perf_counter() - start)
                memory.append(resident() - before)
                changed = list(changes(kernel))
                start = time.perf_counter()
                Kernel(pins).take(services, [endpoint_slice(n, BACKENDS) for n in range(SERVICES)])
                again = time.perf_counter() - start
        finally:
            shutil.rmtree(pins, ignore_errors=True)
    yield median(f"services: full sync of {SERVICES:,} with {BACKENDS} backends each", times, unit="s", target=3)
    yield from distribution("services: one changed backend among them", changed, unit="ms", target=10)
    yield Figure(name="services: a restart over maps that have them", value=again, unit="s", target=3)
    yield Figure(name="services: memory of the first sync", value=memory[0], unit="MB", target=120)


def changes(kernel: Kernel) -> Iterator[float]:
    """Milliseconds until one backend more or less is in the kernel."""
    for number in range(CHANGES):
        raw = [endpoint_slice(number % SERVICES, BACKENDS + 1 - number % 2)]
        start = time.perf_counter()
        kernel.take([], raw)
        yield (time.perf_counter() - start) * 1000


def service(number: int) -> bytes:
    """Even numbers are IPv4, odd ones IPv6."""
    version = 6 if number % 2 else 4
    ip = str(IPv6Address(0xFD96 << 112 | number)) if version == 6 else str(IPv4Address(0x0A600000 + number))
    metadata = {"name": f"s{number}", "namespace": "bench", "creationTimestamp": "2026-01-01T00:00:00Z"}
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return json.dumps({"metadata": metadata, "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": ports}}).encode()


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
