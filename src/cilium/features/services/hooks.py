"""Attaches the programs that translate in sockets to the node's root cgroup.

In: `socket-hooks`. Out: links, one per hook; what an earlier agent left at a hook that nobody wants any more goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cilium.datapath.libbpf.objects import Program
from cilium.features.services.rows import SocketHook
from cilium.state.outcomes import each
from cilium.state.reconciler import Errors


class Hooks(Protocol):
    """datapath.links.CgroupLinks."""

    def attach(self, name: str, attach_type: int, program: Program, /) -> bool:
        """Attach or replace."""

    def detach(self, name: str, /) -> None:
        """What is not there is no error."""


class SocketHookOps:
    """Operations of the `socket-hooks` reconciler. `known`: every hook there may be, wanted or not."""

    def __init__(self, *, links: Hooks, programs: Mapping[str, Program], known: Sequence[SocketHook]) -> None:
        self._links, self._programs, self._known = links, programs, known

    def update(self, rows: Sequence[SocketHook]) -> Errors:
        return each(rows, key=lambda row: row.name, call=self._attach)

    def delete(self, rows: Sequence[SocketHook]) -> Errors:
        return each(rows, key=lambda row: row.name, call=lambda row: self._links.detach(row.name))

    def prune(self, rows: Sequence[SocketHook]) -> None:
        wanted = {row.name for row in rows}
        for hook in self._known:
            if hook.name not in wanted:
                self._links.detach(hook.name)

    def _attach(self, row: SocketHook) -> Any:
        return self._links.attach(row.name, row.attach_type, self._programs[row.program])
