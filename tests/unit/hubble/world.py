"""A ring in memory with the kernel's layout, records, and a small cluster to name them by."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cilium.datapath.generated import EventFlags, EventType, FlowDirection, FlowVerdict, ObservationPoint, TraceReason
from cilium.hubble.addresses import packed
from cilium.hubble.names import NameTables
from cilium.hubble.records import EVENT, Records
from cilium.hubble.ring import BUSY, DISCARD, HEADER
from cilium.state import Table
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint
from cilium.tables.identities import IdentityRow
from cilium.tables.kubernetes import CiliumEndpoint, CiliumNode, Pod
from cilium.tables.rules import RuleReference

CLIENT, ECHO, REMOTE, WORLD = "10.0.1.10", "10.0.1.20", "10.0.2.30", "192.0.2.1"
CLIENT6, ECHO6 = "fd00::10", "fd00::20"
NOW = 1_800_000_000_000_000_000
OVERLAP = 256
"""Bytes of the ring mapped a second time: one record crosses its end at most."""


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
        if name in ("source", "destination", "translated"):
            one[name] = np.void(packed(ip_address(value)))
        elif name.endswith("_mac"):
            one[name] = np.void(bytes.fromhex(value.replace(":", "")))
        else:
            one[name] = value
    return one


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


def endpoint(number: int, name: str, *addresses: str) -> Endpoint:
    return Endpoint(id=number, kind="pod", addresses=tuple(map(ip_address, addresses)), namespace="default", pod=name)  # type: ignore[arg-type]


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
        self.ciliums = tables.cilium_endpoints.writer("test")
        self.pods.commit(upserts=[pod("client", CLIENT, "client"), pod("echo", ECHO, "echo")])
        self.endpoints.commit(upserts=[endpoint(10, "client", CLIENT, CLIENT6), endpoint(20, "echo", ECHO, ECHO6)])
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
                    (1111, ("k8s:app=client", "k8s:io.cilium.k8s.policy.cluster=default")),
                    (2222, ("k8s:app=echo", "k8s:tier=back")),
                    (3333, ("k8s:app=remote",)),
                )
            ]
        )
        tables.devices.writer("test").commit(
            upserts=[Device(ifindex=5, name="lxc-client", kind="veth", mac="", mtu=1500, up=True)]  # type: ignore[arg-type]
        )
        self.rules.commit(
            upserts=[
                RuleReference(7, "CiliumNetworkPolicy", "default", "client-out", "egress", 0),
                RuleReference(8, "CiliumNetworkPolicy", "default", "echo-in", "ingress", 0),
                RuleReference(9, "CiliumNetworkPolicy", "default", "echo-shut", "ingressDeny", 0),
            ]
        )
