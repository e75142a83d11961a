"""Inputs of services, the derivation and what comes out of it, for the tests of this directory."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_interface
from typing import Any

from cilium.features.services.compute import Frontends
from cilium.settings.service_groups import ServiceSettings
from cilium.state import Derivation, Table, View
from cilium.tables.devices import Device
from cilium.tables.kubernetes import KubeNode
from cilium.tables.problems import Problem
from cilium.tables.services import EndpointSlice, Frontend, Scope, Service, ServicePort, SliceEndpoint, SlicePort
from cilium.tables.types import Ifindex

HTTP = ServicePort("http", 80, "TCP")
WITH_NODE_PORT = ServicePort("http", 80, "TCP", 30080)
LISTENING = (SlicePort("http", 8080, "TCP"),)
VIP, LB, LB6 = ip_address("192.0.2.1"), ip_address("192.0.2.9"), ip_address("2001:db8::9")


class World:
    """`computed`: the rows that the last step wrote."""

    def __init__(self, versions: frozenset[int] = frozenset({4, 6}), **settings: Any) -> None:
        self.tables: dict[str, Table[Any, Any]] = {
            "services": Table("services", key=lambda row: row.key),
            "endpoint-slices": Table("endpoint-slices", key=lambda row: row.key),
            "kube-nodes": Table("kube-nodes", key=lambda row: row.name),
            "devices": Table("devices", key=lambda row: row.ifindex),
            "others": Table("others", key=lambda row: row.key),
        }
        self.writers = {name: table.writer("test") for name, table in self.tables.items()}
        self.out: Table[Any, Frontend] = Table("frontends", key=lambda row: row.key)
        self.found: Table[Any, Problem] = Table("service-findings", key=lambda row: row.key)
        self.frontends = Frontends(
            node="n1",
            versions=versions,
            settings=ServiceSettings(replacement=True, **settings),
            others=("others",),
        )
        self.computed: list[Any] = []
        self.derivation = Derivation(
            "services",
            inputs=self.tables,
            outputs={"frontends": self.out.writer("test"), "service-findings": self.found.writer("test")},
            compute=self._compute,
        )

    def _compute(self, view: View) -> Any:
        result = self.frontends.compute(view)
        self.computed = [*result["frontends"].upserts, *result["frontends"].deletes]
        return result

    def put(self, *rows: Service | EndpointSlice | KubeNode | Device | Frontend) -> None:
        """In one step."""
        names = {
            Service: "services",
            EndpointSlice: "endpoint-slices",
            KubeNode: "kube-nodes",
            Device: "devices",
            Frontend: "others",
        }
        for row in rows:
            self.writers[names[type(row)]].upsert(row)
        self.derivation.step()

    def drop(self, table: str, key: Any) -> None:
        self.writers[table].delete(key)
        self.derivation.step()

    def row(self, address: str, port: int = 80, protocol: str = "TCP", scope: Scope = Scope.CLUSTER) -> Frontend | None:
        return self.out.snapshot().get((ip_address(address), port, protocol, scope))

    def outside(self, address: str, port: int = 80, protocol: str = "TCP") -> Frontend:
        row = self.row(address, port, protocol, Scope.EXTERNAL)
        assert row is not None
        return row

    def inside(self, address: str, port: int = 80, protocol: str = "TCP") -> Frontend:
        row = self.row(address, port, protocol)
        assert row is not None
        return row

    def ends(self, address: str, port: int = 80, protocol: str = "TCP") -> list[str] | None:
        """Who gets new connections from inside; None: nobody has the address."""
        row = self.row(address, port, protocol)
        return None if row is None else serving(row)

    def problems(self) -> dict[str, str]:
        """Messages by object and field."""
        return {f"{row.namespace}/{row.name} {row.field}": row.message for row in self.found.snapshot()}


def serving(row: Frontend) -> list[str]:
    return [f"{end.address}:{end.port}" for end in row.serving]


def service(name: str = "web", *ips: str, ports: tuple[ServicePort, ...] = (HTTP,), **more: Any) -> Service:
    cluster = tuple(map(ip_address, ips or ("10.96.0.10",)))
    return Service("shop", name, more.pop("kind", "ClusterIP"), cluster_ips=cluster, ports=ports, **more)


def balanced(*ips: str, **more: Any) -> Service:
    """A load balancer with every kind of address."""
    full = {"kind": "LoadBalancer", "ports": (WITH_NODE_PORT,), "external_ips": (VIP,), "load_balancer_ips": (LB,)}
    return service("web", *ips, **(full | more))


def end(
    ip: str,
    *,
    ready: bool = True,
    serving: bool = True,
    terminating: bool = False,
    node: str = "n1",
    zones: tuple[str, ...] = (),
    nodes: tuple[str, ...] = (),
) -> SliceEndpoint:
    return SliceEndpoint(ip_address(ip), ready, serving, terminating, node, for_zones=zones, for_nodes=nodes)


def piece(name: str, *ends: SliceEndpoint, service: str = "web", ports: Any = LISTENING, **more: Any) -> EndpointSlice:
    return EndpointSlice("shop", name, service, tuple(ends), tuple(ports), **more)


def node(labels: Mapping[str, str], name: str = "n1") -> KubeNode:
    return KubeNode(name, labels, {})


def device(index: int, name: str, *addresses: str) -> Device:
    return Device(
        Ifindex(index), name, "", "02:00:00:00:00:01", 1500, True, tuple(ip_interface(address) for address in addresses)
    )
