"""Wires services in sockets: programs on the node's cgroup, and the end of connections to backends that are gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from cilium.datapath.libbpf.objects import Program
from cilium.datapath.maps import BpfMap
from cilium.features.services.hooks import Hooks, SocketHookOps
from cilium.features.services.rows import BIND_PROTECTION, HOOKS, TRANSLATION, SocketHook
from cilium.features.services.termination import Termination
from cilium.settings.service_groups import ServiceSettings
from cilium.state import Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.endpoints import Endpoint
from cilium.tables.services import EndpointSlice, Frontend, FrontendKey
from cilium.tables.types import EndpointId

NAME = "services in sockets"


def build(
    *,
    settings: ServiceSettings,
    links: Hooks,
    programs: Mapping[str, Program],
    reverse: BpfMap,
    settled: Callable[[int], Awaitable[None]],
    frontends: Table[FrontendKey, Frontend],
    endpoint_slices: Table[str, EndpointSlice],
    endpoints: Table[EndpointId, Endpoint],
    hooks: Table[str, SocketHook],
) -> Cell:
    """`settled`: see Termination."""
    wanted = (TRANSLATION if settings.socket else ()) + (BIND_PROTECTION if settings.bind_protection else ())
    operations = SocketHookOps(links=links, programs=programs, known=HOOKS)
    termination = Termination(
        frontends=frontends, slices=endpoint_slices, endpoints=endpoints, reverse=reverse, settled=settled
    )
    ends = settings.socket and settings.terminate_sockets
    return Cell(
        name=NAME,
        reconcilers=(_hooks(hooks, wanted, operations),),
        tasks=(("socket termination", termination.run),) if ends else (),
    )


def build_off(*, links: Hooks, hooks: Table[str, SocketHook]) -> Cell:
    """Services are somebody else's: programs that an earlier agent left in the sockets' way are taken out."""
    return Cell(name=NAME, reconcilers=(_hooks(hooks, (), SocketHookOps(links=links, programs={}, known=HOOKS)),))


def _hooks(
    table: Table[str, SocketHook], rows: tuple[SocketHook, ...], operations: SocketHookOps
) -> Reconciler[str, SocketHook]:
    writer = table.writer("services")
    writer.commit(upserts=rows, deletes=[])
    writer.ready()
    return Reconciler("socket-hooks", table=table, operations=operations)
