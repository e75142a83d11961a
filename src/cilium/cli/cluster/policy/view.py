"""A cluster as its API server tells of it, read once: settings, pods, nodes, services, policies.

In: a client. Out: `View`. The objects come through the agent's own source and resolver: they mean the same here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import click
import structlog

from cilium.features.identity.labels import LabelFilter
from cilium.features.policy.explain.judge import Mode
from cilium.features.policy.resolve import Resolver
from cilium.settings import AllowLocalhost, Settings, SettingsError
from cilium.settings.process import from_config_map
from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import resolve
from cilium.sources.kubernetes.errors import ApiError, ConfigError, Unreachable
from cilium.sources.kubernetes.source import AGENT, KubernetesSource, Resource
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.sources.kubernetes.writes import Writes
from cilium.state import Derivation, Table
from cilium.tables.kubernetes import CiliumNode, Pod
from cilium.tables.rules import PolicyObject
from cilium.tables.types import IPAddress

SECONDS = 30.0
"""How long the API server may take to tell everything."""
_UNWANTED = frozenset({Resource.CILIUM_ENDPOINTS, Resource.CILIUM_IDENTITIES, Resource.CILIUM_LOCAL_REDIRECT_POLICIES})
_EMPTY = ("cilium-endpoints", "cilium-identities", "redirect-policies")
_REFERRED = ("namespaces", "services", "endpoint-slices", "cidr-groups")
"""What policies refer to."""


@dataclass
class View:
    settings: Settings
    tables: KubernetesTables
    policies: list[PolicyObject]
    """References resolved, sorted by key."""
    pods_by_ip: dict[IPAddress, Pod] = field(default_factory=dict)
    nodes_by_ip: dict[IPAddress, CiliumNode] = field(default_factory=dict)
    health_ips: set[IPAddress] = field(default_factory=set)
    apiservers: frozenset[IPAddress] = frozenset()

    def __post_init__(self) -> None:
        for pod in self.tables.pods.snapshot():
            if not pod.host_network and pod.phase not in ("Succeeded", "Failed"):
                self.pods_by_ip.update(dict.fromkeys(pod.ips, pod))
        for node in self.tables.cilium_nodes.snapshot():
            self.nodes_by_ip.update(dict.fromkeys((*node.internal_ips, *node.router_ips), node))
            self.health_ips.update(node.health_ips)
        self.apiservers = frozenset(ip for row in self.tables.kube_apiservers.snapshot() for ip in row.addresses)
        self.filter = LabelFilter(" ".join(self.settings.identity.labels))

    @property
    def mode(self) -> Mode:
        policy = self.settings.policy
        return Mode(
            enforcement=policy.enforcement,
            audit=policy.audit,
            allow_localhost=policy.allow_localhost is not AllowLocalhost.POLICY,
            host_firewall=self.settings.host_firewall.enabled,
            host_audit=self.settings.host_firewall.audit,
        )

    @property
    def versions(self) -> tuple[int, ...]:
        return tuple(self.settings.families.versions)

    @property
    def warnings(self) -> list[str]:
        """Objects of which the cluster may enforce something else than what stands in the API."""
        return [
            f"{policy.key} is not valid ({policy.error}): agents go on with its last valid generation, if they saw one"
            for policy in self.policies
            if policy.error
        ]

    def changed(self, policies: list[PolicyObject], without: frozenset[str] = frozenset()) -> list[PolicyObject]:
        """All policies after these were applied and those with the keys `without` deleted, resolved."""
        keys = {policy.key for policy in policies} | without
        kept = [policy for policy in self.tables.policies.snapshot() if policy.key not in keys]
        return resolved([*kept, *policies], self.tables, cluster=self.settings.cluster.name)


def resolved(policies: list[PolicyObject], tables: KubernetesTables, *, cluster: str) -> list[PolicyObject]:
    """References followed as agents do."""
    before: Table[str, PolicyObject] = Table("policies", key=lambda row: row.key)
    after: Table[str, PolicyObject] = Table("resolved-policies", key=lambda row: row.key)
    before.writer("cli").commit(upserts=policies)
    inputs: dict[str, Table[Any, Any]] = {table.name: table for table in tables if table.name in _REFERRED}
    inputs["policies"] = before
    outputs = {"resolved-policies": after.writer("policy")}
    Derivation("resolved-policies", inputs=inputs, outputs=outputs, compute=Resolver(cluster=cluster).compute).step()
    return sorted(after.snapshot(), key=lambda row: row.key)


@asynccontextmanager
async def connected(kubeconfig: str | None) -> AsyncIterator[Client]:
    """A client whose failures are messages for people, and which logs nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        async with Client(resolve(kubeconfig=kubeconfig or ""), user_agent="cilium-cli") as client:
            yield client
    except (ApiError, ConfigError, Unreachable) as error:
        raise click.ClickException(str(error)) from None


async def look(client: Client, namespace: str) -> View:
    """Reads the whole cluster. `namespace`: where Cilium runs. Raises click.ClickException, ApiError, Unreachable."""
    found = await Writes(client).find(f"/api/v1/namespaces/{namespace}/configmaps", "cilium-config")
    if found is None:
        raise click.ClickException(f"there is no ConfigMap cilium-config in {namespace}: where does Cilium run? (-n)")
    try:
        settings = from_config_map(found.get("data") or {})
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    unwanted = set(_UNWANTED)
    if not settings.policy.kubernetes:
        unwanted.add(Resource.NETWORK_POLICIES)
    if not settings.policy.cluster_network_policy:
        unwanted.add(Resource.CLUSTER_NETWORK_POLICIES)
    tables = KubernetesTables()
    cluster = settings.cluster.name
    source = KubernetesSource(
        client=client, tables=tables, cluster=cluster, policy=settings.policy, resources=AGENT - unwanted
    )
    reading = asyncio.create_task(source.run())
    try:
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(table.wait_initialized() for table in tables if table.name not in _EMPTY))
    except TimeoutError:
        missing = [
            f"{health.resource}: {health.error or 'no answer'}" for health in source.health() if not health.listed
        ]
        raise click.ClickException("the API server does not tell everything: " + "; ".join(missing)) from None
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return View(settings, tables, resolved(list(tables.policies.snapshot()), tables, cluster=cluster))
