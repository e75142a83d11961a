"""cilium-dbg map: every pinned map, raw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from cilium.cli.columns import columns
from cilium.cli.dbg.client import print_json
from cilium.cli.dbg.records import entries
from cilium.cli.dbg.render import output, show

ROOT = Path("/sys/fs/bpf/tc/globals")
RING = "cilium_events"


@click.group("map")
def map_group() -> None:
    """BPF maps of this node, raw."""


@map_group.command("list")
@output
def map_list(output: str) -> None:
    """Every pinned map with its size."""
    rows = list(_sizes())
    if not rows:
        raise click.ClickException(
            f"no map is pinned in {ROOT}: the agent of this node has not loaded the datapath yet"
        )
    show(output, ("NAME", "TYPE", "ENTRIES", "CAPACITY"), rows)


def _sizes() -> Iterator[tuple[object, ...]]:
    from cilium.datapath.errors import DatapathError
    from cilium.datapath.maps import PinnedMap

    for path in ROOT.glob("cilium_*"):
        if path.name == RING:
            yield path.name, "ringbuf", "-", "-"
            continue
        try:
            port = PinnedMap(path.name)
            keys, _ = port.dump()
        except (DatapathError, OSError) as error:
            yield path.name, "unknown", "-", str(error)
            continue
        yield path.name, port.spec.type.name.lower(), len(keys), port.spec.max_entries


@map_group.command("get")
@click.argument("name")
@output
def map_get(name: str, output: str) -> None:
    """All entries of one map; the table leaves out entries of arrays that hold nothing but zeros."""
    name = name if name.startswith("cilium_") else f"cilium_{name}"
    if name == RING:
        raise click.ClickException(f"{RING} is a ring buffer and has no entries; see cilium-dbg monitor")
    rows = [(_plain(key), _plain(value)) for key, value in entries(name)]
    if output == "json":
        print_json([{"key": key, "value": value} for key, value in rows])
        return
    array = all(isinstance(key, int) for key, _ in rows)
    shown = [(_text(key), _text(value)) for key, value in rows if not array or _holds(value)]
    click.echo(columns(("KEY", "VALUE"), shown))


def _holds(value: object) -> bool:
    """Whether anything in it differs from zero."""
    if isinstance(value, dict):
        return any(map(_holds, value.values()))
    return any(map(_holds, value)) if isinstance(value, list) else bool(value)


def _text(value: object) -> str:
    """`identity=4 ifindex=6`: what differs from record to record, in the order of the C struct."""
    if isinstance(value, dict):
        return " ".join(f"{name}={_text(field)}" for name, field in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(record: object) -> object:
    names = getattr(getattr(record, "dtype", None), "names", None)
    if not names:
        return record.tolist() if hasattr(record, "tolist") else record
    return {name: _field(record[name]) for name in names}  # type: ignore[index]  # a numpy record


def _field(value: object) -> object:
    shape = getattr(value, "shape", ())
    if shape and shape[-1] in {6, 16} and getattr(value, "dtype", None) == "u1":
        raw = bytes(value)  # type: ignore[call-overload]  # an array of bytes
        if len(raw) == 16:
            from cilium.datapath.addresses import address_from

            return str(address_from(raw))
        return ":".join(f"{byte:02x}" for byte in raw)
    return value.tolist() if hasattr(value, "tolist") else value
