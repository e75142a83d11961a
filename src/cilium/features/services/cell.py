"""Wires services: from the API's objects to the maps, and the programs that read them to the node's cgroup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cilium.datapath.libbpf.objects import Program
from cilium.datapath.maps import BpfMap
from cilium.features.services.compute import Frontends
from cilium.features.services.events import ProblemEvents, Writes
from cilium.features.services.hooks import Hooks, SocketHookOps
from cilium.features.services.ops import OffLoop, ServiceMaps
from cilium.features.services.problems import STATUS, Problems
from cilium.features.services.rows import HOOKS, SocketHook
from cilium.settings.service_groups import ServiceSettings
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.devices import Device
from cilium.tables.kubernetes import KubeNode
from cilium.tables.problems import Problem, ProblemKey
from cilium.tables.services import EndpointSlice, Frontend, FrontendKey, Service


@dataclass(frozen=True, kw_only=True)
class ServiceTables:
    """What services are computed from, and into."""

    services: Table[str, Service]
    endpoint_slices: Table[str, EndpointSlice]
    kube_nodes: Table[str, KubeNode]
    devices: Table[int, Device]
    others: Mapping[str, Table[FrontendKey, Frontend]] = field(default_factory=dict)
    """Tables, by name, of rows that others want among the frontends."""
    problems: Mapping[str, Table[ProblemKey, Problem]] = field(default_factory=dict)
    """Tables, by name, of problems that others found."""
    frontends: Table[FrontendKey, Frontend]
    findings: Table[ProblemKey, Problem]
    service_problems: Table[ProblemKey, Problem]


def build(
    *,
    node: str,
    versions: frozenset[int],
    settings: ServiceSettings,
    maps: Mapping[str, BpfMap],
    links: Hooks,
    programs: Mapping[str, Program],
    writes: Writes,
    uid: Callable[[str, str], str],
    tables: ServiceTables,
    hooks: Table[str, SocketHook],
) -> Cell:
    """`versions`: IP versions that the node speaks; `uid`: of an object, by kind and namespace/name."""
    operations = ServiceMaps(
        services=maps["cilium_lb_services"], slots=maps["cilium_lb_slots"], backends=maps["cilium_lb_backends"]
    )
    # Patient: services that the last agent served stay as they are until all of them are known again.
    reconciler = Reconciler("services", table=tables.frontends, operations=OffLoop(operations), patient=True)
    return Cell(
        name="services",
        derivations=(
            _frontends(node, versions, settings, tables),
            _problems(tables, reconciler),
        ),
        reconcilers=(
            reconciler,
            _socket_hooks(hooks, HOOKS, SocketHookOps(links=links, programs=programs, known=HOOKS)),
            Reconciler(
                "service-events",
                table=tables.service_problems,
                operations=ProblemEvents(writes=writes, node=node, uid=uid),
            ),
        ),
    )


def _frontends(node: str, versions: frozenset[int], settings: ServiceSettings, tables: ServiceTables) -> Derivation:
    inputs: dict[str, Table[Any, Any]] = {
        "services": tables.services,
        "endpoint-slices": tables.endpoint_slices,
        "kube-nodes": tables.kube_nodes,
        **tables.others,
    }
    if settings.node_port_addresses:
        inputs["devices"] = tables.devices
    frontends = Frontends(node=node, versions=versions, settings=settings, others=tuple(tables.others))
    return Derivation(
        "services",
        inputs=inputs,
        outputs={
            "frontends": tables.frontends.writer("services"),
            "service-findings": tables.findings.writer("services"),
        },
        compute=frontends.compute,
    )


def _problems(tables: ServiceTables, reconciler: Reconciler[FrontendKey, Frontend]) -> Derivation:
    found = {"service-findings": tables.findings, **tables.problems}
    return Derivation(
        "service-problems",
        inputs={"frontends": tables.frontends, STATUS: reconciler.status, **found},
        outputs={"service-problems": tables.service_problems.writer("services")},
        compute=Problems(tuple(found)).compute,
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
