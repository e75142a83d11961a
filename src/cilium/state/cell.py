"""A feature as the composition root sees it: what it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from cilium.state.derivation import Derivation
from cilium.state.reconciler import Reconciler


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Everything here runs for the life of the process; a task that ends in error ends the process."""

    name: str
    derivations: tuple[Derivation, ...] = ()
    reconcilers: tuple[Reconciler[Any, Any], ...] = ()
    tasks: tuple[tuple[str, Callable[[], Coroutine[Any, Any, None]]], ...] = ()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        for derivation in self.derivations:
            tasks.create_task(derivation.run(), name=f"derivation {derivation.name}")
        for reconciler in self.reconcilers:
            tasks.create_task(reconciler.run(), name=f"reconciler {reconciler.name}")
        for name, run in self.tasks:
            tasks.create_task(run(), name=name)
