"""Who talked to whom: the flows of all nodes, as connections between parties.

In: flows as Hubble's JSON has them, the cluster's view. Out: `Talk`s, one per pair that policies tell apart and kind of
traffic, in a stable order. Replies, and packets on their way to a service's address, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from cilium.cli.cluster.policy.ends import node_networks, world
from cilium.cli.cluster.policy.view import View
from cilium.features.policy.explain.rows import Party, Traffic
from cilium.tables.types import IPAddress

Flow = Mapping[str, Any]
_PORTS = {"TCP": 6, "UDP": 17, "SCTP": 132}
_TYPES = {"ICMPv4": 1, "ICMPv6": 58}
_DELIVERED = ("TO_ENDPOINT", "TO_STACK", "TO_NETWORK", "TO_OVERLAY", "TO_HOST")
_DENIED = ("POLICY_DENIED", "POLICY_DENY")


@dataclass
class Talk:
    """`source`, `destination`: labels as they were then."""

    source: Party
    destination: Party
    traffic: Traffic
    source_workload: tuple[str, str] = ("", "")
    """Namespace and name; empty if it is no pod."""
    destination_workload: tuple[str, str] = ("", "")
    flows: int = 0
    last: str = ""
    delivered: bool = False
    denied: bool = False

    @property
    def order(self) -> tuple[object, ...]:
        return self.source.name, self.destination.name, self.traffic.protocol, self.traffic.port, self.source.labels

    @property
    def text(self) -> str:
        return f"{self.source.name} → {self.destination.name} {self.traffic}"


def talks(view: View, flows: Iterable[Flow]) -> list[Talk]:
    addresses = {
        address
        for service in view.tables.services.snapshot()
        for address in (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)
    }
    found: dict[tuple[object, ...], Talk] = {}
    for flow in flows:
        traffic = _traffic(flow)
        if traffic is None or _is_reply(flow) or not flow.get("IP", {}).get("destination"):
            continue
        if ip_address(flow["IP"]["destination"]) in addresses:
            continue
        source, destination = (party_of(view, flow, side) for side in ("source", "destination"))
        if source is None or destination is None or not (source.endpoint or destination.endpoint):
            continue
        key = source.labels, source.networks, destination.labels, destination.networks, traffic
        places = workload(view, flow["source"]), workload(view, flow["destination"])
        talk = found.setdefault(key, Talk(source, destination, traffic, *places))
        _count(talk, flow)
    return sorted(found.values(), key=lambda talk: talk.order)


def _count(talk: Talk, flow: Flow) -> None:
    talk.flows += 1
    talk.last = max(talk.last, str(flow.get("time", "")))
    talk.delivered |= flow.get("verdict") == "FORWARDED" and flow.get("trace_observation_point") in _DELIVERED
    talk.denied |= flow.get("verdict") == "DROPPED" and flow.get("drop_reason_desc") in _DENIED


def _traffic(flow: Flow) -> Traffic | None:
    if flow.get("Type", "L3_L4") != "L3_L4":
        return None
    l4 = flow.get("l4") or {}
    for name, protocol in _PORTS.items():
        if name in l4:
            return Traffic(protocol, int(l4[name].get("destination_port", 0)))
    for name, protocol in _TYPES.items():
        if name in l4:
            return Traffic(protocol, int(l4[name].get("type", 0)))
    return None


def _is_reply(flow: Flow) -> bool:
    """As far as it is known; a drop of an unknown packet is told like the first one of a connection."""
    known = flow.get("is_reply")
    if known is None and flow.get("verdict") != "DROPPED":
        return True
    return bool(known)


def workload(view: View, endpoint: Flow) -> tuple[str, str]:
    """Namespace and name of the workload, or of the pod that has none. An agent knows those of its own node only."""
    namespace, name = str(endpoint.get("namespace", "")), str(endpoint.get("pod_name", ""))
    if not name:
        return "", ""
    pod = view.tables.pods.snapshot().get(f"{namespace}/{name}")
    owners = endpoint.get("workloads") or [{}]
    return namespace, (pod.workload_name if pod else "") or str(owners[0].get("name") or name)


def party_of(view: View, flow: Flow, side: str) -> Party | None:
    """One end of a flow; None if nobody knows who it was."""
    endpoint: Flow = flow.get(side) or {}
    labels = tuple(sorted(label for label in endpoint.get("labels") or () if not label.startswith("cidr:")))
    if not labels:
        return None
    if any(label.startswith("reserved:world") for label in labels):
        return _outside(view, ip_address(flow["IP"][side]))
    namespace, name = workload(view, endpoint)
    if name:
        pod = view.tables.pods.snapshot().get(f"{namespace}/{endpoint['pod_name']}")
        return Party(f"{namespace}/{name}", labels, () if pod is None else tuple(pod.named_ports))
    reserved = next((label.partition(":")[2] for label in labels if label.startswith("reserved:")), "")
    networks = node_networks(view, [ip_address(flow["IP"][side])])
    return Party(reserved or ",".join(labels), labels, networks=networks, endpoint=False)


def _outside(view: View, address: IPAddress) -> Party:
    apiserver = address in view.apiservers
    network = ip_network(address)
    return world(str(address), address.version, len(view.versions), network, apiserver=apiserver).party
