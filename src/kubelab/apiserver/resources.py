"""Which resources the server knows.

Owns: `Resource`, the description of one served resource (a row of discovery), and `Registry`, the set of them that
grows and shrinks with CRDs. Comes in: built-in rows (`builtins.py`) and rows made from CRDs (`crds.py`). Goes out:
look-ups by group-resource for the store and by URL segments for the HTTP layer.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Subresource:
    """`name` is the URL segment; group, version and kind describe the body it takes."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource in all the versions it is served in.

    `key` ("pods", "deployments.apps") names it everywhere in the store. Objects are kept in `storage_version`; other
    versions are what `custom_conversion` makes of them.
    """

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    singular: str
    namespaced: bool
    storage_version: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    generation: bool = False
    "True: metadata.generation counts changes of what is neither metadata nor status."
    custom: bool = False
    "True: defined by a CRD."
    selectable: tuple[str, ...] = ()
    "Field selectors beyond metadata.name and metadata.namespace, as dotted paths."
    stored_as: str = ""
    "Key of the resource whose objects these are in another form (`conversion.py`): events.k8s.io."
    scale: tuple[str, str, str] | None = None
    'CRDs only: paths of wanted replicas, observed replicas and (or "") the selector.'
    deprecations: tuple[tuple[str, str], ...] = ()
    "Versions that should not be used any more, each with the warning that every answer bears."

    @property
    def key(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def stored(self) -> str:
        """The key under which the store knows the objects."""
        return self.stored_as or self.key

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List"

    def api_version(self, version: str = "") -> str:
        version = version or self.storage_version
        return f"{self.group}/{version}" if self.group else version

    def subresource(self, name: str) -> Subresource | None:
        return next((s for s in self.subresources if s.name == name), None)

    @property
    def has_status(self) -> bool:
        return self.subresource("status") is not None


class Registry:
    """All served resources. `on_change` callbacks run after every `add` and `remove` (discovery caches, OpenAPI)."""

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self._by_key: dict[str, Resource] = {}
        self._callbacks: list[Callable[[], None]] = []
        for resource in resources:
            self._by_key[resource.key] = resource

    def __iter__(self) -> Iterator[Resource]:
        return iter(tuple(self._by_key.values()))

    def get(self, key: str) -> Resource | None:
        return self._by_key.get(key)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource served at /apis/<group>/<version>/<plural>, or None."""
        resource = self._by_key.get(f"{plural}.{group}" if group else plural)
        return resource if resource is not None and version in resource.versions else None

    def find_kind(self, group: str, kind: str) -> Resource | None:
        return next((r for r in self._by_key.values() if r.group == group and r.kind == kind), None)

    def groups(self) -> dict[str, list[str]]:
        """Group -> versions in order of preference; the core group is ""."""
        groups: dict[str, list[str]] = {}
        for resource in self._by_key.values():
            known = groups.setdefault(resource.group, [])
            known.extend(v for v in resource.versions if v not in known)
        return {group: sorted(versions, key=version_priority) for group, versions in groups.items()}

    def add(self, resource: Resource) -> None:
        """Serve `resource` from now on; replaces an earlier row of the same key."""
        self._by_key[resource.key] = resource
        self._changed()

    def remove(self, key: str) -> None:
        if self._by_key.pop(key, None) is not None:
            self._changed()

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _changed(self) -> None:
        for callback in self._callbacks:
            callback()


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key: v2 before v1, GA before beta before alpha, anything else last by name (API conventions)."""
    digits = version[1:]
    for rank, stage in enumerate(("beta", "alpha"), start=1):
        major, found, minor = digits.partition(stage)
        if found and major.isdigit():
            return (rank, -int(major), -int(minor or 0), "")
    if version.startswith("v") and digits.isdigit():
        return (0, -int(digits), 0, "")
    return (3, 0, 0, version)
