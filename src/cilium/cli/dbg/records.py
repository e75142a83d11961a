"""Elements of the pinned maps, and how their fields are written for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}


def entries(name: str) -> Iterable[tuple[Any, Any]]:
    """Key and value records of a pinned map. Raises click.ClickException if it is not there."""
    from cilium.datapath.errors import DatapathError
    from cilium.datapath.maps import PinnedMap

    try:
        keys, values = PinnedMap(name).dump()
    except (DatapathError, OSError) as error:
        raise click.ClickException(str(error)) from None
    return zip(keys, values, strict=True)


def address(raw: Any) -> str:
    from cilium.datapath.addresses import address_from

    return str(address_from(raw))


def network(raw: Any, bits: int) -> str:
    """A prefix of the 128-bit form in its family's own notation."""
    text = address(raw)
    return f"{text}/{bits}" if ":" in text else f"{text}/{bits - 96}"


def flag_names(flags: Any, kind: Any) -> str:
    return ",".join(flag.name.lower() for flag in kind if int(flags) & flag) or "-"
