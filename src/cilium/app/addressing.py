"""Start-up: who this node is, which addresses it has and which it hands to pods.

In: the Node object (kubernetes source), devices (netlink source), the CIDRs that Kubernetes or the operator assigns.
Out: one row of `node-addressing`, the node's CiliumNode, an allocator that is ready. Waits are unbounded and each says
what it waits for: a node without a pod CIDR cannot serve, but nothing that already runs is disturbed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from cilium.datapath.names import HOST_DEVICE
from cilium.features.endpoint.own import remembered
from cilium.features.endpoint.statedir import StateDirectory
from cilium.features.ipam.allocator import Allocator
from cilium.features.node.rows import NodeObject
from cilium.settings import IpamMode, Settings
from cilium.state import Table, Writer
from cilium.tables.devices import Device
from cilium.tables.kubernetes import CiliumNode, KubeNode
from cilium.tables.nodes import NodeAddressing
from cilium.tables.types import IPAddress, IPNetwork

log = structlog.get_logger("node")


class IpamModeChangedError(Exception):
    """The IPAM mode differs from the one this node's pods were addressed in."""


def guard_ipam_mode(state: Path, mode: IpamMode) -> None:
    """Refuses a changed mode while there are endpoints; remembers the mode otherwise."""
    memory = state / "ipam-mode"
    before = memory.read_text().strip() if memory.exists() else mode.value
    endpoints = sum(endpoint.kind == "pod" for endpoint in StateDirectory(state / "state").load())
    if before != mode.value and endpoints:
        raise IpamModeChangedError(
            f"ipam.mode: changed from {before} to {mode.value} while {endpoints} pod(s) of this node have addresses of "
            f"the old mode; set it back, or drain the node and remove {state / 'state'} first"
        )
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(mode.value)


class Addressing:
    """Settles the node's addresses, step by step."""

    def __init__(
        self,
        *,
        settings: Settings,
        node: str,
        kube_nodes: Table[str, KubeNode],
        cilium_nodes: Table[str, CiliumNode],
        devices: Table[int, Device],
        objects: Writer[str, NodeObject],
        rows: Writer[str, NodeAddressing],
        allocator: Allocator,
        progress: Callable[[str], None],
        state: StateDirectory,
    ) -> None:
        self._settings, self._node = settings, node
        self._kube_nodes, self._cilium_nodes, self._devices = kube_nodes, cilium_nodes, devices
        self._objects, self._rows, self._allocator = objects, rows, allocator
        self._progress, self._state = progress, state
        last = remembered(state, "health") if settings.health.checking and settings.health.endpoint else None
        self._health_ips = last.addresses if last is not None else ()
        """Of the last agent's health endpoint, until there is a new one: other nodes go on knowing it."""
        self._published: NodeObject | None = None
        self._families = settings.families.versions

    async def settle(self) -> NodeAddressing:
        """Returns when the node is known, addressed and published."""
        kube = await self._wait_for_node()
        if self._by_operator:
            await self._ask_for_cidrs(kube)
        cidrs = await self._wait_for_cidrs()
        self._allocator.set_cidrs(cidrs)
        router_ips = self._router_ips(cidrs)
        if not self._allocator.fits(self._health_ips):
            self._health_ips = ()  # of other CIDRs or families: there will be new ones
        self._publish(kube, router_ips=router_ips, cidrs=None if self._by_operator else cidrs)
        self._objects.ready()
        device = self._device(kube.internal_ips)
        row = NodeAddressing(
            name=self._node,
            internal_ips=kube.internal_ips,
            router_ips=router_ips,
            pod_cidrs=tuple(cidrs),
            device=device.name,
            mtu=self._settings.routing.mtu or device.mtu,
        )
        self._rows.upsert(row)
        self._rows.ready()
        log.info("node addressed", cidrs=list(map(str, cidrs)), router=list(map(str, router_ips)), device=device.name)
        return row

    def publish_health(self, addresses: tuple[IPAddress, ...]) -> None:
        """CiliumNode.spec.health: where other nodes ask for this node's health endpoint."""
        row = self._published
        if row is not None:
            self._published = msgspec.structs.replace(row, health_ips=addresses)
            self._objects.upsert(self._published)

    @property
    def _by_operator(self) -> bool:
        return self._settings.ipam.mode is IpamMode.CLUSTER_POOL

    async def _wait_for_node(self) -> KubeNode:
        self._progress(f"waiting for Node {self._node} of the API server")
        changes = self._kube_nodes.changes()
        while True:
            row = self._kube_nodes.snapshot().get(self._node)
            if row is not None and row.internal_ips:
                return row
            await changes.wait()
            changes.pop()

    async def _ask_for_cidrs(self, kube: KubeNode) -> None:
        """The operator gives CIDRs to nodes it sees. A node that was there before keeps its object as it is."""
        self._progress("waiting for the CiliumNodes of the API server")
        await self._cilium_nodes.wait_initialized()
        known = self._cilium_nodes.snapshot().get(self._node)
        if known is None or not known.pod_cidrs:
            self._publish(kube, router_ips=(), cidrs=None)

    async def _wait_for_cidrs(self) -> Sequence[IPNetwork]:
        giver = "the operator (CiliumNode.spec.ipam.podCIDRs)" if self._by_operator else "Node.spec.podCIDRs"
        families = " and ".join(f"IPv{version}" for version in self._families)
        self._progress(f"waiting for {families} pod CIDRs of node {self._node} from {giver}")
        table: Table[str, CiliumNode] | Table[str, KubeNode]
        table = self._cilium_nodes if self._by_operator else self._kube_nodes
        changes = table.changes()
        while True:
            row = table.snapshot().get(self._node)
            cidrs = [cidr for cidr in row.pod_cidrs if cidr.version in self._families] if row is not None else []
            if {cidr.version for cidr in cidrs} == set(self._families):
                if not (problem := self._overlap(cidrs)):
                    return cidrs
                self._progress(problem)
            await changes.wait()
            changes.pop()

    def _overlap(self, cidrs: Sequence[IPNetwork]) -> str:
        """Pods must not have addresses of a network this node is attached to: what is wrong, if anything."""
        for device in self._devices.snapshot():
            for interface in device.addresses if device.selected else ():
                for cidr in cidrs:
                    if interface.version == cidr.version and interface.network.overlaps(cidr):
                        return (
                            f"refusing pod CIDR {cidr} of node {self._node}: it overlaps {interface.network} on "
                            f"{device.name}; choose another pool: ipam.operator.clusterPoolIPv{cidr.version}PodCIDRList"
                        )
        return ""

    def _router_ips(self, cidrs: Sequence[IPNetwork]) -> tuple[IPAddress, ...]:
        """The addresses cilium_host already has, if they fit the CIDRs: pods know them as their gateways."""
        present = [
            interface.ip
            for device in self._devices.snapshot().by("name", HOST_DEVICE)
            for interface in device.addresses
            if any(interface.ip.version == cidr.version and interface.ip in cidr for cidr in cidrs)
        ]
        if {address.version for address in present} == set(self._families):
            self._allocator.claim(present, "router")
            return tuple(sorted(present, key=lambda address: address.version))
        # Pods of the last agent are restored later, with the addresses they have.
        taken = {address for endpoint in self._state.load() for address in endpoint.addresses}
        refused: list[IPAddress] = []
        while taken & set(addresses := self._allocator.allocate("router")):
            refused += addresses
        self._allocator.release(refused)
        return addresses

    def _device(self, internal_ips: Sequence[IPAddress]) -> Device:
        for device in self._devices.snapshot():
            if any(interface.ip in internal_ips for interface in device.addresses):
                return device
        raise LookupError(
            f"no device has an address of Node {self._node} ({', '.join(map(str, internal_ips))}); the Node's "
            "InternalIP must be an address of this machine"
        )

    def _publish(self, kube: KubeNode, *, router_ips: tuple[IPAddress, ...], cidrs: Sequence[IPNetwork] | None) -> None:
        self._published = NodeObject(
            name=self._node,
            labels=tuple(sorted(kube.labels.items())),
            internal_ips=kube.internal_ips,
            router_ips=router_ips,
            health_ips=self._health_ips,
            pod_cidrs=None if cidrs is None else tuple(cidrs),
            boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            ipam_mode=self._settings.ipam.mode.value,
            node_uid=kube.uid,
        )
        self._objects.upsert(self._published)


def node_name(settings: Settings) -> str:
    return settings.process.node_name or os.uname().nodename
