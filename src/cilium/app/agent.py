"""cilium-agent: the composition root of the process that runs on every node. Read it as a table of contents.

Order: tables and sources, then who this node is, then the datapath, then features over both, then those who ask.
A restart takes the same way: pinned maps and links carry traffic all along; what nobody wants any more is pruned when
every source has been heard.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import structlog

from cilium.app import logs
from cilium.app.addressing import Addressing, IpamModeChangedError, guard_ipam_mode, node_name
from cilium.app.building import build_features, build_hubble
from cilium.app.built import Built
from cilium.app.datapath import Datapath, load_datapath
from cilium.app.devices import Network, prepare_devices
from cilium.app.endpoints import Endpoints
from cilium.app.host_firewall import HostGuard
from cilium.app.inspection import Inspection
from cilium.app.metrics import AgentCollector
from cilium.app.node_lock import AgentRunningError, node_lock
from cilium.app.objects import ObjectWrites
from cilium.app.plugin_install import install_configuration, install_plugins
from cilium.app.policy_delay import PolicyDelay
from cilium.app.processes import read_settings, run_process
from cilium.app.refill import hold_programs
from cilium.app.rest.server import serve_api, serve_metrics, serve_probes
from cilium.app.runtime_config import write_runtime_config
from cilium.app.sections import add_sections
from cilium.app.tables import AgentTables
from cilium.datapath.errors import DatapathError
from cilium.datapath.layouts import refilled
from cilium.datapath.paths import MAP_DIRECTORY
from cilium.features.endpoint.statedir import StateDirectory
from cilium.features.ipam.allocator import Allocator
from cilium.features.node import cell as node_cell
from cilium.settings import Settings, with_overlays
from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import resolve
from cilium.sources.kubernetes.contact import Contact
from cilium.sources.kubernetes.errors import ConfigError
from cilium.sources.kubernetes.node_configs import read_overlays
from cilium.sources.kubernetes.source import AGENT, KubernetesSource, Resource
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.sources.kubernetes.writes import Writes
from cilium.tables.nodes import NodeAddressing

log = structlog.get_logger("agent")


async def run(settings: Settings, argv: Sequence[str]) -> None:
    """Until cancelled; an error in any task ends the process, and the next one takes over what it finds."""
    state = Path(settings.process.state_dir)
    with node_lock(state):
        await _run(settings, argv, node_name(settings), state)


async def _run(settings: Settings, argv: Sequence[str], node: str, state: Path) -> None:
    tables, kubernetes = AgentTables(), KubernetesTables()
    agent = Inspection(settings=settings, node=node, version=version("cilium"))
    agent.add_tables([*tables, *kubernetes])
    config = resolve(server=settings.kubernetes.server, kubeconfig=settings.kubernetes.kubeconfig)
    async with (
        Client(config, user_agent="cilium-agent") as client,
        Contact(config) as contact,
        asyncio.TaskGroup() as tasks,
    ):
        runners = [
            await serve_probes(f"127.0.0.1:{settings.health.port}", agent),
            await serve_api(Path(settings.process.api_socket), agent),
        ]
        guard = HostGuard(state=state, contact=contact, rolled_back=agent.counts.host_policy_rolled_back)
        tasks.create_task(guard.rescue(settings.host_firewall), name="host policy rescue")
        try:
            settings = await _settle_settings(settings, argv, agent, client)
            guard_ipam_mode(state, settings.ipam.mode)
            write_runtime_config(state, settings)
            runners.append(await serve_metrics(settings.metrics.listen, AgentCollector(agent)))
            await _start(settings, node, state, tables, kubernetes, agent, client, tasks, guard)
            await asyncio.Event().wait()
        finally:
            for runner in runners:
                await runner.cleanup()


async def _settle_settings(settings: Settings, argv: Sequence[str], agent: Inspection, client: Client) -> Settings:
    """With what CiliumNodeConfigs say of this node; what of it cannot be used is told, and the rest is."""
    _progress(agent, "waiting for the CiliumNodeConfigs of the API server")
    found, problems = await read_overlays(Writes(client), node=agent.node, namespace=settings.process.namespace)
    if not found and not problems:
        return settings
    settings, refused = with_overlays(argv, found)
    agent.settings = settings
    agent.refused = [str(problem) for problem in (*problems, *refused)]
    for problem in agent.refused:
        log.error("setting not used", problem=problem)
    logs.configure(debug=settings.log.debug, format=settings.log.format)
    return settings


async def _start(
    settings: Settings,
    node: str,
    state: Path,
    tables: AgentTables,
    kubernetes: KubernetesTables,
    agent: Inspection,
    client: Client,
    tasks: asyncio.TaskGroup,
    guard: HostGuard,
) -> None:
    writes = ObjectWrites(Writes(client, field_manager="cilium-agent"))
    network = Network(settings, tables.devices)
    source = _source(settings, node, kubernetes, client, state)
    allocator = Allocator(
        table=tables.allocations,
        writer=tables.allocations.writer("ipam"),
        families=settings.families.versions,
    )
    publication = node_cell.build_publication(writes=writes, node_objects=tables.node_objects)
    addressing = Addressing(
        settings=settings,
        node=node,
        kube_nodes=kubernetes.kube_nodes,
        cilium_nodes=kubernetes.cilium_nodes,
        devices=tables.devices,
        objects=tables.node_objects.writer("node"),
        rows=tables.node_addressing.writer("node"),
        allocator=allocator,
        progress=lambda stage: _progress(agent, stage),
        state=StateDirectory(state / "state"),
    )
    tasks.create_task(source.run(), name="kubernetes")
    tasks.create_task(network.run(), name="netlink")
    publication.start(tasks)
    agent.add_reconcilers(*publication.reconcilers)
    await tables.devices.wait_initialized()
    settled = await addressing.settle()
    network.set_node_addresses(settled.internal_ips)
    _progress(agent, "preparing devices and loading the datapath")
    built = Built(
        settings=settings,
        node=settled,
        tables=tables,
        kubernetes=kubernetes,
        datapath=await _datapath(settings, network, settled),
        network=network,
        writes=writes,
        allocator=allocator,
        agent=agent,
        state=state,
    )
    built.host_firewall = guard.firewall(settings, node=node, kubernetes=kubernetes, writes=writes)
    agent.reflectors = source.health
    add_sections(agent, built=built, source=source)
    await _serve(built, addressing, tasks)


def _source(
    settings: Settings, node: str, kubernetes: KubernetesTables, client: Client, state: Path
) -> KubernetesSource:
    return KubernetesSource(
        client=client,
        tables=kubernetes,
        node=node,
        cluster=settings.cluster.name,
        policy=settings.policy,
        redirectable=settings.services.local_redirect_cidrs,
        resources=followed(settings),
        remember=state / "policies",
    )


def followed(settings: Settings) -> frozenset[Resource]:
    """What is switched off costs the API server no watch."""
    unwanted: set[Resource] = set()
    if not settings.policy.kubernetes:
        unwanted.add(Resource.NETWORK_POLICIES)
    if not settings.policy.cluster_network_policy:
        unwanted.add(Resource.CLUSTER_NETWORK_POLICIES)
    if not (settings.services.replacement and settings.services.local_redirect):
        unwanted.add(Resource.CILIUM_LOCAL_REDIRECT_POLICIES)
    return AGENT - unwanted


async def _serve(built: Built, addressing: Addressing, tasks: asyncio.TaskGroup) -> None:
    """Features over the loaded datapath: from here on the node has a network."""
    settings, agent = built.settings, built.agent
    agent.maps.update(built.datapath.maps)
    features = build_features(built)
    agent.selectors = features.policy.selectors
    endpoints = Endpoints(built, features)
    _progress(agent, "restoring endpoints")
    addressing.publish_health(await endpoints.restore())
    held = hold_programs(features.cells, done=lambda: refilled(MAP_DIRECTORY))
    for cell in held if built.datapath.refilling else features.cells:
        cell.start(tasks)
    for cell in features.cells:
        agent.add_reconcilers(*cell.reconcilers)
    if settings.hubble.enabled:
        tasks.create_task(build_hubble(built, features.policy).run(), name="hubble")
    delay = PolicyDelay(
        policies=built.kubernetes.policies, status=features.policy.status, observe=agent.counts.policy_implemented
    )
    tasks.create_task(delay.run(), name="policy delay")
    tasks.create_task(endpoints.follow_host(), name="host endpoint")
    tasks.create_task(endpoints.serve(tasks), name="cni")
    install_plugins(Path(settings.cni.binary_dir))
    if settings.cni.configuration:
        install_configuration(Path(settings.cni.configuration), exclusive=settings.cni.exclusive)
    agent.stage = "ready"
    log.info("ready", node=agent.node, endpoints=len(built.tables.endpoints))


async def _datapath(settings: Settings, network: Network, node: NodeAddressing) -> Datapath:
    devices = await prepare_devices(settings, network, node)
    return load_datapath(settings, node, devices)


def _progress(agent: Inspection, stage: str) -> None:
    agent.stage = stage
    log.info("starting", stage=stage)


def main() -> None:
    """The `cilium-agent` command."""
    settings = read_settings("cilium-agent", sys.argv[1:])
    logs.configure(debug=settings.log.debug, format=settings.log.format)
    refusals = (IpamModeChangedError, AgentRunningError, ConfigError, DatapathError)
    run_process("cilium-agent", run(settings, sys.argv[1:]), refusals=refusals)
