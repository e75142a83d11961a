"""Looks for processes of the node that listen on ports that lead elsewhere: they wait in vain.

In: `node-ports`, the node's sockets. Out: `node-port-problems`. The port is served all the same: for clients outside it
is the Service's, whoever holds a socket. Sockets come and go without a word, so they are looked at when a port comes,
and again after a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from cilium.features.node_ports.rows import NodePort
from cilium.state import Table, Writer
from cilium.tables.problems import Problem, ProblemBook, ProblemKey, Reason
from cilium.tables.types import IPAddress

INTERVAL = 30.0
"""Seconds between two looks."""
log = structlog.get_logger("node-ports")


class BoundSocket(Protocol):
    """datapath.netlink.listeners.BoundSocket."""

    @property
    def address(self) -> IPAddress: ...
    @property
    def port(self) -> int: ...
    @property
    def protocol(self) -> str: ...
    @property
    def uid(self) -> int: ...
    @property
    def inode(self) -> int: ...


Look = Callable[[int, int], Sequence[BoundSocket]]
"""Sockets of the node that are bound to ports from one to another. Raises OSError or DatapathError."""
Name = Callable[[Collection[int]], Mapping[int, str]]
"""Processes by the inode of a socket that they hold, as far as they can be seen."""


class PortWatch:
    """`run` is the task; `look` and `name` may block."""

    def __init__(
        self,
        *,
        node: str,
        node_ports: Table[tuple[int, str], NodePort],
        problems: Writer[ProblemKey, Problem],
        look: Look,
        name: Name,
    ) -> None:
        self._node, self._table, self._writer, self._look, self._name = node, node_ports, problems, look, name
        self._changes = node_ports.changes()
        self._books = {"NodePort": ProblemBook("Service", Reason.IN_USE), "HostPort": ProblemBook("Pod", Reason.IN_USE)}
        self._known: dict[str, frozenset[str]] = {kind: frozenset() for kind in self._books}
        """Owners of whom something was said, by kind."""
        self._failure = ""

    async def run(self) -> None:
        """Never returns."""
        while True:
            self._changes.pop()
            await self.inspect()
            if self._changes.seen_initialized:
                self._writer.ready()
            await self._wait()

    async def inspect(self) -> None:
        """One look at all ports."""
        wanted = {row.key: row for row in self._table.snapshot()}
        if wanted:
            ports = [row.port for row in wanted.values()]
            try:
                sockets = await asyncio.to_thread(self._look, min(ports), max(ports))
            except Exception as error:  # what is not seen is no reason to stop
                if str(error) != self._failure:
                    log.warning("sockets of the node cannot be listed", error=str(error))
                self._failure = str(error)
                return
            self._failure = ""
        else:
            sockets = []
        taken = [each for each in sockets if (each.port, each.protocol) in wanted]
        names = await asyncio.to_thread(self._name, [each.inode for each in taken]) if taken else {}
        self._report(wanted, taken, names)

    def _report(
        self, wanted: Mapping[tuple[int, str], NodePort], taken: Iterable[BoundSocket], names: Mapping[int, str]
    ) -> None:
        found: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in self._books}
        for each in taken:
            row = wanted[each.port, each.protocol]
            who = names.get(each.inode) or f"a process of user {each.uid}"
            where = f"[{each.address}]:{each.port}" if each.address.version == 6 else f"{each.address}:{each.port}"
            found[row.kind].setdefault(row.owner, {})[field(row)] = (
                f"{who} listens on {where}/{each.protocol} of node {self._node} and is not reached there any more: "
                "stop it, or choose another port"
            )
        for kind, messages in found.items():
            silent: dict[str, dict[str, str]] = {owner: {} for owner in self._known[kind] - messages.keys()}
            changes = self._books[kind].report({**messages, **silent})
            self._writer.commit(changes.upserts, changes.deletes)
            self._known[kind] = frozenset(messages)

    async def _wait(self) -> None:
        """Until a port comes or goes, or it is time to look again; for as long as there are none, there is nothing to
        look for.
        """
        try:
            async with asyncio.timeout(INTERVAL if len(self._table) else None):
                await self._changes.wait()
        except TimeoutError:
            pass


def field(row: NodePort) -> str:
    if row.kind == "NodePort":
        return f"spec.ports[{row.port}/{row.protocol}].nodePort"
    return f"spec.containers.ports[{row.port}/{row.protocol}].hostPort"
