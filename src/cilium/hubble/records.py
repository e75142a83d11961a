"""The event record as numpy and as Python see it.

Owns: the dtypes of `struct event` and `struct sock_event` (bpf/maps/events.h) in the shape this package computes with
(addresses as 16 opaque bytes instead of arrays), derived from the generated ones, and the named tuple of an event.
Comes in: arrays of 128-byte records. Goes out: the same bytes, named.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cilium.datapath import generated
from cilium.datapath.generated import DropReason, EventType

RECORD_SIZE: int = generated.EVENT.itemsize


def _opaque(field: np.dtype[Any]) -> np.dtype[Any]:
    return field if field.subdtype is None else np.dtype(f"V{field.itemsize}")


def _opaque_fields(struct: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype([(name, _opaque(struct[name])) for name in struct.names or ()])


EVENT = _opaque_fields(generated.EVENT)
"""`bpf_ktime_get_ns()` times until the store has taken the record, Unix times in nanoseconds from then on."""
SOCK_EVENT = _opaque_fields(generated.SOCK_EVENT)
"""The same bytes where `type` is TRACE_SOCK: a translation in a socket."""
OPAQUE = np.dtype(f"V{RECORD_SIZE}")
"""A record as one piece."""

Records = NDArray[Any]
"""A one-dimensional array of dtype EVENT."""

_NONE = b"\0" * 16


class Event(NamedTuple):
    """One record as plain Python values; made only for records that somebody asked for."""

    time: int
    type: int
    point: int
    reason: int
    direction: int
    verdict: int
    protocol: int
    tcp_flags: int
    flags: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    ifindex: int
    source_identity: int
    destination_identity: int
    source_endpoint: int
    destination_endpoint: int
    length: int
    egress_cookie: int
    ingress_cookie: int
    translated: bytes
    translated_port: int
    egress_match: int
    ingress_match: int
    ext_error: int
    pad: bytes
    packets: int
    tunnel_vni: int
    source_mac: bytes
    destination_mac: bytes
    pad2: int

    @property
    def is_translated(self) -> bool:
        return self.translated != _NONE

    @property
    def is_socket(self) -> bool:
        return self.type == EventType.TRACE_SOCK


POLICY_REASONS = (
    DropReason.POLICY_DENIED,
    DropReason.POLICY_DENY,
    DropReason.AUTH_REQUIRED,
    DropReason.PUNT_PROXY,
)
"""Drop reasons by which a policy verdict closed the way."""


def events(records: Records) -> list[Event]:
    """The records as named tuples, in order."""
    return [Event._make(row) for row in records.tolist()]
