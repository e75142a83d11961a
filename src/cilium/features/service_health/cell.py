"""Wires the health check ports of Services: which there are, the servers on them, what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from cilium.features.service_health.compute import HealthCheckPorts, HealthCheckProblems
from cilium.features.service_health.rows import HealthCheck
from cilium.features.service_health.server import HealthServers
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.kubernetes import KubeNode
from cilium.tables.problems import Problem, ProblemKey
from cilium.tables.services import EndpointSlice, Service


def build(
    *,
    node: str,
    versions: Collection[int],
    healthy: Callable[[], bool],
    services: Table[str, Service],
    endpoint_slices: Table[str, EndpointSlice],
    kube_nodes: Table[str, KubeNode],
    health_checks: Table[int, HealthCheck],
    problems: Table[ProblemKey, Problem],
) -> Cell:
    servers = HealthServers(table=health_checks, versions=versions, healthy=healthy)
    reconciler = Reconciler("health-checks", table=health_checks, operations=servers)
    return Cell(
        name="service-health",
        derivations=(
            Derivation(
                "health-checks",
                inputs={"services": services, "endpoint-slices": endpoint_slices, "kube-nodes": kube_nodes},
                outputs={"health-checks": health_checks.writer("service-health")},
                compute=HealthCheckPorts(node=node).compute,
            ),
            Derivation(
                "health-check-problems",
                inputs={"health-checks": health_checks, "status": reconciler.status},
                outputs={"health-check-problems": problems.writer("service-health")},
                compute=HealthCheckProblems().compute,
            ),
        ),
        reconcilers=(reconciler,),
    )
