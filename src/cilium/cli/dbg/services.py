"""cilium-dbg service: what the agent wants; cilium-dbg bpf lb: what the kernel has, with or without an agent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from cilium.cli.columns import columns
from cilium.cli.dbg.client import get, print_json
from cilium.cli.dbg.records import PROTOCOLS, address, entries, flag_names
from cilium.cli.dbg.render import output, show


@click.group()
def service() -> None:
    """Services of this node."""


@service.command("list")
@output
def service_list(output: str) -> None:
    """Every address with its backends."""
    documents = get("/service")
    if output == "json":
        print_json(documents)
        return
    rows: list[tuple[object, ...]] = []
    for each in documents:
        front = each["frontend"]
        owner = f"{each['namespace']}/{each['name']}" + (f":{each['port-name']}" if each["port-name"] else "")
        lines = [_backend(number, end) for number, end in enumerate(each["backends"], 1)] or ["none"]
        rows.append((each["id"] or "-", _place(front), each["type"], owner, lines[0]))
        rows += [("", "", "", "", line) for line in lines[1:]]
    click.echo(columns(("ID", "FRONTEND", "SERVICE TYPE", "SERVICE", "BACKEND"), rows))


@service.command("get")
@click.argument("number", metavar="ID", type=int)
def service_get(number: int) -> None:
    """One service's address, whole."""
    found = [each for each in get("/service") if each["id"] == number]
    if not number or not found:
        raise click.ClickException(f"service {number} does not exist; see cilium-dbg service list")
    print_json(found[0])


def _place(front: dict[str, Any]) -> str:
    ip, port = front["ip"], front["port"]
    return f"[{ip}]:{port}/{front['protocol']}" if ":" in ip else f"{ip}:{port}/{front['protocol']}"


def _backend(number: int, end: dict[str, Any]) -> str:
    ip = f"[{end['ip']}]" if ":" in end["ip"] else end["ip"]
    return f"{number} => {ip}:{end['port']} ({end['state']})"


@click.group()
def lb() -> None:
    """cilium_lb_services, cilium_lb_slots, cilium_lb_backends, cilium_lb_reverse."""


@lb.command("list")
@click.option("--frontends", "what", flag_value="frontends", help="Addresses of services only.")
@click.option("--backends", "what", flag_value="backends", help="Backends in use only.")
@click.option("--revnat", "what", flag_value="revnat", help="Which service sockets meant.")
@output
def lb_list(what: str | None, output: str) -> None:
    """Services with their backends."""
    match what:
        case "frontends":
            show(output, ("SERVICE ADDRESS", "ID", "SLOTS", "BACKENDS", "FLAGS"), _frontends())
        case "backends":
            show(output, ("BACKEND", "ADDRESS", "STATE"), _backends())
        case "revnat":
            show(output, ("SOCKET", "BACKEND", "SERVICE ADDRESS", "ID"), _reverse())
        case _:
            show(output, ("SERVICE ADDRESS", "BACKEND ADDRESS", "ID", "SLOT"), _pairs())


def _frontends() -> Iterable[tuple[object, ...]]:
    from cilium.datapath.generated import ServiceFlags

    for key, value in entries("cilium_lb_services"):
        yield (
            _end(key),
            int(value["id"]),
            int(value["slots"]),
            int(value["count"]),
            flag_names(value["flags"], ServiceFlags),
        )


def _pairs() -> Iterable[tuple[object, ...]]:
    slots = {int(index): int(number) for index, number in entries("cilium_lb_slots") if number}
    known = {int(number): record for number, record in entries("cilium_lb_backends") if record["port"]}
    for key, value in entries("cilium_lb_services"):
        if not value["count"]:
            yield _end(key), "none", int(value["id"]), "-"
        for place in range(int(value["count"])):
            record = known.get(slots.get(int(value["slots"]) + place, 0))
            yield _end(key), _end(record) if record is not None else "missing", int(value["id"]), place + 1


def _backends() -> Iterable[tuple[object, ...]]:
    """Numbers that no service names any more still lie in the array: they are no backends."""
    slots = {int(index): int(number) for index, number in entries("cilium_lb_slots") if number}
    used: set[int] = set()
    for _, value in entries("cilium_lb_services"):
        start = int(value["slots"])
        used |= {slots.get(start + place, 0) for place in range(int(value["count"]))}
    for number, record in entries("cilium_lb_backends"):
        if int(number) in used and number:
            yield f"{int(number):>6}", _end(record), "terminating" if record["state"] else "active"


def _reverse() -> Iterable[tuple[object, ...]]:
    for key, value in entries("cilium_lb_reverse"):
        yield int(key["cookie"]), _end(key), _end(value), int(value["id"])


def _end(record: Any) -> str:
    ip, port = address(record["address"]), int(record["port"])
    names = record.dtype.names or ()
    protocol = f"/{PROTOCOLS.get(int(record['protocol']), record['protocol'])}" if "protocol" in names else ""
    return f"[{ip}]:{port}{protocol}" if ":" in ip else f"{ip}:{port}{protocol}"
