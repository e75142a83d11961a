"""What an endpoint is, on disk, so that an agent that starts again knows the pods it finds.

One file per endpoint, `<state>/<id>/ep.json`, replaced by rename: it is whole or absent.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import structlog

from cilium.tables.endpoints import Endpoint

log = structlog.get_logger("endpoint")

MAX_ID = 65535


def decode(content: bytes) -> Endpoint:
    """Raises DecodeError, TypeError, ValueError or KeyError for what is no endpoint."""
    fields: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
    endpoint = Endpoint(**fields | {"addresses": tuple(map(ip_address, fields["addresses"]))})
    for name, value in msgspec.structs.asdict(endpoint).items():
        if name in ("id", "ifindex", "netns_cookie"):
            if type(value) is not int or value < 0 or (name == "id" and not 0 < value <= MAX_ID):
                raise ValueError(f"{name}: {value!r} is not among the numbers it can be")
        elif name != "addresses" and type(value) is not str:
            raise ValueError(f"{name}: {value!r} is no text")
    return endpoint


class StateDirectory:
    """Endpoints by id under one directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, endpoint: Endpoint) -> None:
        folder = self._path / str(endpoint.id)
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        part = folder / "ep.json.part"
        part.touch(mode=0o600)
        part.write_bytes(msgspec.json.encode(endpoint, enc_hook=str))
        part.rename(folder / "ep.json")

    def remove(self, number: int) -> None:
        shutil.rmtree(self._path / str(number), ignore_errors=True)

    def load(self) -> Iterator[Endpoint]:
        """Every endpoint that can be read; a file that cannot is named in the log and left for people to look at."""
        for path in sorted(self._path.glob("*/ep.json")):
            try:
                endpoint = decode(path.read_bytes())
                if str(endpoint.id) != path.parent.name:
                    raise ValueError(f"it is about endpoint {endpoint.id}")
                yield endpoint
            except (msgspec.DecodeError, TypeError, ValueError, KeyError, OSError) as error:
                log.error("endpoint state unreadable", path=str(path), error=str(error))
