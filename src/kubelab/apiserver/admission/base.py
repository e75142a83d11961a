"""A write as admission plugins see it, and the chain of them.

Owns: `Write`, `Plugin`, `Chain`. Comes in: a private copy of the object with its defaults. Goes out: the object as
plugins changed it; ApiErrors. First every plugin may change the object, then, after validation, every plugin may refuse
it. Plugins are synchronous: a write is one step. Source: Kubernetes documentation "Admission Controllers Reference".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from kubelab.apiserver.resources import Resource
from kubelab.apiserver.strategies.base import Reader

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Write:
    """`old` is None for a create."""

    resource: Resource
    obj: Object
    old: Object | None
    store: Reader
    subresource: str = ""

    @property
    def namespace(self) -> str:
        return str(self.obj["metadata"].get("namespace", ""))

    @property
    def creates(self) -> bool:
        return self.old is None


class Plugin:
    handles: ClassVar[frozenset[str]] = frozenset()
    """Resource keys; empty: all of them."""

    def mutate(self, write: Write) -> None:
        """Change `write.obj` in place. May raise an ApiError."""

    def validate(self, write: Write) -> None:
        """Raise an ApiError, or let it pass."""


class Admission(Protocol):
    def mutate(self, write: Write) -> None: ...
    def validate(self, write: Write) -> None: ...


class Chain:
    """Plugins in order."""

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self._plugins = tuple(plugins)
        self._by_key: dict[str, tuple[Plugin, ...]] = {}

    def mutate(self, write: Write) -> None:
        for plugin in self._of(write.resource.key):
            plugin.mutate(write)

    def validate(self, write: Write) -> None:
        for plugin in self._of(write.resource.key):
            plugin.validate(write)

    def _of(self, key: str) -> tuple[Plugin, ...]:
        plugins = self._by_key.get(key)
        if plugins is None:
            plugins = tuple(p for p in self._plugins if not p.handles or key in p.handles)
            self._by_key[key] = plugins
        return plugins
