"""The trials on disk, so that an agent that starts in the middle of one knows what to go back to.

In and out: rows of `host-policy-trials`. One file, replaced by rename: it is whole or absent. What cannot be read is
named in the log and counts as absent: then every rule about this node is on trial.
"""

from __future__ import annotations

import os
import types
from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import structlog

from cilium.features.policy.rows import HostPolicyTrial

log = structlog.get_logger("policy")


class TrialFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[HostPolicyTrial, ...]:
        try:
            rows: list[dict[str, Any]] = msgspec.json.decode(self._path.read_bytes(), type=list[dict[str, Any]])
            return tuple(build(HostPolicyTrial, row) for row in rows)
        except FileNotFoundError:
            return ()
        except (msgspec.DecodeError, TypeError, ValueError, KeyError, OSError) as error:
            log.error("host policy trials unreadable", path=str(self._path), error=str(error))
            return ()

    def save(self, rows: tuple[HostPolicyTrial, ...]) -> None:
        """On disk when it returns. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._path.with_name(self._path.name + ".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(rows, enc_hook=str))
            file.flush()
            os.fsync(file.fileno())
        part.rename(self._path)


def build(kind: Any, value: Any) -> Any:
    """A row out of plain data, by its annotations: msgspec itself builds no networks of either family.

    Raises TypeError, ValueError or KeyError for data that is none.
    """
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _build_union(get_args(kind), value)
    if origin is tuple:
        return tuple(build(get_args(kind)[0], item) for item in value)
    if issubclass(kind, msgspec.Struct):
        if not isinstance(value, Mapping):
            raise TypeError(f"{value!r} is no {kind.__name__}")
        hints = get_type_hints(kind)
        return kind(**{name: build(hints[name], item) for name, item in value.items()})
    if issubclass(kind, Enum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _build_union(kinds: tuple[Any, ...], value: Any) -> Any:
    if set(kinds) == {IPv4Network, IPv6Network}:
        return ip_network(value)
    (kind,) = (kind for kind in kinds if kind is not types.NoneType)
    return None if value is None else build(kind, value)
