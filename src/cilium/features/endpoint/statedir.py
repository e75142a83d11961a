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


def _decode_hook(kind: type, value: Any) -> Any:
    return ip_address(value)


class StateDirectory:
    """Endpoints by id under one directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, endpoint: Endpoint) -> None:
        folder = self._path / str(endpoint.id)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "ep.json.part"
        part.write_bytes(msgspec.json.encode(endpoint, enc_hook=str))
        part.rename(folder / "ep.json")

    def remove(self, number: int) -> None:
        shutil.rmtree(self._path / str(number), ignore_errors=True)

    def load(self) -> Iterator[Endpoint]:
        """Every endpoint that can be read; a file that cannot is named in the log and left for people to look at."""
        for path in sorted(self._path.glob("*/ep.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Endpoint, dec_hook=_decode_hook)
            except (msgspec.DecodeError, msgspec.ValidationError, ValueError, OSError) as error:
                log.error("endpoint state unreadable", path=str(path), error=str(error))
