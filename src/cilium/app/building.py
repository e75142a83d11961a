"""Constructs the features of the agent: the table of contents of what it does.

In: `Built`, everything that exists before features do. Out: cells, in the order in which they depend on each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cilium.app import service_extras
from cilium.app.built import Built
from cilium.app.health import build_health
from cilium.datapath.links import CgroupLinks
from cilium.datapath.mounts import CGROUP_MOUNTS, cgroup_root
from cilium.features.conntrack import cell as conntrack_cell
from cilium.features.conntrack.collect import Lifetimes
from cilium.features.endpoint import cell as endpoint_cell
from cilium.features.endpoint.readiness import Readiness
from cilium.features.identity import cell as identity_cell
from cilium.features.identity.labels import LabelFilter
from cilium.features.ipcache import cell as ipcache_cell
from cilium.features.node import cell as node_cell
from cilium.features.policy import cell as policy_cell
from cilium.features.policy import reporting
from cilium.features.programs import cell as programs_cell
from cilium.features.services import cell as services_cell
from cilium.features.services import socket_cell
from cilium.features.services.events import ProblemEvents
from cilium.hubble.names import NameTables
from cilium.hubble.server import HubbleServer
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.state import Table
from cilium.state.cell import Cell


@dataclass(frozen=True, kw_only=True)
class Features:
    """Cells in the order in which they were built, and what the endpoint manager waits for."""

    cells: tuple[Cell, ...]
    readiness: Readiness
    policy: policy_cell.PolicyCell


def build_features(built: Built) -> Features:
    """The table of contents of what an agent does."""
    policy = build_policy(built)
    identity, ipcache = build_identities(built, policy)
    programs = build_programs(built)
    endpoint = build_endpoints(built, policy, programs)
    services = build_services(built)
    extras = service_extras.build_extras(built, healthy=lambda: services.reconcilers[0].pruned)
    node, conntrack = build_node(built)
    built.agent.add_tables(policy.tables)
    health = (build_health(built),) if built.settings.health.checking else ()
    return Features(
        cells=(
            policy.cell,
            build_reporting(built, policy),
            identity,
            ipcache,
            programs.cell,
            endpoint.cell,
            services,
            *extras,
            node,
            conntrack,
            *health,
        ),
        readiness=endpoint.readiness,
        policy=policy,
    )


def build_policy(built: Built) -> policy_cell.PolicyCell:
    tables, kubernetes, settings = built.tables, built.kubernetes, built.settings
    maps = built.datapath.maps
    return policy_cell.build(
        policies=kubernetes.policies,
        identities=tables.identities,
        endpoint_identities=tables.endpoint_identities,
        cilium_endpoints=kubernetes.cilium_endpoints,
        kube_apiservers=kubernetes.kube_apiservers,
        referred={
            "services": kubernetes.services,
            "endpoint-slices": kubernetes.endpoint_slices,
            "cidr-groups": kubernetes.cidr_groups,
            "namespaces": kubernetes.namespaces,
        },
        entries=maps["cilium_policy"],
        classes=maps["cilium_policy_class"],
        endpoints=maps["cilium_lxc"],
        counters=maps["cilium_policy_counters"],
        epoch=built.datapath.runtime,
        enforcement=settings.policy.enforcement,
        audit=settings.policy.audit,
        dual_stack=settings.families.ipv4 and settings.families.ipv6,
        cidrs_match_nodes=settings.policy.cidrs_match_nodes,
        cluster=settings.cluster.name,
        host_firewall=built.host_firewall,
    )


def build_reporting(built: Built, policy: policy_cell.PolicyCell) -> Cell:
    """What this node says of policies, to those who look at the objects and to those who look at the node."""
    made = reporting.build(
        policy=policy,
        endpoint_identities=built.tables.endpoint_identities,
        node=built.node.name,
        host_firewall=built.settings.host_firewall.enabled,
        writes=built.writes if built.settings.policy.node_status else None,
        events=ProblemEvents(writes=built.writes, node=built.node.name, uid=Uids(built.kubernetes)),
    )
    built.agent.add_tables([made.problems])
    return made.cell


def build_identities(built: Built, policy: policy_cell.PolicyCell) -> tuple[Cell, Cell]:
    """Identity and ipcache: who everybody is, and where."""
    tables, kubernetes, settings = built.tables, built.kubernetes, built.settings
    maps = built.datapath.maps
    identity = identity_cell.build(
        cluster=settings.cluster.name,
        labels=LabelFilter(" ".join(settings.identity.labels)),
        use_well_known=settings.identity.well_known,
        writes=built.writes,
        endpoints=tables.endpoints,
        pods=kubernetes.pods,
        namespaces=kubernetes.namespaces,
        cilium_identities=kubernetes.cilium_identities,
        cidr_identities=policy.cidr_identities,
        node_identities=tables.node_identities if settings.policy.tells_nodes_apart else None,
        identities=tables.identities,
        endpoint_identities=tables.endpoint_identities,
        requests=tables.identity_requests,
    )
    ipcache = ipcache_cell.build(
        node=built.node.name,
        node_ips=frozenset(built.node.internal_ips),
        underlay_version=built.underlay.version,
        hosts=maps["cilium_ipcache"],
        cidrs=maps["cilium_ipcache_cidr"],
        epoch=built.datapath.runtime,
        endpoints=tables.endpoints,
        endpoint_identities=tables.endpoint_identities,
        cilium_endpoints=kubernetes.cilium_endpoints,
        cilium_nodes=kubernetes.cilium_nodes,
        devices=tables.devices,
        cidr_identities=policy.cidr_identities,
        judged_identities=policy.judged_identities,
        kube_apiservers=kubernetes.kube_apiservers,
        kube_nodes=kubernetes.kube_nodes,
        node_identities=tables.node_identities,
        node_labels=settings.policy.node_selectors,
        node_cidrs=settings.policy.cidrs_match_nodes,
        ipcache=tables.ipcache,
    )
    return identity, ipcache


def build_programs(built: Built) -> programs_cell.ProgramsCell:
    tables = built.tables
    return programs_cell.build(
        links=built.network.links,
        xdp=built.network.xdp,
        acceleration=built.settings.services.acceleration,
        programs=built.datapath.programs,
        netdev_map=built.datapath.maps["cilium_netdev"],
        endpoints=tables.endpoints,
        devices=tables.devices,
        attachments=tables.attachments,
        netdevs=tables.netdevs,
        xdp_devices=tables.xdp_devices,
    )


def build_endpoints(
    built: Built, policy: policy_cell.PolicyCell, programs: programs_cell.ProgramsCell
) -> endpoint_cell.EndpointCell:
    tables = built.tables
    return endpoint_cell.build(
        node_ip=built.underlay,
        port=built.datapath.maps["cilium_lxc"],
        epoch=built.datapath.runtime,
        writes=built.writes,
        attachment_status=programs.status,
        endpoints=tables.endpoints,
        endpoint_identities=tables.endpoint_identities,
        endpoint_policies=policy.endpoint_policies,
        endpoint_map=tables.endpoint_map,
        endpoint_objects=tables.endpoint_objects,
        cilium_endpoints=built.kubernetes.cilium_endpoints,
        pods=built.kubernetes.pods,
    )


def build_services(built: Built) -> Cell:
    """Translation in the socket; or, where that is off, nothing that is left of it."""
    tables, settings = built.tables, built.settings
    given = Path(settings.services.cgroup_root or CGROUP_MOUNTS[0])
    if not settings.services.replacement:
        return socket_cell.build_off(links=CgroupLinks(given), hooks=tables.socket_hooks)
    return services_cell.build(
        node=built.node.name,
        versions=frozenset(settings.families.versions),
        settings=settings.services,
        maps=built.datapath.maps,
        nested=built.datapath.nested,
        links=CgroupLinks(given if settings.services.cgroup_root else cgroup_root()),
        programs=built.datapath.programs,
        writes=built.writes,
        uid=Uids(built.kubernetes),
        tables=services_cell.ServiceTables(
            services=built.kubernetes.services,
            endpoint_slices=built.kubernetes.endpoint_slices,
            kube_nodes=built.kubernetes.kube_nodes,
            devices=tables.devices,
            others=service_extras.others(built),
            problems=service_extras.problems(built),
            endpoints=tables.endpoints,
            frontends=tables.frontends,
            findings=tables.service_findings,
            service_problems=tables.service_problems,
        ),
        hooks=tables.socket_hooks,
    )


POLICY_KINDS = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy", "ClusterNetworkPolicy")


class Uids:
    """uid of an object of the API, by kind and namespace/name; empty: not known."""

    def __init__(self, kubernetes: KubernetesTables) -> None:
        self._tables: Mapping[str, Table[str, Any]] = {
            "Service": kubernetes.services,
            "Pod": kubernetes.pods,
            "CiliumLocalRedirectPolicy": kubernetes.redirect_policies,
            **dict.fromkeys(POLICY_KINDS, kubernetes.policies),
        }

    def __call__(self, kind: str, name: str) -> str:
        table = self._tables.get(kind)
        row = (
            table.snapshot().get(name if kind not in POLICY_KINDS else f"{kind}/{name}") if table is not None else None
        )
        return str(row.uid) if row is not None else ""


def build_node(built: Built) -> tuple[Cell, Cell]:
    """Routes to every node's pods, and the end of dead connections."""
    settings, maps = built.settings, built.datapath.maps
    node = node_cell.build(
        node=built.node.name,
        tunnel=built.tunnel,
        direct=settings.routing.auto_direct_node_routes,
        tunnel_mtu=built.pod_mtu,
        port=built.network.routes,
        cilium_nodes=built.kubernetes.cilium_nodes,
        node_addressing=built.tables.node_addressing,
        routes=built.tables.routes,
    )
    conntrack = conntrack_cell.build(
        connections=maps["cilium_ct"],
        nat=maps["cilium_snat"],
        counters=maps["cilium_policy_counters"],
        capacities={"cilium_ct": settings.conntrack.max_entries, "cilium_snat": settings.maps.nat_max},
        interval=settings.conntrack.gc_interval,
        lifetimes=Lifetimes(
            tcp=settings.conntrack.tcp,
            tcp_syn=settings.conntrack.tcp_syn,
            tcp_fin=settings.conntrack.tcp_fin,
            other=settings.conntrack.other,
        ),
    )
    return node, conntrack


def build_hubble(built: Built, policy: policy_cell.PolicyCell) -> HubbleServer:
    tables, kubernetes, settings = built.tables, built.kubernetes, built.settings
    built.hubble = HubbleServer(
        ring=built.datapath.ring(),
        lost=built.datapath.lost_events,
        tables=NameTables(
            pods=kubernetes.pods,
            cilium_endpoints=kubernetes.cilium_endpoints,
            endpoints=tables.endpoints,
            endpoint_identities=tables.endpoint_identities,
            identities=tables.identities,
            ipcache=tables.ipcache,
            devices=tables.devices,
            frontends=tables.frontends,
            rule_references=policy.rule_references,
        ),
        nodes=kubernetes.cilium_nodes,
        policies=policy.resolved,
        cluster=settings.cluster.name,
        node_name=built.node.name,
        dual_stack=settings.families.ipv4 and settings.families.ipv6,
        capacity=settings.hubble.capacity,
        socket_path=settings.hubble.socket,
        listen=settings.hubble.listen,
    )
    return built.hubble
