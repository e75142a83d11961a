"""`python -m kubelab.external [--family 4|6]… [--certificate FILE] [--http NAME=ADDRESS:PORT]… [--dns ADDRESS:PORT]…`.

Without places: the addresses of these families that every lab's external namespace has; with a certificate (PEM, with
its key) the web servers speak HTTPS on port 443, too. Runs until SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import ssl
import sys
from collections.abc import Iterable, Sequence

from kubelab.dns.listeners import BindError
from kubelab.external.names import ORIGIN, PUBLIC_SITE, PUBLIC_ZONES, SITES
from kubelab.external.servers import World
from kubelab.external.zone import Zone, zone
from kubelab.logging import configure_logging
from kubelab.underlay.addresses import PUBLIC, WORLD, Family

FAMILIES: tuple[Family, ...] = (4, 6)
HTTP, HTTPS = 80, 443


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


def sites(families: Sequence[Family] = FAMILIES, port: int = HTTP) -> list[tuple[str, str, int]]:
    """(name, address, port) of the web servers that every lab has."""
    own = [(name, WORLD[family][place], port) for place, name in enumerate(SITES[:2]) for family in families]
    return own + [(PUBLIC_SITE, address, port) for family in families for address in PUBLIC[family]]


def context(certificate: str) -> ssl.SSLContext:
    """To serve with a certificate and its key, in one file. Raises OSError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


async def run(
    web: Sequence[tuple[str, str, int]],
    names: Sequence[tuple[str, int]],
    zones: Sequence[Zone],
    tls: ssl.SSLContext | None,
) -> None:
    """Serve until SIGTERM or SIGINT; what is on port 443 by TLS. Raises BindError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with World() as world:
        for name, address, port in web:
            await world.web(name, address, port, tls if port == HTTPS else None)
        for address, port in names:
            await world.names(zones, address, port)
        await stop.wait()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubelab.external", description="The world outside of a lab.")
    parser.add_argument("--family", action="append", type=int, choices=FAMILIES, dest="families")
    parser.add_argument("--certificate", default="", metavar="FILE")
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
    tls = context(arguments.certificate) if arguments.certificate else None
    if not chosen and not names:
        chosen = [*sites(families), *(sites(families, HTTPS) if tls else ())]
        names = [(WORLD[family][-1], 53) for family in families]
    try:
        zones = [default_zone(arguments.zone, families), *public_zones(families), root()]
        asyncio.run(run(chosen, names, zones, tls))
    except BindError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
