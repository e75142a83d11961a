"""Two ways between two namespaces, compared: latency of requests and connections, throughput per CPU-second.

In: routes (client, server, addresses). Out: figures, ratios of the first route against the second. Both take turns
round by round, both ends of both share one CPU, and a round's ratio is that of neighbours in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Better, Figure, median
from bench.tool import PORT, Server, Tool

SECONDS = 0.4
NAMES = {4: "IPv4", 6: "IPv6"}


@dataclass(frozen=True, slots=True)
class Route:
    """Where a client and a server live, and the server's addresses by IP version."""

    client: str
    server: str
    addresses: Mapping[int, str]
    cgroup: Path | None = None
    """Of the client; none: that of the benchmark."""


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of traffic and how it should compare."""

    mode: str
    name: str
    ratio: float
    better: Better


def targets(*, rr: float, crr: float, throughput: float) -> tuple[Target, ...]:
    return (
        Target("rr", "request/response latency", rr, "lower"),
        Target("crr", "connect-request-close latency", crr, "lower"),
        Target("stream", "throughput per CPU-second", throughput, "higher"),
    )


def compare(
    tool: Tool, what: str, ours: Route, kernel: Route, wanted: Iterable[Target], *, rounds: int
) -> Iterable[Figure]:
    with ExitStack() as stack:
        servers = [stack.enter_context(tool.server(route.server)) for route in (ours, kernel)]
        for target in wanted:
            for family in (4, 6):
                ratios, absolute = [], []
                for number in range(rounds + 1):
                    pair = [(ours, servers[0]), (kernel, servers[1])]
                    order = pair if number % 2 else pair[::-1]
                    values = {route.client: _once(tool, target.mode, route, server, family) for route, server in order}
                    if number:  # the first round warms caches and neighbour tables
                        ratios.append(values[ours.client] / values[kernel.client])
                        absolute.append(values[kernel.client])
                yield median(
                    f"{what}: {target.name}, {NAMES[family]}", ratios, target=target.ratio, better=target.better,
                    note=_note(target.mode, absolute),
                )  # fmt: skip


def _once(tool: Tool, mode: str, route: Route, server: Server, family: int) -> float:
    """Nanoseconds of the median transaction, or bytes per CPU-second of both ends."""
    address = route.addresses[family]
    if mode != "stream":
        return float(tool.run(route.client, mode, address, PORT, SECONDS, cgroup=route.cgroup)["median"])
    before = server.cpu
    result = tool.run(route.client, mode, address, PORT + 1, SECONDS, cgroup=route.cgroup)
    return float(result["bytes"] / (result["cpu"] + server.cpu - before) * 1e9)


def _note(mode: str, absolute: list[float]) -> str:
    middle = sorted(absolute)[len(absolute) // 2]
    return f"kernel: {middle / 1000:.1f} µs" if mode != "stream" else f"kernel: {middle * 8 / 1e9:.1f} Gbit/CPU-s"
