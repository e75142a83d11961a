"""A write as admission plugins see it, and the chain of them.

Owns: `Write`, `Plugin`, `Chain`. Comes in: a private copy of the object with its defaults. Goes out: the object as
plugins changed it; ApiErrors. First every plugin may change the object, then, after validation, every plugin may refuse
it. Plugins are synchronous: a write is one step. What asks somebody else, and waits, are webhooks (`Webhooks`).
Source: Kubernetes documentation "Admission Controllers Reference".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from kubelab.apiserver.resources import Resource
from kubelab.apiserver.strategies.base import Reader

Object = dict[str, Any]
CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


@dataclass(frozen=True, slots=True)
class Write:
    """`old` is None for a create. `operation` is asked for only where `old` does not tell: a deletion is the write of
    an object that is `old` too, a CONNECT the write of its options."""

    resource: Resource
    obj: Object
    old: Object | None
    store: Reader
    subresource: str = ""
    operation: str = ""
    dry_run: bool = False
    name: str = ""
    "Of the object that a subresource belongs to; else the object's own."
    manager: str = ""
    asked: bool = False
    "Users' webhooks and policies were asked about it as something else: as a binding, as a scale."

    @property
    def namespace(self) -> str:
        return str(self.obj.get("metadata", {}).get("namespace", ""))

    @property
    def creates(self) -> bool:
        return self.old is None

    @property
    def verb(self) -> str:
        """CREATE, UPDATE, DELETE or CONNECT."""
        return self.operation or (UPDATE if self.old is not None else CREATE)

    @property
    def target(self) -> str:
        """The name of what is written, "" while it has none."""
        return self.name or str(self.obj.get("metadata", {}).get("name", ""))


class Plugin:
    handles: ClassVar[frozenset[str]] = frozenset()
    """Resource keys; empty: all of them."""

    def mutate(self, write: Write) -> None:
        """Change `write.obj` in place. May raise an ApiError."""

    def validate(self, write: Write) -> None:
        """Raise an ApiError, or let it pass."""

    def validate_other(self, write: Write) -> None:
        """The same for deletions, and for subresources that store nothing (eviction, exec)."""


class Admission(Protocol):
    def mutate(self, write: Write) -> None: ...
    def validate(self, write: Write) -> None: ...
    def validate_other(self, write: Write) -> None: ...


class Webhooks(Protocol):
    """Those who are asked over the network."""

    def concern(self, write: Write) -> bool:
        """Whether anybody wants to know of such a write. Costs nothing while there are no webhooks."""

    async def mutate(self, write: Write) -> "Mutation":
        """Changes `write.obj` in place. Raises ApiError for a refusal, and for a webhook that cannot be asked."""

    async def validate(self, write: Write) -> None:
        """Raises ApiError likewise."""


class Mutation(Protocol):
    """The first round of the mutating webhooks."""

    @property
    def changed(self) -> bool: ...

    async def again(self) -> None:
        """Asks anew those who want to see what others changed."""


class NoWebhooks:
    """Nobody is asked."""

    def concern(self, write: Write) -> bool:
        return False

    async def mutate(self, write: Write) -> Mutation:
        raise AssertionError("nobody is concerned")

    async def validate(self, write: Write) -> None:
        raise AssertionError("nobody is concerned")


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

    def validate_other(self, write: Write) -> None:
        for plugin in self._of(write.resource.key):
            plugin.validate_other(write)

    def _of(self, key: str) -> tuple[Plugin, ...]:
        plugins = self._by_key.get(key)
        if plugins is None:
            plugins = tuple(p for p in self._plugins if not p.handles or key in p.handles)
            self._by_key[key] = plugins
        return plugins
