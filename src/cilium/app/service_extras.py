"""Constructs what surrounds services: host ports, local redirects, health check ports, the watch over node ports.

In: `Built`. Out: cells; the tables whose rows services take among theirs, and those of problems that were found, each
only if somebody writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cilium.app.built import Built
from cilium.datapath.netlink.listeners import bound_sockets, holders
from cilium.datapath.netlink.netns import netns_cookie
from cilium.features.host_ports import cell as host_ports_cell
from cilium.features.local_redirect import cell as local_redirect_cell
from cilium.features.node_ports import cell as node_ports_cell
from cilium.features.service_health import cell as service_health_cell
from cilium.state import Table
from cilium.state.cell import Cell
from cilium.tables.problems import Problem, ProblemKey
from cilium.tables.services import Frontend, FrontendKey


def others(built: Built) -> Mapping[str, Table[FrontendKey, Frontend]]:
    """Rows that pods and policies want among the frontends."""
    settings, tables = built.settings.services, built.tables
    found = [tables.host_port_frontends] if settings.host_port else []
    found += [tables.redirect_frontends] if settings.local_redirect else []
    return {table.name: table for table in found}


def problems(built: Built) -> Mapping[str, Table[ProblemKey, Problem]]:
    settings, tables = built.settings.services, built.tables
    found = [tables.node_port_problems]
    found += [tables.host_port_problems] if settings.host_port else []
    found += [tables.redirect_problems] if settings.local_redirect else []
    found += [tables.health_check_problems] if settings.health_check_node_port else []
    return {table.name: table for table in found}


def build_extras(built: Built, *, healthy: Callable[[], bool]) -> tuple[Cell, ...]:
    """Nothing where services are somebody else's. `healthy`: the kernel has what the table of services says."""
    settings = built.settings.services
    if not settings.replacement:
        return ()
    cells = [_node_ports(built)]
    if settings.host_port:
        cells.append(_host_ports(built))
    if settings.local_redirect:
        cells.append(_local_redirect(built))
    if settings.health_check_node_port:
        cells.append(_service_health(built, healthy))
    return tuple(cells)


def _host_ports(built: Built) -> Cell:
    tables = built.tables
    return host_ports_cell.build(
        node=built.node.name,
        versions=built.settings.families.versions,
        protocols=("TCP", "UDP", *(["SCTP"] if built.settings.services.sctp else [])),
        pods=built.kubernetes.pods,
        devices=tables.devices,
        frontends=tables.host_port_frontends,
        problems=tables.host_port_problems,
    )


def _local_redirect(built: Built) -> Cell:
    tables, kubernetes = built.tables, built.kubernetes
    return local_redirect_cell.build(
        node=built.node.name,
        versions=built.settings.families.versions,
        host_cookie=netns_cookie(),
        policies=kubernetes.redirect_policies,
        services=kubernetes.services,
        pods=kubernetes.pods,
        endpoints=tables.endpoints,
        frontends=tables.redirect_frontends,
        redirects=tables.local_redirects,
        problems=tables.redirect_problems,
    )


def _node_ports(built: Built) -> Cell:
    tables = built.tables
    return node_ports_cell.build(
        node=built.node.name,
        look=bound_sockets,
        name=holders,
        frontends=tables.frontends,
        node_ports=tables.node_ports,
        problems=tables.node_port_problems,
    )


def _service_health(built: Built, healthy: Callable[[], bool]) -> Cell:
    tables, kubernetes = built.tables, built.kubernetes
    return service_health_cell.build(
        node=built.node.name,
        versions=built.settings.families.versions,
        healthy=healthy,
        services=kubernetes.services,
        endpoint_slices=kubernetes.endpoint_slices,
        health_checks=tables.health_checks,
        problems=tables.health_check_problems,
    )
