"""The Kubernetes source: one reflector per resource, each into its table.

In: a client, the name of this node, which resources the process needs. Out: the tables of `KubernetesTables`,
initialised once listed, and a health report. An agent needs the pods of its own node only: of the rest of the cluster
it needs addresses and identities, and those are in CiliumEndpoints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cilium.settings import PolicySettings
from cilium.sources.kubernetes import decoders, policies
from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.feed import Decode, Feed, Merge
from cilium.sources.kubernetes.quarantine import Quarantined
from cilium.sources.kubernetes.reflector import Health, Reflector
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.state import Table, Writer
from cilium.tables.rules import PolicyObject
from cilium.tables.types import IPNetwork

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Resource(Enum):
    """What can be followed; the value is the collection's path."""

    PODS = "/api/v1/pods"
    NAMESPACES = "/api/v1/namespaces"
    NODES = "/api/v1/nodes"
    KUBE_APISERVERS = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    """Only those of the Service `kubernetes`: a cluster has thousands of others."""
    CILIUM_NODES = "/apis/cilium.io/v2/ciliumnodes"
    CILIUM_ENDPOINTS = "/apis/cilium.io/v2/ciliumendpoints"
    CILIUM_IDENTITIES = "/apis/cilium.io/v2/ciliumidentities"
    SERVICES = "/api/v1/services"
    ENDPOINT_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
    NETWORK_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
    CILIUM_NETWORK_POLICIES = "/apis/cilium.io/v2/ciliumnetworkpolicies"
    CILIUM_CLUSTERWIDE_NETWORK_POLICIES = "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies"
    CILIUM_CIDR_GROUPS = "/apis/cilium.io/v2/ciliumcidrgroups"
    CLUSTER_NETWORK_POLICIES = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"
    CILIUM_LOCAL_REDIRECT_POLICIES = "/apis/cilium.io/v2/ciliumlocalredirectpolicies"

    @property
    def plural(self) -> str:
        """`endpointslices`; with the namespace if only that is followed: `default/endpointslices`."""
        head, _, name = self.value.rpartition("/")
        return name if "/namespaces/" not in head else f"{head.rpartition('/')[2]}/{name}"

    @property
    def crd(self) -> str:
        """Name of the definition of a custom resource."""
        _, _, group, _, plural = self.value.split("/")
        return f"{plural}.{group}"


AGENT = frozenset(Resource)
OPERATOR = frozenset(
    {
        Resource.PODS,
        Resource.NODES,
        Resource.CILIUM_NODES,
        Resource.CILIUM_ENDPOINTS,
        Resource.CILIUM_IDENTITIES,
    }
)


POLICIES = frozenset(
    {
        Resource.NETWORK_POLICIES,
        Resource.CILIUM_NETWORK_POLICIES,
        Resource.CILIUM_CLUSTERWIDE_NETWORK_POLICIES,
        Resource.CLUSTER_NETWORK_POLICIES,
    }
)


class KubernetesSource:
    """`node`: follow only the pods of this node; empty: of every node. `cluster`: whom policies mean that name none;
    `policy`: what they may say; `redirectable`: addresses that local redirect policies may match, none: every address.
    `run()` is the task.

    A table of which no resource is followed has no writer and is initialised by nobody. `watch_timeout` in seconds.
    `remember`: where the last valid content of policies is kept; `reports`: their status is read, too.
    """

    def __init__(
        self,
        *,
        client: Client,
        tables: KubernetesTables,
        cluster: str,
        node: str = "",
        policy: PolicySettings = policies.PLAIN,
        redirectable: Collection[IPNetwork] = (),
        resources: Collection[Resource] = AGENT,
        watch_timeout: float = 300.0,
        remember: Path | None = None,
        reports: bool = False,
    ) -> None:
        self._last_valid, self._reports = policies.LastValid(remember), reports
        self.tables = tables
        self._client = client
        self._resources = frozenset(resources)
        self._watch_timeout = watch_timeout
        self._reflectors: list[Reflector[Any, Any]] = []
        own = {"fieldSelector": f"spec.nodeName={node}"} if node else {}
        self._follow(Resource.PODS, tables.pods, decoders.decode_pod, selectors=own)
        self._follow(Resource.NAMESPACES, tables.namespaces, decoders.decode_namespace)
        self._follow(Resource.NODES, tables.kube_nodes, decoders.decode_node)
        service = {"labelSelector": "kubernetes.io/service-name=kubernetes"}
        self._follow(
            Resource.KUBE_APISERVERS, tables.kube_apiservers, decoders.decode_kube_apiservers, selectors=service
        )
        self._follow(Resource.CILIUM_NODES, tables.cilium_nodes, decoders.decode_cilium_node)
        self._follow(Resource.CILIUM_ENDPOINTS, tables.cilium_endpoints, decoders.decode_cilium_endpoint)
        self._follow(Resource.CILIUM_IDENTITIES, tables.cilium_identities, decoders.decode_cilium_identity)
        self._follow(Resource.SERVICES, tables.services, decoders.decode_service)
        self._follow(Resource.ENDPOINT_SLICES, tables.endpoint_slices, decoders.decode_endpoint_slice)
        self._follow(
            Resource.CILIUM_LOCAL_REDIRECT_POLICIES,
            tables.redirect_policies,
            partial(policies.decode_local_redirect, allowed=tuple(redirectable)),
            merge=policies.merge_redirect,
        )
        self._follow(
            Resource.CILIUM_CIDR_GROUPS, tables.cidr_groups, policies.decode_cidr_group, merge=policies.merge_group
        )
        self._follow_policies(tables, cluster, policy)

    def health(self) -> list[Health]:
        return [reflector.health for reflector in self._reflectors]

    def quarantine(self) -> list[Quarantined]:
        """Every object that could not become a row."""
        return [row for reflector in self._reflectors for row in reflector.feed.quarantine.rows()]

    async def run(self) -> None:
        """Never returns. Loss of the API server is waited out; the tables keep what they have."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run(), name=f"reflector {reflector.resource}")
            if self._resources & POLICIES:
                tasks.create_task(self._last_valid.follow(self.tables.policies), name="last valid policies")

    def _follow_policies(self, tables: KubernetesTables, cluster: str, policy: PolicySettings) -> None:
        """Four kinds share a table and its writer; each feed deletes only what is its own."""
        kinds: dict[Resource, Callable[..., PolicyObject]] = {
            Resource.NETWORK_POLICIES: policies.decode_knp,
            Resource.CILIUM_NETWORK_POLICIES: partial(policies.decode_cnp, settings=policy),
            Resource.CILIUM_CLUSTERWIDE_NETWORK_POLICIES: partial(policies.decode_ccnp, settings=policy),
            Resource.CLUSTER_NETWORK_POLICIES: partial(
                policies.decode_cluster_network_policy, node_selectors=policy.node_selectors
            ),
        }
        wanted = {resource: decode for resource, decode in kinds.items() if resource in self._resources}
        if not wanted:
            return
        writer = tables.policies.writer("kubernetes")
        initializers = {resource: writer.initializer(resource.plural) for resource in wanted}
        for resource, decode in wanted.items():
            parse = self._last_valid.remembering(partial(decode, cluster=cluster))
            if self._reports:
                parse = policies.with_report(parse)
            self._reflect(resource, writer, initializers[resource], parse, merge=policies.merge_generation)

    def _follow(
        self,
        resource: Resource,
        table: Table[K, R],
        decode: Decode[R],
        *,
        merge: Merge[R] | None = None,
        selectors: dict[str, str] | None = None,
    ) -> None:
        if resource in self._resources:
            writer = table.writer("kubernetes")
            done = writer.initializer(resource.plural)
            self._reflect(resource, writer, done, decode, merge=merge, selectors=selectors)

    def _reflect(
        self,
        resource: Resource,
        writer: Writer[K, R],
        done: Callable[[], None],
        decode: Decode[R],
        *,
        merge: Merge[R] | None = None,
        selectors: dict[str, str] | None = None,
    ) -> None:
        self._reflectors.append(
            Reflector(
                resource.plural,
                client=self._client,
                path=resource.value,
                feed=Feed(resource.plural, writer=writer, decode=decode, merge=merge),
                done=done,
                selectors=selectors,
                watch_timeout=self._watch_timeout,
            )
        )
