"""A ring in memory with the kernel's layout, records, and a small cluster to name them by."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cilium.datapath.generated import (
    EventFlags,
    EventType,
    FlowDirection,
    FlowVerdict,
    ObservationPoint,
    SockPoint,
    TraceReason,
)
from cilium.hubble.addresses import packed
from cilium.hubble.names import NameTables
from cilium.hubble.records import EVENT, SOCK_EVENT, Records
from cilium.hubble.ring import BUSY, DISCARD, HEADER
from cilium.state import Table
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint, EndpointIdentity
from cilium.tables.identities import IdentityRow
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.kubernetes import CiliumEndpoint, CiliumNode, Pod
from cilium.tables.rules import Action, RuleReference
from cilium.tables.services import Frontend, Scope

CLIENT, ECHO, REMOTE, WORLD = "10.0.1.10", "10.0.1.20", "10.0.2.30", "192.0.2.1"
CLIENT6, ECHO6 = "fd00::10", "fd00::20"
NODE, NODE2 = "172.18.0.2", "172.18.0.3"
WEB, WEB6 = "10.96.0.80", "fd00:96::80"
"""Cluster IPs of the service default/web, port 80, which is node port 30080; behind it is echo, port 8080."""
HOST_COOKIE, CLIENT_COOKIE, STRANGER_COOKIE = 1, 4097, 4098
CGROUP = 4711
CLIENT_LABELS = ("k8s:app=client", "k8s:io.cilium.k8s.policy.cluster=default")
NOW = 1_800_000_000_000_000_000
OVERLAP = 256
"""Bytes of the ring mapped a second time: one record crosses its end at most."""


ADDRESSES = ("source", "destination", "translated")


class MemoryRing:
    """RingMemory whose producer is the test."""

    def __init__(self, size: int = 4096) -> None:
        self.size = size
        self.data: NDArray[np.uint8] = np.zeros(size + OVERLAP, np.uint8)
        self.consumer_position = 0
        self.producer_position = 0

    def write(self, payload: bytes, *, busy: bool = False, discard: bool = False) -> int:
        """Reserve and submit one record; return its position."""
        length = HEADER + (len(payload) + 7 & ~7)
        position = self.producer_position
        if position + length - self.consumer_position > self.size:
            raise BlockingIOError("ring is full")
        flags = (BUSY if busy else 0) | (DISCARD if discard else 0)
        header = np.array([len(payload) | flags, 0], "<u4").tobytes()
        self._put(position, header + payload)
        self.producer_position += length
        return position

    def write_all(self, records: Records) -> None:
        for record in records:
            self.write(record.tobytes())

    def finish(self, position: int) -> None:
        """Clear the BUSY bit of a record."""
        at = position % self.size
        self.data[at : at + 4].view("<u4")[0] &= ~np.uint32(BUSY)
        self.data[self.size :] = self.data[:OVERLAP]

    def _put(self, position: int, content: bytes) -> None:
        places = np.arange(position, position + len(content)) % self.size
        self.data[places] = np.frombuffer(content, np.uint8)
        self.data[self.size :] = self.data[:OVERLAP]


def record(**fields: Any) -> Records:
    """One record: by default the first packet of client to echo, both on this node, both policies allowing."""
    one = np.zeros(1, EVENT)
    values: dict[str, Any] = {
        "time": NOW,
        "type": EventType.TRACE,
        "point": ObservationPoint.TO_ENDPOINT,
        "reason": TraceReason.NEW,
        "direction": FlowDirection.EGRESS,
        "verdict": FlowVerdict.FORWARDED,
        "protocol": 6,
        "tcp_flags": 0x02,
        "flags": EventFlags.REPLY_KNOWN | EventFlags.LOCAL,
        "source": CLIENT,
        "destination": ECHO,
        "source_port": 43210,
        "destination_port": 8080,
        "ifindex": 5,
        "source_identity": 1111,
        "destination_identity": 2222,
        "source_endpoint": 10,
        "destination_endpoint": 20,
        "length": 74,
        "packets": 1,
        **fields,
    }
    for name, value in values.items():
        if name in ADDRESSES:
            one[name] = np.void(packed(ip_address(value)))
        elif name.endswith("_mac"):
            one[name] = np.void(bytes.fromhex(value.replace(":", "")))
        else:
            one[name] = value
    return one


def socket_record(**fields: Any) -> Records:
    """By default the client connects to the service web and gets echo."""
    one = np.zeros(1, SOCK_EVENT)
    values: dict[str, Any] = {
        "time": NOW,
        "type": EventType.TRACE_SOCK,
        "point": SockPoint.FORWARD,
        "verdict": FlowVerdict.TRANSLATED,
        "protocol": 6,
        "destination": WEB,
        "destination_port": 80,
        "translated": ECHO,
        "translated_port": 8080,
        "socket_cookie": 77,
        "cgroup_id": CGROUP,
        "netns_cookie": CLIENT_COOKIE,
        **fields,
    }
    for name, value in values.items():
        one[name] = np.void(packed(ip_address(value))) if name in ADDRESSES else value
    return one.view(EVENT)


def records(*several: Records) -> Records:
    return np.concatenate(several, dtype=EVENT)  # without a dtype, numpy would turn ports to native byte order


def numbered(count: int, start: int = 0) -> Records:
    """Records that tell their number by their length field and lie a microsecond apart."""
    many = np.repeat(record(), count)
    many["length"] = np.arange(start, start + count)
    many["time"] += np.arange(start, start + count).astype(np.uint64) * np.uint64(1000)
    return many


def pod(name: str, address: str, app: str, namespace: str = "default", **fields: Any) -> Pod:
    return Pod(
        namespace=namespace,
        name=name,
        uid=name,
        node="n1",
        labels={"app": app},
        annotations={},
        ips=(ip_address(address),),
        workload_kind="Deployment",
        workload_name=app,
        **fields,
    )


def endpoint(number: int, name: str, *addresses: str, netns_cookie: int = 0) -> Endpoint:
    return Endpoint(
        id=number,  # type: ignore[arg-type]
        kind="pod",
        addresses=tuple(map(ip_address, addresses)),
        namespace="default",
        pod=name,
        netns_cookie=netns_cookie,
    )


def frontend(address: str, port: int, service: str = "default/web", protocol: str = "TCP", **fields: Any) -> Frontend:
    return Frontend(ip_address(address), port, protocol, service, "", fields.pop("kind", "ClusterIP"), **fields)


class Cluster:
    """Tables with a client and an echo pod here, a remote pod elsewhere, their identities and two rules."""

    def __init__(self) -> None:
        self.tables = NameTables(
            pods=Table("pods", key=lambda row: row.key),
            cilium_endpoints=Table("cilium-endpoints", key=lambda row: row.key),
            endpoints=Table("endpoints", key=lambda row: row.id),
            endpoint_identities=Table("endpoint-identities", key=lambda row: row.endpoint),
            identities=Table("identities", key=lambda row: row.id),
            ipcache=Table("ipcache", key=lambda row: row.prefix),
            devices=Table("devices", key=lambda row: row.ifindex),
            frontends=Table("frontends", key=lambda row: row.key),
            rule_references=Table("rule-references", key=lambda row: row.cookie),
        )
        self.nodes: Table[str, CiliumNode] = Table("cilium-nodes", key=lambda row: row.name)
        self.policies: Table[str, Any] = Table("policies", key=lambda row: row.key)
        tables = self.tables
        self.pods = tables.pods.writer("test")
        self.endpoints = tables.endpoints.writer("test")
        self.identities = tables.identities.writer("test")
        self.ipcache = tables.ipcache.writer("test")
        self.rules = tables.rule_references.writer("test")
        self.frontends = tables.frontends.writer("test")
        self.owners = tables.endpoint_identities.writer("test")
        self.ciliums = tables.cilium_endpoints.writer("test")
        self.pods.commit(upserts=[pod("client", CLIENT, "client"), pod("echo", ECHO, "echo")])
        node = Endpoint(id=65535, kind="host", addresses=(), netns_cookie=HOST_COOKIE)  # type: ignore[arg-type]
        pods = [
            endpoint(10, "client", CLIENT, CLIENT6, netns_cookie=CLIENT_COOKIE),
            endpoint(20, "echo", ECHO, ECHO6),
        ]
        self.endpoints.commit(upserts=[node, *pods])
        self.ciliums.commit(
            upserts=[
                CiliumEndpoint(
                    namespace="prod",
                    name="remote",
                    endpoint_id=3,
                    identity=3333,
                    labels=(),
                    ips=(ip_address(REMOTE),),
                    node_ip=None,
                )  # type: ignore[arg-type]
            ]
        )
        self.identities.commit(
            upserts=[
                IdentityRow(id=number, labels=labels, source="cluster")  # type: ignore[arg-type]
                for number, labels in (
                    (1111, CLIENT_LABELS),
                    (2222, ("k8s:app=echo", "k8s:tier=back")),
                    (3333, ("k8s:app=remote",)),
                )
            ]
        )
        self._fill_services()
        tables.devices.writer("test").commit(
            upserts=[Device(ifindex=5, name="lxc-client", kind="veth", mac="", mtu=1500, up=True)]  # type: ignore[arg-type]
        )
        self._fill_rules()

    def _fill_services(self) -> None:
        """A service before the echo pod, its node port, another's host port; whose addresses are a node's."""
        self.ipcache.commit(
            upserts=[
                IPCacheEntry(prefix=ip_network(address), identity=number)  # type: ignore[arg-type]
                for address, number in ((NODE, 1), (NODE2, 6), (ECHO, 2222))
            ]
        )
        self.owners.commit(upserts=[EndpointIdentity(endpoint=10, identity=1111, labels=CLIENT_LABELS)])  # type: ignore[arg-type]
        self.frontends.commit(
            upserts=[
                *(frontend(address, 80, scope=scope) for address in (WEB, WEB6) for scope in Scope),
                frontend("0.0.0.0", 30080, kind="NodePort"),
                frontend("::", 30080, kind="NodePort"),
                frontend("0.0.0.0", 8053, service="prod/dns", protocol="UDP", kind="HostPort"),
            ]
        )

    def _fill_rules(self) -> None:
        self.rules.commit(
            upserts=[
                RuleReference(7, "CiliumNetworkPolicy", "default", "client-out", "egress", 0),
                RuleReference(8, "CiliumNetworkPolicy", "default", "echo-in", "ingress", 0),
                RuleReference(
                    9,
                    "CiliumNetworkPolicy",
                    "default",
                    "echo-shut",
                    "ingressDeny",
                    1,
                    spec=2,
                    labels=("x",),
                    action=Action.DENY,
                    revision=5,
                    log="shut",
                ),
                RuleReference(2, "", "", "audited default deny", "", 0, action=Action.DENY),
            ]
        )
