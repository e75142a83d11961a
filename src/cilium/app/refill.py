"""After an upgrade that changed the layout of maps: programs are replaced when the new maps are filled.

In: the cells of the agent. Out: the cells, in which the reconcilers that attach
programs wait for those that write maps. Until then the old programs go on with the old maps: nothing is open, nothing
is closed, and what changes meanwhile takes effect with the new programs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import structlog

from cilium.state import Reconciler
from cilium.state.cell import Cell

log = structlog.get_logger("refill")
ATTACH = frozenset({"attachments", "socket-hooks"})
FILL = frozenset({"endpoint-map", "ipcache", "netdevs", "policy-map", "services"})


def hold_programs(cells: Sequence[Cell], *, done: Callable[[], None]) -> tuple[Cell, ...]:
    """The cells as they are to be started. `done` is called when the maps are full, once per reconciler that waited:
    an agent that starts after it need not wait again.
    """
    writers = [each for cell in cells for each in cell.reconcilers if each.name in FILL]
    return tuple(_held(cell, writers, done) for cell in cells)


def _held(cell: Cell, writers: Sequence[Reconciler[Any, Any]], done: Callable[[], None]) -> Cell:
    held = [each for each in cell.reconcilers if each.name in ATTACH]
    rest = tuple(each for each in cell.reconcilers if each.name not in ATTACH)
    tasks = tuple((f"reconciler {each.name}", _after(each, writers, done)) for each in held)
    return replace(cell, reconcilers=rest, tasks=(*cell.tasks, *tasks))


def _after(
    held: Reconciler[Any, Any], writers: Sequence[Reconciler[Any, Any]], done: Callable[[], None]
) -> Callable[[], Coroutine[Any, Any, None]]:
    async def run() -> None:
        for each in writers:
            await each.status.wait_initialized()  # its table is known in full, and a round has written it
        log.info("maps are filled, programs are replaced", reconciler=held.name)
        done()
        await held.run()

    return run
