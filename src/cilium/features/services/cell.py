"""Wires services: from the API's objects to the maps, and the programs that read them to the node's cgroup."""

from __future__ import annotations

from collections.abc import Mapping

from cilium.datapath.libbpf.objects import Program
from cilium.datapath.maps import BpfMap
from cilium.datapath.nested import NestedMap
from cilium.features.services.compute import Frontends
from cilium.features.services.hooks import Hooks, SocketHookOps
from cilium.features.services.maglev import Maglev
from cilium.features.services.ops import OffLoop, ServiceMaps
from cilium.features.services.rows import HOOKS, SocketHook
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.services import EndpointSlice, Frontend, FrontendKey, Service


def build(
    *,
    node: str,
    versions: frozenset[int],
    maps: Mapping[str, BpfMap],
    tables: Mapping[str, NestedMap],
    maglev: Maglev,
    links: Hooks,
    programs: Mapping[str, Program],
    services: Table[str, Service],
    endpoint_slices: Table[str, EndpointSlice],
    frontends: Table[FrontendKey, Frontend],
    hooks: Table[str, SocketHook],
) -> Cell:
    """`versions`: IP versions that the node speaks."""
    operations = ServiceMaps(maps=maps, tables=tables, maglev=maglev)
    return Cell(
        name="services",
        derivations=(
            Derivation(
                "services",
                inputs={"services": services, "endpoint-slices": endpoint_slices},
                outputs={"frontends": frontends.writer("services")},
                compute=Frontends(node=node, versions=versions).compute,
            ),
        ),
        reconcilers=(
            # Patient: services that the last agent served stay as they are until all of them are known again.
            Reconciler("services", table=frontends, operations=OffLoop(operations), patient=True),
            _socket_hooks(hooks, HOOKS, SocketHookOps(links=links, programs=programs, known=HOOKS)),
        ),
    )


def build_off(*, links: Hooks, hooks: Table[str, SocketHook]) -> Cell:
    """Services are somebody else's: programs that an earlier agent left in the sockets' way are taken out."""
    operations = SocketHookOps(links=links, programs={}, known=HOOKS)
    return Cell(name="services", reconcilers=(_socket_hooks(hooks, (), operations),))


def _socket_hooks(
    table: Table[str, SocketHook], rows: tuple[SocketHook, ...], operations: SocketHookOps
) -> Reconciler[str, SocketHook]:
    writer = table.writer("services")
    writer.commit(upserts=rows, deletes=[])
    writer.ready()
    return Reconciler("socket-hooks", table=table, operations=operations)
