"""Ways between two namespaces, compared: latency of requests and connections, throughput per CPU-second.

In: routes (client, server, addresses). Out: figures, ratios of one route against another. All take turns round by
round, both ends of all share one CPU, and a round's ratio is that of neighbours in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Better, Figure, median
from bench.tool import PORT, Server, Tool, ToolError, softirq_cpu

SECONDS = 0.4
NAMES = {4: "IPv4", 6: "IPv6"}


@dataclass(frozen=True, slots=True)
class Wire:
    """One end of a veth, and frames for the other end by IP version: datagrams that reach the server."""

    netns: str
    device: str
    frames: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a client and a server live, and the server's addresses by IP version."""

    client: str
    server: str
    addresses: Mapping[int, str]
    cgroup: Path | None = None
    """Of the client; none: that of the benchmark."""
    port: int = PORT
    """What the client asks for where the server has PORT; the next ones follow."""
    wire: Wire | None = None


@dataclass(frozen=True, slots=True)
class Rounds:
    """What each way measured, round by round, and how often something of it waited for packets that were lost."""

    values: list[dict[str, float]]
    stalled: Counter[str]


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
    ways = {"ours": ours, "kernel": kernel}
    with serving(tool, ways.values()) as servers:
        for target in wanted:
            for family in (4, 6):
                found = alternate(tool, target.mode, family, ways, servers, rounds=rounds)
                yield ratio(found, "ours", "kernel", f"{what}: {target.name}, {NAMES[family]}", target)


@contextmanager
def serving(tool: Tool, routes: Iterable[Route]) -> Iterator[Mapping[str, Server]]:
    """A server in every namespace that has one, by namespace."""
    with ExitStack() as stack:
        yield {netns: stack.enter_context(tool.server(netns)) for netns in {route.server for route in routes}}


def alternate(
    tool: Tool, mode: str, family: int, ways: Mapping[str, Route], servers: Mapping[str, Server], *, rounds: int
) -> Rounds:
    """The first round warms caches and neighbour tables and is left out."""
    names, found = list(ways), Rounds([], Counter())
    for number in range(rounds + 1):
        first = number % len(names)  # everybody is first in turn
        values = {}
        for name in names[first:] + names[:first]:
            values[name], stalled = _once(tool, mode, ways[name], servers[ways[name].server], family)
            found.stalled[name] += stalled if number else 0
        if number:
            found.values.append(values)
    return found


def ratio(found: Rounds, way: str, against: str, name: str, target: Target, *, aim: bool = True) -> Figure:
    """Of two ways in the same rounds; with `aim`, beside what it should be."""
    note = _note(target.mode, against, [values[against] for values in found.values])
    if found.stalled[way]:
        note += f"; {found.stalled[way]} requests of {way} waited for lost packets"
    return median(
        name, [values[way] / values[against] for values in found.values], target=target.ratio if aim else None,
        better=target.better, note=note,
    )  # fmt: skip


def _once(tool: Tool, mode: str, route: Route, server: Server, family: int) -> tuple[float, int]:
    """Nanoseconds of the median transaction, or what arrives per CPU-second; and how many transactions stalled."""
    address = route.addresses[family]
    if mode == "frames":
        return _frames(tool, route, server, family), 0
    if mode != "stream":
        result = tool.run(route.client, mode, address, route.port, SECONDS, cgroup=route.cgroup)
        return float(result["median"]), int(result["stalled"])
    before = server.cpu
    result = tool.run(route.client, mode, address, route.port + 1, SECONDS, cgroup=route.cgroup)
    return float(result["bytes"] / (result["cpu"] + server.cpu - before) * 1e9), 0


def _frames(tool: Tool, route: Route, server: Server, family: int) -> float:
    wire = route.wire
    if wire is None:
        raise ToolError("a route without a wire takes no frames")
    counted, before = server.datagrams, softirq_cpu()
    sent = tool.run(wire.netns, "frames", wire.device, wire.frames[family].hex(), SECONDS)
    arrived, cpu = server.datagrams - counted, sent["cpu"] + softirq_cpu() - before
    if arrived < sent["sent"] / 2:
        raise ToolError(f"{wire.device}: of {sent['sent']} frames {arrived} arrived")
    return float(arrived / cpu * 1e9)


def _note(mode: str, against: str, absolute: Sequence[float]) -> str:
    middle = sorted(absolute)[len(absolute) // 2]
    text = {
        "stream": f"{middle * 8 / 1e9:.1f} Gbit/CPU-s",
        "frames": f"{middle / 1e3:,.0f} k packets/CPU-s",
    }.get(mode, f"{middle / 1000:.1f} µs")
    return f"{against}: {text}"
