"""`kubectl get` tables.

Owns: the rendering of objects as `meta.k8s.io/v1 Table`. Comes in: objects and the columns of their resource, built in
or from a CRD's additionalPrinterColumns. Goes out: a Table object.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubelab.apiserver import jsonpath
from kubelab.apiserver.printers import autoscaling, core, groups, stored
from kubelab.apiserver.printers.columns import Column, Object, age, age_column, name_column

IncludeObject = str


class Tables:
    """The columns of every resource; CRDs add theirs per version."""

    def __init__(self) -> None:
        rooms = (core, groups, autoscaling, stored)
        self._columns = {key: found for room in rooms for key, found in room.columns().items()}
        self._custom: dict[tuple[str, str], tuple[Column, ...]] = {}

    def set_columns(self, resource: str, columns: Iterable[Column]) -> None:
        """Of a resource that is not built in and has no CRD."""
        self._columns[resource] = tuple(columns)

    def set_custom(self, resource: str, version: str, columns: Iterable[Mapping[str, Any]]) -> None:
        """Use a CRD version's additionalPrinterColumns from now on."""
        own = [_custom_column(c) for c in columns]
        self._custom[resource, version] = (name_column(), *(own or [age_column()]))

    def render(
        self,
        objects: Iterable[Object],
        *,
        resource: str,
        version: str,
        metadata: Object,
        include: IncludeObject = "Metadata",
        headers: bool = True,
    ) -> Object:
        """The Table of `objects`. `headers` False: rows only, as every watch event after the first."""
        columns = self._custom.get((resource, version)) or self._columns.get(resource) or (name_column(), age_column())
        now = datetime.now(UTC)
        return {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": [c.definition() for c in columns] if headers else None,
            "rows": [
                {"cells": [c.cell(obj, now) for c in columns], "object": _included(obj, include)} for obj in objects
            ],
        }


def partial(obj: Object) -> Object:
    """PartialObjectMetadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _included(obj: Object, include: IncludeObject) -> Object | None:
    match include:
        case "None":
            return None
        case "Object":
            return obj
    return partial(obj)


def _custom_column(definition: Mapping[str, Any]) -> Column:
    path, kind = definition["jsonPath"], definition.get("type", "string")

    def cell(obj: Object, now: datetime) -> Any:
        found = jsonpath.find(obj, path)
        if not found or found[0] is None:
            return "<none>" if kind == "string" and not found else None
        value = found[0]
        match kind:
            case "date":
                return age(value, now) if isinstance(value, str) else "<invalid>"
            case "integer" | "number":
                return value if isinstance(value, int | float) else None
            case "boolean":
                return value if isinstance(value, bool) else None
        if len(found) > 1 or isinstance(value, dict | list):
            return str(found if len(found) > 1 else value).replace("'", '"')
        return str(value).lower() if isinstance(value, bool) else str(value)

    return Column(
        definition["name"],
        cell,
        type=kind,
        format=definition.get("format", ""),
        priority=definition.get("priority", 0),
        description=definition.get("description", ""),
    )
