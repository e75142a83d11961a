"""Custom resources come and go with their definitions.

Owns: serving what CustomResourceDefinitions declare. Comes in: commits of CRDs and of custom objects. Goes out: rows in
the registry, schemas, printer columns; when a CRD is deleted, its objects are deleted first and it stays until the last
of them (finalizers) is gone.
"""

import copy
from typing import Any

from kubelab.apiserver.resources import Registry, Resource, Subresource, version_priority
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.definitions import CLEANUP, CRDS, is_established
from kubelab.apiserver.tables import Tables
from kubelab.apiserver.watch import Change

Object = dict[str, Any]


class CustomResources:
    def __init__(self, store: Store, registry: Registry, schemas: Schemas, tables: Tables) -> None:
        self._store = store
        self._registry = registry
        self._schemas = schemas
        self._tables = tables
        store.on_commit(self._committed)

    def load(self) -> None:
        """Serve every CRD of the store (start)."""
        for crd in self._store.peek_all(CRDS):
            self._serve(crd)

    def _committed(self, resource: Resource, change: Change) -> None:
        if resource.key == CRDS:
            crd = change.entry.object
            if change.type == "DELETED":
                self._withdraw(crd)
            elif "deletionTimestamp" in crd["metadata"]:
                self._empty(crd)
            else:
                self._serve(crd, previous=change.previous.object if change.previous else None)
        elif resource.custom and change.type == "DELETED":
            crd_object = self._store.peek(CRDS, resource.key)
            if crd_object is not None and "deletionTimestamp" in crd_object["metadata"]:
                self._empty(crd_object)

    def _serve(self, crd: Object, *, previous: Object | None = None) -> None:
        if not is_established(crd):
            return
        if previous is not None and previous["spec"] == crd["spec"] and is_established(previous):
            return
        spec = crd["spec"]
        for version in spec["versions"]:
            if version.get("served"):
                kind = spec["names"]["kind"]
                self._schemas.set_custom(spec["group"], version["name"], kind, schema_of(version))
                columns = version.get("additionalPrinterColumns") or ()
                self._tables.set_custom(crd["metadata"]["name"], version["name"], columns)
        self._registry.add(resource_of(crd))

    def _withdraw(self, crd: Object) -> None:
        spec = crd["spec"]
        self._registry.remove(crd["metadata"]["name"])
        self._store.close_resource(crd["metadata"]["name"])
        for version in spec["versions"]:
            self._schemas.drop_custom(spec["group"], version["name"], spec["names"]["kind"])

    def _empty(self, crd: Object) -> None:
        """Delete the objects of a dying CRD; with the last one gone, let the CRD go too."""
        key = crd["metadata"]["name"]
        if CLEANUP not in crd["metadata"].get("finalizers", ()):
            return
        for obj in self._store.peek_all(key):
            if "deletionTimestamp" not in obj["metadata"]:
                metadata = obj["metadata"]
                self._store.delete_now(key, metadata["name"], namespace=metadata.get("namespace", ""))
        current = self._store.peek(CRDS, key)
        if (
            current is not None
            and not self._store.peek_all(key)
            and CLEANUP in current["metadata"].get("finalizers", ())
        ):
            left = copy.deepcopy(current)
            left["metadata"]["finalizers"].remove(CLEANUP)
            self._store.replace(CRDS, left)


def schema_of(version: Object) -> Object:
    schema: Object = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    return schema


def resource_of(crd: Object) -> Resource:
    """The registry row of an established CRD."""
    spec = crd["spec"]
    names = crd["status"]["acceptedNames"]
    served = tuple(v["name"] for v in spec["versions"] if v.get("served"))
    storage = next(v for v in spec["versions"] if v.get("storage"))
    declared = storage.get("subresources") or {}
    subresources = []
    scale = None
    if "scale" in declared:
        paths = declared["scale"]
        scale = (paths["specReplicasPath"], paths["statusReplicasPath"], paths.get("labelSelectorPath", ""))
        subresources.append(
            Subresource("scale", "Scale", ("get", "patch", "update"), group="autoscaling", version="v1")
        )
    if "status" in declared:
        subresources.append(Subresource("status", names["kind"], ("get", "patch", "update")))
    return Resource(
        group=spec["group"],
        versions=served,
        plural=names["plural"],
        kind=names["kind"],
        singular=names["singular"],
        namespaced=spec["scope"] == "Namespaced",
        storage_version=storage["name"],
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=tuple(subresources),
        generation=True,
        custom=True,
        selectable=tuple(f["jsonPath"].lstrip(".") for f in storage.get("selectableFields") or ()),
        scale=scale,
        deprecations=tuple(
            (v["name"], v.get("deprecationWarning") or _deprecation(v["name"], spec))
            for v in spec["versions"]
            if v.get("deprecated")
        ),
    )


def _deprecation(version: str, spec: Object) -> str:
    """Names the best of the versions that stay."""
    group, kind = spec["group"], spec["names"]["kind"]
    kept = [v["name"] for v in spec["versions"] if v.get("served") and not v.get("deprecated")]
    better = [name for name in sorted(kept, key=version_priority) if version_priority(name) < version_priority(version)]
    instead = f"; use {group}/{better[0]} {kind}" if better else ""
    return f"{group}/{version} {kind} is deprecated{instead}"
