"""Wires services: from the API's objects to the maps, and the programs that read them to the node's cgroup."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cilium.datapath.libbpf.objects import Program
from cilium.datapath.maps import BpfMap
from cilium.datapath.nested import NestedMap
from cilium.features.services import socket_cell
from cilium.features.services.compute import Frontends
from cilium.features.services.events import ProblemEvents, Writes
from cilium.features.services.hooks import Hooks
from cilium.features.services.maglev import Maglev
from cilium.features.services.ops import OffLoop, ServiceMaps
from cilium.features.services.problems import STATUS, Problems
from cilium.features.services.rows import SocketHook
from cilium.settings.service_groups import ServiceSettings
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint
from cilium.tables.kubernetes import KubeNode
from cilium.tables.problems import Problem, ProblemKey
from cilium.tables.services import EndpointSlice, Frontend, FrontendKey, Service
from cilium.tables.types import EndpointId


@dataclass(frozen=True, kw_only=True)
class ServiceTables:
    """What services are computed from, and into."""

    services: Table[str, Service]
    endpoint_slices: Table[str, EndpointSlice]
    kube_nodes: Table[str, KubeNode]
    devices: Table[int, Device]
    endpoints: Table[EndpointId, Endpoint]
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
    nested: Mapping[str, NestedMap],
    links: Hooks,
    programs: Mapping[str, Program],
    writes: Writes,
    uid: Callable[[str, str], str],
    tables: ServiceTables,
    hooks: Table[str, SocketHook],
) -> Cell:
    """`versions`: IP versions that the node speaks; `uid`: of an object, by kind and namespace/name."""
    maglev = Maglev(size=settings.maglev_table_size, seed=b64decode(settings.maglev_hash_seed))
    operations = ServiceMaps(maps=maps, nested=nested, maglev=maglev)
    # Patient: services that the last agent served stay as they are until all of them are known again.
    reconciler = Reconciler("services", table=tables.frontends, operations=OffLoop(operations), patient=True)
    sockets = socket_cell.build(
        settings=settings,
        links=links,
        programs=programs,
        reverse=maps["cilium_lb_reverse"],
        settled=reconciler.wait_done,
        frontends=tables.frontends,
        endpoint_slices=tables.endpoint_slices,
        endpoints=tables.endpoints,
        hooks=hooks,
    )
    return Cell(
        name="services",
        derivations=(
            _frontends(node, versions, settings, tables),
            _problems(tables, reconciler),
        ),
        reconcilers=(
            reconciler,
            *sockets.reconcilers,
            Reconciler(
                "service-events",
                table=tables.service_problems,
                operations=ProblemEvents(writes=writes, node=node, uid=uid),
            ),
        ),
        tasks=sockets.tasks,
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
