"""Wires host ports: from pods to rows that services may take into theirs."""

from __future__ import annotations

from collections.abc import Collection

from cilium.features.host_ports.compute import HostPorts
from cilium.state import Derivation, Table
from cilium.state.cell import Cell
from cilium.tables.devices import Device
from cilium.tables.kubernetes import Pod
from cilium.tables.problems import Problem, ProblemKey
from cilium.tables.services import Frontend, FrontendKey


def build(
    *,
    node: str,
    versions: Collection[int],
    protocols: Collection[str],
    pods: Table[str, Pod],
    devices: Table[int, Device],
    frontends: Table[FrontendKey, Frontend],
    problems: Table[ProblemKey, Problem],
) -> Cell:
    return Cell(
        name="host-ports",
        derivations=(
            Derivation(
                "host-ports",
                inputs={"pods": pods, "devices": devices},
                outputs={
                    "host-port-frontends": frontends.writer("host-ports"),
                    "host-port-problems": problems.writer("host-ports"),
                },
                compute=HostPorts(node=node, versions=versions, protocols=protocols).compute,
            ),
        ),
    )
