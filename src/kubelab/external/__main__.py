"""`python -m kubelab.external [--http NAME=ADDRESS:PORT]… [--dns ADDRESS:PORT]… [--zone ORIGIN]`.

Without arguments: the addresses every lab's external namespace has. Runs until SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterable, Sequence

from kubelab.dns.listeners import BindError
from kubelab.external.servers import World
from kubelab.external.zone import Zone, zone
from kubelab.underlay.addresses import WORLD_V4, WORLD_V6

ORIGIN = "world.test"
SITES = ("web", "api", "ns")
"""Names of the world's addresses, in their order; the last one is the name server."""


def split(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`. Raises ValueError."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal():
        raise ValueError(f"{address!r}: write ADDRESS:PORT, an IPv6 address in brackets")
    return host.strip("[]"), int(port)


def default_zone(origin: str = ORIGIN) -> Zone:
    """Every site under its name, all web servers under `any`, and `www` as an alias."""
    hosts: dict[str, Iterable[str]] = {name: (v4, v6) for name, v4, v6 in zip(SITES, WORLD_V4, WORLD_V6, strict=True)}
    hosts["any"] = (*WORLD_V4[:2], *WORLD_V6[:2])
    hosts["www"] = (f"=web.{origin}.",)
    hosts["*.wild"] = hosts["web"]
    return zone(origin, hosts)


def sites() -> list[tuple[str, str, int]]:
    """(name, address, port) of the web servers that every lab has."""
    pairs = zip(SITES[:2], WORLD_V4, WORLD_V6, strict=False)
    return [(name, address, 80) for name, v4, v6 in pairs for address in (v4, v6)]


async def run(web: Sequence[tuple[str, str, int]], names: Sequence[tuple[str, int]], zones: Sequence[Zone]) -> None:
    """Serve until SIGTERM or SIGINT. Raises BindError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with World() as world:
        for name, address, port in web:
            await world.web(name, address, port)
        for address, port in names:
            await world.names(zones, address, port)
        await stop.wait()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubelab.external", description="The world outside of a lab.")
    parser.add_argument("--http", action="append", default=[], metavar="NAME=ADDRESS:PORT")
    parser.add_argument("--dns", action="append", default=[], metavar="ADDRESS:PORT")
    parser.add_argument("--zone", default=ORIGIN, metavar="ORIGIN")
    arguments = parser.parse_args(argv)
    try:
        chosen = [(name, *split(place)) for name, _, place in (text.partition("=") for text in arguments.http)]
        names = [split(text) for text in arguments.dns]
    except ValueError as error:
        parser.error(str(error))
    if not chosen and not names:
        chosen, names = sites(), [(WORLD_V4[2], 53), (WORLD_V6[2], 53)]
    try:
        asyncio.run(run(chosen, names, [default_zone(arguments.zone)]))
    except BindError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
