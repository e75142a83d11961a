"""How cilium-dbg prints rows: as a table for people, as JSON for programs, in the order in which people look for them.

In: a header and rows. Out: text on standard output. Numbers sort as numbers and addresses as addresses, IPv4 first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_network

import click

from cilium.cli.columns import columns
from cilium.cli.dbg.client import print_json

output = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
"""The option; commands take it as `output`."""

Key = tuple[int, int, int, str]


def show(output: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Sorted by the cells from the left. JSON names fields after the header, numbers stay numbers."""
    table = sorted(rows, key=natural_row)
    if output == "json":
        names = [name.lower().replace(" ", "-") for name in header]
        print_json([dict(zip(names, map(plain, row), strict=True)) for row in table])
    else:
        click.echo(columns(header, table))


def plain(cell: object) -> object:
    """A cell as JSON has it; numpy's numbers are numbers."""
    if isinstance(cell, (str, int, float, bool)) or cell is None:
        return cell
    return int(cell) if hasattr(cell, "__index__") else str(cell)


def natural_row(row: Sequence[object]) -> list[Key]:
    return [natural(cell) for cell in row]


def natural(cell: object) -> Key:
    """Sort key of a cell: numbers, then addresses and prefixes by family, then words."""
    text = str(cell)
    if text.lstrip("-").isdecimal():
        return 0, int(text), 0, ""
    try:
        network = ip_network(text)
    except ValueError:
        return 7, 0, 0, text
    return network.version, int(network.network_address), network.prefixlen, ""
