"""What somebody wrote to the API and does not get from this node: rows for the status and for events.

Every table has one writer, so each feature that finds problems has a table of them of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from cilium.state import RowChanges
from cilium.tables.names import object_name

ProblemKey = tuple[str, str, str, str]


class Reason(StrEnum):
    """What a problem is, in the word that an Event has for it."""

    ANNOTATION = "InvalidAnnotation"
    CONFLICT = "ServiceConflict"
    NOT_PROGRAMMED = "ServiceNotProgrammed"
    """The kernel did not take it: a map is full, for one."""
    NOT_SERVED = "NotServed"
    HEALTH_CHECK = "FailedToStartServiceHealthcheck"
    """As kube-proxy says it."""
    IN_USE = "NodePortInUse"
    """A process of a node listens on a port that leads elsewhere."""
    INCOMPLETE = "PolicyIncomplete"
    """The kernel did not take all of a policy."""
    PORT = "UnsupportedPort"
    SOURCE_RANGE = "InvalidSourceRange"


class Problem(msgspec.Struct, frozen=True):
    """A row of each table of problems, key (`kind`, `namespace`, `name`, `field`)."""

    kind: str
    """Of the object: Service, Pod, CiliumLocalRedirectPolicy."""
    namespace: str
    name: str
    field: str
    """Its path in the object."""
    message: str
    """What is wrong, and the remedy."""
    reason: Reason = Reason.NOT_SERVED

    @property
    def key(self) -> ProblemKey:
        return self.kind, self.namespace, self.name, self.field

    def __str__(self) -> str:
        return f"{object_name(self.kind, self.namespace, self.name)}: {self.field}: {self.message}"


class ProblemBook:
    """Remembers what was said of each object of one kind: what is not said again is deleted."""

    def __init__(self, kind: str, reason: Reason = Reason.NOT_SERVED) -> None:
        self._kind, self._reason = kind, reason
        self._known: dict[str, frozenset[ProblemKey]] = {}

    def report(self, found: Mapping[str, Mapping[str, str]]) -> RowChanges[Any, Any]:
        """`found`: of every object that was looked at (namespace/name), messages by field; none: all is well."""
        upserts: list[Problem] = []
        deletes: set[ProblemKey] = set()
        for name, messages in found.items():
            namespace, _, bare = name.partition("/")
            rows = [
                Problem(self._kind, namespace, bare, field, message, self._reason)
                for field, message in messages.items()
            ]
            keys = frozenset(row.key for row in rows)
            deletes |= self._known.pop(name, frozenset()) - keys
            if keys:
                self._known[name] = keys
            upserts += rows
        return RowChanges(upserts=upserts, deletes=sorted(deletes))
