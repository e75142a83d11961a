"""Where policy tests are run, as the engine sees it: a port. `cilium lab test` gives it a lab.

In: manifests, orders. Out: objects, tables, answers, flows. What goes wrong with the ground
itself is raised in an error of its own, and passes through the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

Object = dict[str, Any]
Tables = dict[str, list[Object]]
Place = tuple[str, int, str]
"""Address, port (0: none, the address only), protocol `tcp` or `udp`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """`node` is `external` for the world; of a pod, `uid` and `container` are set, elsewhere `bind` may be."""

    name: str
    node: str
    uid: str = ""
    container: str = ""
    families: tuple[int, ...] = (4, 6)
    bind: tuple[tuple[int, str], ...] = ()


class Ground(Protocol):
    """`networks` are the cluster's own, in which no address is the world's; `image` is that of stand-ins."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Those that run."""

    @property
    def networks(self) -> tuple[str, ...]: ...

    @property
    def image(self) -> str: ...

    def get(self, path: str) -> Object:
        """One answer of the API server."""

    def find(self, manifest: Object) -> Object | None:
        """The object that a manifest names, if there is one."""

    def apply(self, manifest: Object) -> Object:
        """Server-side apply, strict. The stored object. Raises RefusedError."""

    def delete(self, manifest: Object) -> None:
        """What is not there is no error."""

    def wait(self, path: str, ready: Callable[[list[Object]], bool], seconds: float, what: str) -> None:
        """Until `ready` is true of a collection's objects."""

    def tables(self, node: str, names: Sequence[str]) -> Tables:
        """Of a node's agent, by name; none while it does not answer."""

    def ask(self, asker: Asker, order: Object) -> list[Object]:
        """Runs the prober (`kubelab.prober.probe`) with an order. Raises WrongTestError when it cannot be run there."""

    def flows(self, node: str, since: str, fields: Collection[str]) -> list[Object]:
        """New connections and drops that a node has seen since then. Raises WrongTestError."""

    def serving(self, places: Collection[Place]) -> AbstractContextManager[None]:
        """The world has these addresses and answers there, meanwhile."""
