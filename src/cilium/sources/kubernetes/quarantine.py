"""Objects that could not become rows, and why: kept to be looked at, logged once.

In: refusals of decoders. Out: rows for people. An object leaves when it becomes readable or is deleted.
"""

from __future__ import annotations

import msgspec
import structlog

log = structlog.get_logger("kubernetes")


class Quarantined(msgspec.Struct, frozen=True):
    """`kept`: a row of an earlier, readable version of the object is still in the table."""

    resource: str
    object: str
    """namespace/name."""
    reason: str
    kept: bool


class Quarantine:
    """Of one resource."""

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self._objects: dict[str, Quarantined] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, name: str) -> bool:
        return name in self._objects

    def rows(self) -> list[Quarantined]:
        return list(self._objects.values())

    def put(self, name: str, reason: str, *, kept: bool) -> None:
        entry = Quarantined(self._resource, name, reason, kept)
        known = self._objects.get(name)
        self._objects[name] = entry
        if known is None or known.reason != reason:
            log.warning("object not understood", resource=self._resource, object=name, reason=reason, row_kept=kept)

    def release(self, name: str) -> None:
        self._objects.pop(name, None)

    def retain(self, names: set[str]) -> None:
        """Everything else is gone from the API."""
        for name in self._objects.keys() - names:
            del self._objects[name]
