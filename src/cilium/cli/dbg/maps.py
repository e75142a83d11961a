"""cilium-dbg map: every pinned map, raw."""

from __future__ import annotations

from pathlib import Path

import click

from cilium.cli.columns import columns
from cilium.cli.dbg.bpf import entries
from cilium.cli.dbg.client import print_json

ROOT = Path("/sys/fs/bpf/tc/globals")


@click.group("map")
def map_group() -> None:
    """BPF maps of this node, raw."""


@map_group.command("list")
def map_list() -> None:
    """Every pinned map with its size."""
    from cilium.datapath.maps import PinnedMap

    rows: list[tuple[object, ...]] = []
    for path in sorted(ROOT.glob("cilium_*")):
        if path.name == "cilium_events":
            rows.append((path.name, "ring buffer", ""))
            continue
        port = PinnedMap(path.name)
        keys, _ = port.dump()
        rows.append((path.name, len(keys), port.spec.max_entries))
    click.echo(columns(("NAME", "ENTRIES", "CAPACITY"), rows))


@map_group.command("get")
@click.argument("name")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def map_get(name: str, output: str) -> None:
    """All entries of one map."""
    rows = [(_plain(key), _plain(value)) for key, value in entries(name)]
    if output == "json":
        print_json([{"key": key, "value": value} for key, value in rows])
    else:
        click.echo(columns(("KEY", "VALUE"), rows))


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
