"""Who is on the stage: pods, Services and nodes as the API server tells of them.

In: objects. Out: frozen rows with what actions need: names, addresses by family, labels, ports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

Object = dict[str, Any]
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """`hosts`: the addresses of its node."""

    namespace: str
    name: str
    node: str
    container: str
    labels: Labels = field(hash=False)
    addresses: Mapping[int, str] = field(hash=False)
    hosts: Mapping[int, str] = field(hash=False)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    namespace: str
    name: str
    labels: Labels
    selector: Labels
    addresses: Mapping[int, str]
    port: int
    node_port: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """`addresses`: type and address of each, as the node has them."""

    name: str
    addresses: tuple[tuple[str, str], ...]
    cilium: bool
    """An agent runs there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actors:
    """Everybody. `ccnp`: the pods of other namespaces, where they are deployed."""

    clients: tuple[Pod, ...]
    echoes: tuple[Pod, ...]
    hosts: tuple[Pod, ...]
    services: tuple[Service, ...]
    nodes: tuple[Node, ...]
    agents: tuple[Pod, ...]
    ccnp: tuple[Pod, ...] = ()
    families: tuple[int, ...] = (4, 6)

    def behind(self, service: Service) -> tuple[Pod, ...]:
        return tuple(pod for pod in self.echoes if has(pod.labels, service.selector))


def has(labels: Labels, wanted: Labels) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def pod(item: Object) -> Pod:
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    hosts = [entry["ip"] for entry in status.get("hostIPs") or []] or [status.get("hostIP", "")]
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        node=spec.get("nodeName", ""),
        container=spec["containers"][0]["name"],
        labels=metadata.get("labels") or {},
        addresses=by_family(entry["ip"] for entry in status.get("podIPs") or []),
        hosts=by_family(hosts),
    )


def service(item: Object) -> Service:
    metadata, spec = item["metadata"], item["spec"]
    port = spec["ports"][0]
    return Service(
        namespace=metadata["namespace"],
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        selector=spec.get("selector") or {},
        addresses=by_family(spec.get("clusterIPs") or []),
        port=port["port"],
        node_port=port.get("nodePort", 0),
    )


def node(item: Object, agents: Iterable[Pod]) -> Node:
    name = item["metadata"]["name"]
    listed = (item.get("status") or {}).get("addresses") or []
    return Node(
        name=name,
        addresses=tuple((entry["type"], entry["address"]) for entry in listed),
        cilium=any(agent.node == name for agent in agents),
    )


def by_family(addresses: Iterable[str]) -> dict[int, str]:
    """The first of each family; names are left out."""
    found: dict[int, str] = {}
    for address in addresses:
        if family := family_of(address):
            found.setdefault(family, address)
    return found


def family_of(address: str) -> int:
    """0 for a name."""
    try:
        return ip_address(address).version
    except ValueError:
        return 0
