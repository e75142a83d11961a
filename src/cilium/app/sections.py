"""The parts of `cilium-dbg status`, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cilium.app import service_section
from cilium.app.built import Built
from cilium.app.health import document as health_document
from cilium.app.inspection import Inspection
from cilium.settings import RoutingMode
from cilium.sources.kubernetes.source import KubernetesSource


def add_sections(agent: Inspection, *, built: Built, source: KubernetesSource) -> None:
    agent.sections.update(
        {
            "kubernetes": lambda: kubernetes(source),
            "kube-proxy-replacement": lambda: services(built),
            "host-firewall": lambda: host_firewall(built),
            "encryption": lambda: {"mode": "Disabled", "msg": "Disabled"},
            "ipam": lambda: ipam(built),
            "routing": lambda: routing(built),
            "masquerading": lambda: masquerading(built),
            "policy": lambda: policy(built),
            "hubble": lambda: hubble(built),
            "cluster": lambda: cluster(built),
        }
    )


def kubernetes(source: KubernetesSource) -> Mapping[str, Any]:
    """Lost reflectors are named: what they follow may be old."""
    lost = [health for health in source.health() if not health.connected]
    quarantined = [f"{row.resource} {row.object}: {row.reason}" for row in source.quarantine()]
    if lost:
        message = "; ".join(f"{health.resource}: {health.error or 'connecting'}" for health in lost)
        return {"state": "Failure", "msg": message, "quarantine": quarantined}
    return {"state": "Ok", "msg": f"{len(source.health())} resources followed", "quarantine": quarantined}


def services(built: Built) -> Mapping[str, Any]:
    tables = built.tables
    return service_section.services(
        built.settings.services,
        devices=tables.devices.snapshot(),
        xdp=tables.xdp_devices.snapshot(),
        frontends=tables.frontends.snapshot(),
        problems=tables.service_problems.snapshot(),
    )


def host_firewall(built: Built) -> Mapping[str, Any]:
    settings = built.settings.host_firewall
    devices = sorted(row.name for row in built.tables.devices.snapshot() if row.selected)
    if not settings.enabled:
        return {"mode": "Disabled", "devices": [], "msg": "Disabled"}
    audit = settings.audit or built.settings.policy.audit
    message = f"Enabled   [{', '.join(devices)}]" + ("   (audit mode: nothing is dropped)" if audit else "")
    return {"mode": "Enabled", "audit": audit, "devices": devices, "msg": message}


def ipam(built: Built) -> Mapping[str, Any]:
    used = sorted(built.tables.allocations.snapshot(), key=lambda row: (row.address.version, int(row.address)))
    parts = []
    for cidr in built.node.pod_cidrs:
        count = sum(1 for row in used if row.address.version == cidr.version and row.address in cidr)
        parts.append(f"IPv{cidr.version}: {count}/{cidr.num_addresses - 2} allocated from {cidr}")
    return {
        "mode": built.settings.ipam.mode.value,
        "status": ", ".join(parts),
        "pod-cidrs": [str(cidr) for cidr in built.node.pod_cidrs],
        "ipv4": [str(row.address) for row in used if row.address.version == 4],
        "ipv6": [str(row.address) for row in used if row.address.version == 6],
        "allocations": {str(row.address): row.owner for row in used},
        "msg": ", ".join(parts),
    }


def routing(built: Built) -> Mapping[str, Any]:
    settings = built.settings.routing
    tunnel = settings.mode is RoutingMode.TUNNEL
    how = f"Tunnel [{settings.tunnel_protocol.value}, port {settings.port}]" if tunnel else "Native"
    return {
        "intra-host-routing-mode": "BPF",
        "inter-host-routing-mode": "Tunnel" if tunnel else "Native",
        "tunnel-protocol": settings.tunnel_protocol.value if tunnel else "",
        "mtu": built.pod_mtu,
        "msg": f"{how}   Host: BPF   MTU: {built.pod_mtu}",
    }


def masquerading(built: Built) -> Mapping[str, Any]:
    settings = built.settings
    families = [*(["IPv4"] if settings.masquerade_ipv4 else []), *(["IPv6"] if settings.masquerade_ipv6 else [])]
    devices = sorted(row.name for row in built.tables.devices.snapshot() if row.selected)
    return {
        "enabled": bool(families),
        "mode": "BPF",
        "enabledProtocols": {"ipv4": settings.masquerade_ipv4, "ipv6": settings.masquerade_ipv6},
        "devices": devices,
        "msg": f"BPF   [{', '.join(devices)}]   {', '.join(families)}" if families else "Disabled",
    }


def policy(built: Built) -> Mapping[str, Any]:
    mode = built.settings.policy.enforcement.value
    count = len(built.kubernetes.policies)
    found = built.agent.tables.get("policy-problems")
    problems = [] if found is None else [str(row) for row in found.snapshot()]
    message = f"{mode}   {count} object(s)" + (f"   {len(problems)} NOT WHOLLY ENFORCED" if problems else "")
    return {"mode": mode, "objects": count, "problems": problems, "msg": message}


def hubble(built: Built) -> Mapping[str, Any]:
    store = built.hubble.store if built.hubble is not None else None
    if store is None:
        return {"state": "Disabled", "msg": "Disabled"}
    return {
        "state": "Ok",
        "observer": {
            "current-flows": store.num_flows(),
            "max-flows": store.capacity,
            "seen-flows": store.seen_flows,
            "lost-events": store.lost,
        },
        "msg": f"Ok   Current/Max flows: {store.num_flows()}/{store.capacity}",
    }


def cluster(built: Built) -> Mapping[str, Any]:
    """The nodes of the cluster, and whether they answer."""
    nodes = sorted(row.name for row in built.kubernetes.cilium_nodes.snapshot())
    name = built.settings.cluster.name
    found: dict[str, Any] = {"name": name, "self": f"{name}/{built.node.name}", "nodes": nodes}
    if not built.settings.health.checking:
        return found | {"ciliumHealth": {"state": "Disabled", "msg": "Disabled"}, "msg": "Disabled"}
    health = health_document(built.tables.node_health, local=built.node.name)
    reachable = [node["name"] for node in health["nodes"] if node["reachable"]]
    message = f"{len(reachable)}/{len(nodes)} reachable   ({health['timestamp'] or 'nobody was asked yet'})"
    state = "Ok" if len(reachable) == len(nodes) else "Warning"
    return found | {"ciliumHealth": {"state": state, "msg": message}, "health": health, "msg": message}
