"""cilium-dbg bpf lb: what the kernel has of services, with or without an agent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import click

from cilium.cli.dbg.client import print_json
from cilium.cli.dbg.records import PROTOCOLS, address, entries, flag_names, network
from cilium.cli.dbg.render import output, show

Row = tuple[object, ...]


@click.group()
def lb() -> None:
    """cilium_lb_services and what belongs to it: slots, backends, source ranges, affinity, Maglev tables."""


@lb.command("list")
@click.option("--frontends", "what", flag_value="frontends", help="Addresses of services only.")
@click.option("--backends", "what", flag_value="backends", help="Backends only, with the slots that name them.")
@click.option("--revnat", "what", flag_value="revnat", help="Which service sockets meant.")
@click.option("--source-ranges", "what", flag_value="source-ranges", help="Who may ask from outside, or may not.")
@click.option("--affinity", "what", flag_value="affinity", help="Which backend clients had last.")
@click.option("--maglev", "what", flag_value="maglev", help="Entries of Maglev tables by backend.")
@output
def lb_list(what: str | None, output: str) -> None:
    """Services with their backends."""
    header, rows = VIEWS[what]
    show(output, header, rows())


@lb.group()
def maglev() -> None:
    """Maglev tables: cilium_lb_maglev."""


@maglev.command("list")
@output
def maglev_list(output: str) -> None:
    """Every table, as far as a line is long; as JSON, whole."""
    tables = sorted(_tables())
    if output == "json":
        print_json([{"id": service, "table": table} for service, table in tables])
    else:
        show(output, ("ID", "ENTRIES", "BACKENDS"), [(n, len(table), len(set(table))) for n, table in tables])


@maglev.command("get")
@click.argument("number", metavar="ID", type=int)
@output
def maglev_get(number: int, output: str) -> None:
    """The backends of one service's table, entry by entry."""
    table = dict(_tables()).get(number)
    if table is None:
        raise click.ClickException(f"service {number} has no Maglev table; see cilium-dbg bpf lb maglev list")
    if output == "json":
        print_json({"id": number, "table": table})
    else:
        click.echo(f"[{' '.join(map(str, table))}]")


# -------------------------------------------------------------------------------------------------------------- views


def _frontends() -> Iterator[Row]:
    from cilium.datapath.generated import ServiceFlags

    for key, value in entries("cilium_lb_services"):
        affinity = f"{int(value['affinity_timeout'])}s" if value["affinity_timeout"] else "-"
        slots, count = int(value["slots"]), int(value["count"])
        yield _end(key), _scope(key), int(value["id"]), slots, count, affinity, flag_names(value["flags"], ServiceFlags)


def _pairs() -> Iterator[Row]:
    slots, known = _slots(), _records()
    for key, value in entries("cilium_lb_services"):
        if not value["count"]:
            yield _end(key), _scope(key), "none", int(value["id"]), "-"
        for place in range(int(value["count"])):
            record = known.get(slots.get(int(value["slots"]) + place, 0))
            there = _end(record) if record is not None else "missing"
            yield _end(key), _scope(key), there, int(value["id"]), place + 1


def _backends() -> Iterator[Row]:
    """Services with the same backends share slots."""
    slots = _slots()
    ranges = {(int(value["slots"]), int(value["count"])) for _, value in entries("cilium_lb_services")}
    named = Counter(slots.get(start + place, 0) for start, count in ranges for place in range(count))
    for number, record in _records().items():
        yield number, _end(record), "terminating" if record["state"] else "active", named[number]


def _reverse() -> Iterator[Row]:
    for key, value in entries("cilium_lb_reverse"):
        yield int(key["cookie"]), _end(key), _end(value), int(value["id"])


def _source_ranges() -> Iterator[Row]:
    from cilium.datapath.generated import ServiceFlags

    services = _services()
    for key, _ in entries("cilium_lb_source_ranges"):
        place, flags = services.get(int(key["service"]), ("unknown", 0))
        policy = "deny" if flags & ServiceFlags.SOURCE_DENY else "allow"
        yield int(key["service"]), place, policy, network(key["address"], int(key["prefixlen"]) - 32)


def _affinity() -> Iterator[Row]:
    from cilium.datapath.generated import AffinityKind

    services, known, now = _services(), _records(), time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    for key, value in entries("cilium_lb_affinity"):
        client = address(key["client"])
        if key["kind"] == AffinityKind.SOCKET:
            client = f"netns {int.from_bytes(key['client'][8:].tobytes(), 'little')}"
        place, _ = services.get(int(key["service"]), ("unknown", 0))
        record = known.get(int(value["backend"]))
        there = _end(record) if record is not None else "gone"
        yield client, int(key["service"]), place, there, max(0, now - int(value["used"])) // 1_000_000_000


def _maglev() -> Iterator[Row]:
    services, known = _services(), _records()
    for number, table in _tables():
        place, _ = services.get(number, ("unknown", 0))
        for backend, count in Counter(table).items():
            record = known.get(backend)
            yield number, place, backend, _end(record) if record is not None else "gone", count


VIEWS = {
    None: (("SERVICE ADDRESS", "SCOPE", "BACKEND ADDRESS", "ID", "SLOT"), _pairs),
    "frontends": (("SERVICE ADDRESS", "SCOPE", "ID", "SLOTS", "BACKENDS", "AFFINITY", "FLAGS"), _frontends),
    "backends": (("BACKEND", "ADDRESS", "STATE", "SLOTS"), _backends),
    "revnat": (("SOCKET", "BACKEND", "SERVICE ADDRESS", "ID"), _reverse),
    "source-ranges": (("ID", "SERVICE ADDRESS", "POLICY", "CIDR"), _source_ranges),
    "affinity": (("CLIENT", "ID", "SERVICE ADDRESS", "BACKEND ADDRESS", "SECONDS AGO"), _affinity),
    "maglev": (("ID", "SERVICE ADDRESS", "BACKEND", "BACKEND ADDRESS", "ENTRIES"), _maglev),
}

# --------------------------------------------------------------------------------------------------------------- maps


def _services() -> dict[int, tuple[str, int]]:
    """Address and flags by id."""
    found = entries("cilium_lb_services")
    return {int(value["id"]): (f"{_end(key)} {_scope(key)}", int(value["flags"])) for key, value in found}


def _slots() -> dict[int, int]:
    return {int(index): int(number) for index, number in entries("cilium_lb_slots") if number}


def _records() -> dict[int, Any]:
    """Backends by id; who is no more has a record of zeros."""
    return {int(number): record for number, record in entries("cilium_lb_backends") if record["address"].any()}


def _tables() -> Iterable[tuple[int, list[int]]]:
    """Raises click.ClickException if the map is not there."""
    from cilium.datapath.errors import DatapathError
    from cilium.datapath.maps import PinnedMap
    from cilium.datapath.nested import Nested

    try:
        nested = Nested(PinnedMap("cilium_lb_maglev"))
        keys, numbers = nested.dump()
        tables = {number: nested.content(number).tolist() for number in set(numbers.tolist())}
    except (DatapathError, OSError) as error:
        raise click.ClickException(str(error)) from None
    return [(key, tables[number]) for key, number in zip(keys.tolist(), numbers.tolist(), strict=True)]


def _scope(key: Any) -> str:
    from cilium.datapath.generated import ServiceScope

    return ServiceScope(int(key["scope"])).name.lower()


def _end(record: Any) -> str:
    ip, port = address(record["address"]), int(record["port"])
    names = record.dtype.names or ()
    protocol = f"/{PROTOCOLS.get(int(record['protocol']), record['protocol'])}" if "protocol" in names else ""
    return f"[{ip}]:{port}{protocol}" if ":" in ip else f"{ip}:{port}{protocol}"
