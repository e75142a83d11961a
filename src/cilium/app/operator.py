"""cilium-operator: the composition root of what one process does for the whole cluster.

Pod CIDRs for nodes (cluster-pool), garbage collection of identities and endpoints, the CRDs themselves. One operator
is active, by Lease; the others wait.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Collection
from functools import partial
from importlib.metadata import version

import structlog

from cilium.api import crds
from cilium.app import logs
from cilium.app.inspection import Inspection
from cilium.app.leader import Leader, LeaseLostError
from cilium.app.metrics import OperatorCollector
from cilium.app.objects import LeaseObject, ObjectWrites, identity_of_this_process
from cilium.app.processes import read_settings, run_process
from cilium.app.rest.server import serve_metrics, serve_probes
from cilium.features.endpoint.collect import EndpointCollector
from cilium.features.identity.collect import IdentityCollector
from cilium.features.ipam import cell as ipam_cell
from cilium.features.ipam.pools import Pool
from cilium.features.policy import conditions
from cilium.settings import IpamMode, Settings
from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import resolve
from cilium.sources.kubernetes.errors import ApiError, ConfigError, Unreachable
from cilium.sources.kubernetes.source import OPERATOR, KubernetesSource, Resource
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.sources.kubernetes.writes import Writes
from cilium.tables.types import Identity

log = structlog.get_logger("operator")

POLICIES = frozenset(
    {
        Resource.CILIUM_NETWORK_POLICIES,
        Resource.CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
        Resource.CLUSTER_NETWORK_POLICIES,
    }
)
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LEASE = "cilium-operator-resource-lock"
RETRY = 1.0
TRANSIENT = frozenset({409, 429})
"""Refusals below 500 that a moment heals: somebody else was writing, or too many were."""


async def run(settings: Settings) -> None:
    """Until cancelled. Who loses the Lease waits for it again, and begins anew with it."""
    inspection = Inspection(settings=settings, node="", version=version("cilium"))
    config = resolve(server=settings.kubernetes.server, kubeconfig=settings.kubernetes.kubeconfig)
    async with Client(config, user_agent="cilium-operator") as client:
        await serve_probes(settings.operator.listen, inspection)
        await serve_metrics(settings.operator.metrics, OperatorCollector(inspection))
        writes = Writes(client, field_manager="cilium-operator")
        leader = Leader(
            leases=LeaseObject(writes, namespace=settings.process.namespace, name=LEASE),
            identity=identity_of_this_process(),
            duration=settings.operator.lease_duration,
            renew_deadline=settings.operator.renew_deadline,
            retry_period=settings.operator.retry_period,
        )
        inspection.stage = "ready"  # a waiting operator is a healthy one
        await leader.lead(lambda tasks: lead(inspection, client, writes, tasks))


async def lead(inspection: Inspection, client: Client, writes: Writes, tasks: asyncio.TaskGroup) -> None:
    """Starts what only one operator does; with every Lease anew."""
    settings = inspection.settings
    unwanted = set() if settings.policy.cluster_network_policy else {Resource.CLUSTER_NETWORK_POLICIES}
    await ensure_crds(writes, without={resource.crd for resource in unwanted})
    source = KubernetesSource(
        client=client,
        tables=KubernetesTables(),
        cluster=settings.cluster.name,
        policy=settings.policy,
        resources=(OPERATOR | POLICIES) - unwanted,
        reports=True,
    )
    tasks.create_task(source.run(), name="kubernetes")
    objects = ObjectWrites(writes)
    cells = [conditions.build(writes=objects, policies=source.tables.policies, cilium_nodes=source.tables.cilium_nodes)]
    if settings.ipam.mode is IpamMode.CLUSTER_POOL:
        cells.append(ipam_cell.build(pools=pools_of(settings), writes=objects, cilium_nodes=source.tables.cilium_nodes))
    inspection.reflectors = source.health
    inspection.add_tables([*source.tables])
    inspection.reconcilers.clear()
    for cell in cells:
        cell.start(tasks)
        inspection.add_reconcilers(*cell.reconcilers)
    tasks.create_task(collect_identities(settings, source, objects), name="identity collection")
    if settings.operator.endpoint_gc:
        tasks.create_task(collect_endpoints(settings, source, objects), name="endpoint collection")


async def ensure_crds(writes: Writes, *, without: Collection[str] = ()) -> None:
    """However long the API server is away, or not well; its refusal is an error.

    Definitions of others' resources are written where there are none; what somebody else wrote is left as it is.
    `without`: names that nobody needs.
    """
    for crd in crds.load():
        name = crd["metadata"]["name"]
        if name in without:
            continue
        while True:
            try:
                if crd["spec"]["group"] == crds.GROUP or crds.is_ours(await writes.find(CRDS, name)):
                    await writes.ensure(CRDS, name, crd)
                break
            except (Unreachable, ApiError) as error:
                if isinstance(error, ApiError) and error.status < 500 and error.status not in TRANSIENT:
                    raise
                log.warning("definition not written", crd=name, error=str(error))
                await asyncio.sleep(RETRY)


def pools_of(settings: Settings) -> list[Pool]:
    pools = []
    if settings.families.ipv4 and settings.ipam.ipv4_pools:
        pools.append(Pool(cidrs=settings.ipam.ipv4_pools, mask=settings.ipam.ipv4_mask_size))
    if settings.families.ipv6 and settings.ipam.ipv6_pools:
        pools.append(Pool(cidrs=settings.ipam.ipv6_pools, mask=settings.ipam.ipv6_mask_size))
    return pools


async def collect_identities(settings: Settings, source: KubernetesSource, objects: ObjectWrites) -> None:
    collector = IdentityCollector(patience=settings.operator.identity_timeout)
    tables = source.tables
    await tables.cilium_identities.wait_initialized()
    await tables.cilium_endpoints.wait_initialized()
    while True:
        unused = collector.collect(
            identities=tables.cilium_identities.snapshot(),
            endpoints=tables.cilium_endpoints.snapshot(),
            now=time.monotonic(),
        )
        for number in unused:
            call = objects.delete_identity(number, unused=partial(_unused, tables, number))
            await _quietly(call, what=f"identity {number}")
        await asyncio.sleep(settings.operator.identity_gc)


def _unused(tables: KubernetesTables, number: Identity) -> bool:
    """Still: it may be taken into use while others are deleted."""
    return not tables.cilium_endpoints.snapshot().by("identity", number)


async def collect_endpoints(settings: Settings, source: KubernetesSource, objects: ObjectWrites) -> None:
    collector = EndpointCollector()
    tables = source.tables
    await tables.pods.wait_initialized()
    await tables.cilium_endpoints.wait_initialized()
    while True:
        pods = {pod.key for pod in tables.pods.snapshot()}
        for row in collector.collect(endpoints=tables.cilium_endpoints.snapshot(), pods=pods):
            await _quietly(objects.delete_endpoint(row.namespace, row.name), what=f"endpoint {row.key}")
        await asyncio.sleep(settings.operator.endpoint_gc)


async def _quietly(call: Awaitable[object], *, what: str) -> None:
    """What fails is tried again in the next round. A call that returns False had nothing to do."""
    try:
        if await call is not False:
            log.info("collected", what=what)
    except Exception as error:
        log.warning("not collected", what=what, error=str(error))


def main() -> None:
    """The `cilium-operator` command."""
    settings = read_settings("cilium-operator", sys.argv[1:])
    logs.configure(debug=settings.log.debug, format=settings.log.format)
    run_process("cilium-operator", run(settings), refusals=(ConfigError, LeaseLostError))
