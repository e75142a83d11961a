"""`python -m kubelab.external [--family 4|6]… [--http NAME=ADDRESS:PORT]… [--dns ADDRESS:PORT]… [--zone ORIGIN]`.

Without places: the addresses of these families that every lab's external namespace has. Runs until SIGTERM.
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
from kubelab.logging import configure_logging
from kubelab.underlay.addresses import PUBLIC, WORLD, Family

ORIGIN = "world.test"
FAMILIES: tuple[Family, ...] = (4, 6)
SITES = ("web", "api", "ns")
"""Names of the world's addresses, in their order; the last one is the name server."""
PUBLIC_ZONES = ("example.com", "google.com", "github.com", "cilium.io", "kubernetes.io")
"""Domains of the real world that public manifests and tutorials ask: all their names are the first web server."""
PUBLIC_SITE = "one.one.one.one"
"""The name of the real world's addresses that are here."""


def split(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`. Raises ValueError."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal():
        raise ValueError(f"{address!r}: write ADDRESS:PORT, an IPv6 address in brackets")
    return host.strip("[]"), int(port)


def default_zone(origin: str = ORIGIN, families: Sequence[Family] = FAMILIES) -> Zone:
    """Every site under its name, all web servers under `any`, and `www` as an alias."""
    hosts: dict[str, Iterable[str]] = {
        name: tuple(WORLD[family][place] for family in families) for place, name in enumerate(SITES)
    }
    hosts["any"] = tuple(address for family in families for address in WORLD[family][:2])
    hosts["www"] = (f"=web.{origin}.",)
    hosts["*.wild"] = hosts["web"]
    return zone(origin, hosts)


def public_zones(families: Sequence[Family] = FAMILIES) -> list[Zone]:
    """Stand-ins for domains of the real world."""
    web = tuple(WORLD[family][0] for family in families)
    own = tuple(address for family in families for address in PUBLIC[family])
    return [*(zone(origin, {"@": web, "*": web}) for origin in PUBLIC_ZONES), zone(PUBLIC_SITE, {"@": own})]


def root() -> Zone:
    """All other names: this world has none of them, and says so, as the real one would of a name that nobody has."""
    return zone(".", {})


def sites(families: Sequence[Family] = FAMILIES) -> list[tuple[str, str, int]]:
    """(name, address, port) of the web servers that every lab has."""
    own = [(name, WORLD[family][place], 80) for place, name in enumerate(SITES[:2]) for family in families]
    return own + [(PUBLIC_SITE, address, 80) for family in families for address in PUBLIC[family]]


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
    parser.add_argument("--family", action="append", type=int, choices=FAMILIES, dest="families")
    parser.add_argument("--http", action="append", default=[], metavar="NAME=ADDRESS:PORT")
    parser.add_argument("--dns", action="append", default=[], metavar="ADDRESS:PORT")
    parser.add_argument("--zone", default=ORIGIN, metavar="ORIGIN")
    arguments = parser.parse_args(argv)
    families: Sequence[Family] = arguments.families or FAMILIES
    try:
        chosen = [(name, *split(place)) for name, _, place in (text.partition("=") for text in arguments.http)]
        names = [split(text) for text in arguments.dns]
    except ValueError as error:
        parser.error(str(error))
    configure_logging()
    if not chosen and not names:
        chosen, names = sites(families), [(WORLD[family][-1], 53) for family in families]
    try:
        asyncio.run(run(chosen, names, [default_zone(arguments.zone, families), *public_zones(families), root()]))
    except BindError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
