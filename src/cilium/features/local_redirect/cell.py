"""Wires local redirects: from policies and pods to rows that services may take into theirs."""

from __future__ import annotations

from collections.abc import Collection

from cilium.features.local_redirect.compute import Redirects
from cilium.state import Derivation, Table
from cilium.state.cell import Cell
from cilium.tables.endpoints import Endpoint
from cilium.tables.kubernetes import Pod
from cilium.tables.problems import Problem, ProblemKey
from cilium.tables.redirects import LocalRedirect, RedirectPolicy
from cilium.tables.services import Frontend, FrontendKey, Service
from cilium.tables.types import EndpointId


def build(
    *,
    node: str,
    versions: Collection[int],
    host_cookie: int,
    policies: Table[str, RedirectPolicy],
    services: Table[str, Service],
    pods: Table[str, Pod],
    endpoints: Table[EndpointId, Endpoint],
    frontends: Table[FrontendKey, Frontend],
    redirects: Table[str, LocalRedirect],
    problems: Table[ProblemKey, Problem],
) -> Cell:
    return Cell(
        name="local-redirect",
        derivations=(
            Derivation(
                "local-redirect",
                inputs={
                    "redirect-policies": policies,
                    "services": services,
                    "pods": pods,
                    "endpoints": endpoints,
                },
                outputs={
                    "redirect-frontends": frontends.writer("local-redirect"),
                    "local-redirects": redirects.writer("local-redirect"),
                    "redirect-problems": problems.writer("local-redirect"),
                },
                compute=Redirects(node=node, versions=versions, host_cookie=host_cookie).compute,
            ),
        ),
    )
