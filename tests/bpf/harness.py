"""The datapath under BPF_PROG_TEST_RUN: real programs, real maps in a pin directory of their own, crafted packets.

In: rows (endpoints, policies, ipcache) and scapy packets. Out: verdict, the packet as the program left it, events.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import numpy as np
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from cilium.datapath.addresses import address_bytes, mac_bytes, prefix_bits
from cilium.datapath.generated import structs
from cilium.datapath.generated.enums import EndpointFlags
from cilium.datapath.loader import Constant, LoadedObject, load
from cilium.datapath.maps import PinnedMap
from cilium.datapath.paths import BPF_FILESYSTEM, OBJECT_DIRECTORY
from cilium.datapath.ringbuf import BUSY, HEADER_SIZE, RingBuffer
from cilium.datapath.testrun import Frame, RunResult, SkBuff, run_program

OK, SHOT, REDIRECT = 0, 2, 7
XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = 1, 2, 3, 4
OBJECTS = {
    "from_lxc": "lxc",
    "to_lxc": "lxc",
    "from_host": "host",
    "from_overlay": "overlay",
    "from_netdev": "netdev",
    "to_netdev": "netdev",
    "from_wire": "xdp",
    "from_wire_generic": "xdp",
}
LOOPBACK = 1
"""The device on which test packets arrive: the only one that is always there."""
SMALL = {
    "cilium_ct": 16384,
    "cilium_snat": 16384,
    "cilium_frags": 1024,
    "cilium_ipcache": 4096,
    "cilium_policy": 4096,
    "cilium_lb_services": 1024,
    "cilium_lb_slots": 1024,
    "cilium_lb_backends": 1024,
    "cilium_lb_affinity": 1024,
}
NODE_MAC = "02:00:00:00:ff:01"


@dataclass(frozen=True)
class Outcome:
    """`events`: one record (numpy void of EVENT) each."""

    verdict: int
    data: bytes
    events: list[Any] = field(default_factory=list)

    @property
    def packet(self) -> Packet:
        return Ether(self.data)

    @property
    def drop(self) -> int:
        """The reason that the one drop event gives; 0: no drop event."""
        reasons = [int(event["reason"]) for event in self.events if event["type"] == 1]
        assert len(reasons) <= 1, reasons
        assert bool(reasons) <= (self.verdict in (SHOT, XDP_DROP))
        return reasons[0] if reasons else 0


class Datapath:
    """One node's maps and programs. Objects are loaded when a program of theirs is first run."""

    def __init__(self, *, ring_bytes: int = 1 << 20, **constants: Constant) -> None:
        self._sizes = {**SMALL, "cilium_events": ring_bytes}
        self._constants = {f"config_{name}": value for name, value in constants.items()}
        self._pins = BPF_FILESYSTEM / f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._objects: dict[str, LoadedObject] = {}
        self._maps: dict[str, PinnedMap] = {}
        self._object("lxc")
        self._ring = RingBuffer("cilium_events", self._pins)
        self.epoch = 1
        self.aggregation = 10.0
        self._flags: dict[str, int] = {}
        self.set_runtime()

    def close(self) -> None:
        self._ring.close()
        for pinned in self._maps.values():
            pinned.close()
        for loaded in self._objects.values():
            loaded.close()
        for pin in self._pins.iterdir():
            pin.unlink()
        self._pins.rmdir()

    def _object(self, name: str) -> LoadedObject:
        if name not in self._objects:
            path = OBJECT_DIRECTORY / f"{name}.bpf.o"
            self._objects[name] = load(path, constants=self._constants, pin_dir=self._pins, max_entries=self._sizes)
        return self._objects[name]

    def map(self, name: str) -> PinnedMap:
        if name not in self._maps:
            if name in ("cilium_netdev", "cilium_snat"):
                self._object("netdev")
            self._maps[name] = PinnedMap(name, self._pins)
        return self._maps[name]

    def program(self, name: str) -> int:
        return self._object(OBJECTS[name]).programs[name].fd

    def put(self, name: str, key: Mapping[str, Any] | int, value: Mapping[str, Any] | int) -> None:
        pinned = self.map(name)
        pinned.update(row(pinned.spec.key, key), row(pinned.spec.value, value))

    def drop_rows(self, name: str) -> None:
        """Empty a map."""
        keys, _ = self.map(name).dump()
        self.map(name).delete(keys)

    # --- rows

    def set_runtime(self, **flags: int) -> None:
        self._flags = flags
        value = {"policy_epoch": self.epoch, "aggregation": int(self.aggregation * 1e9), **flags}
        self.put("cilium_runtime", 0, value)

    def endpoint(self, address: str, identity: int, **fields: Any) -> None:
        self.write_endpoint(address, identity, **fields)
        self.advance()

    def write_endpoint(
        self, address: str, identity: int, *, ifindex: int = LOOPBACK, mac: str = "", **fields: Any
    ) -> None:
        """The row alone: programs may still use the one before."""
        value = {
            "ifindex": ifindex,
            "identity": identity,
            "mac": list(mac_bytes(mac or "02:00:00:00:00:01")),
            "node_mac": list(mac_bytes(NODE_MAC)),
            **fields,
        }
        self.put("cilium_lxc", {"address": encoded(address)}, value)

    def advance(self) -> None:
        """What the agent does after every change of endpoints and policies."""
        self.epoch += 1
        self.set_runtime(**self._flags)

    def node_address(self, address: str) -> None:
        self.endpoint(address, 1, ifindex=0, flags=EndpointFlags.HOST)

    def ipcache(self, prefix: str, identity: int, *, tunnel: str = "", **fields: Any) -> None:
        network = ip_network(prefix)
        value = {"identity": identity, **fields}
        if tunnel:
            value["tunnel_endpoint"] = encoded(tunnel)
        key: dict[str, Any] = {"address": encoded(str(network.network_address))}
        if network.prefixlen == network.max_prefixlen:
            self.put("cilium_ipcache", key, value)
        else:
            self.put("cilium_ipcache_cidr", {**key, "prefixlen": 32 + prefix_bits(network)}, value)

    def rule(
        self,
        policy: int,
        identity: int,
        number: int,
        *,
        protocol: int = 0,
        port: int = 0,
        bits: int = 16,
        **verdict: Any,
    ) -> None:
        """`identity`'s class in `policy` is `number`; in it (protocol, port/bits) has the verdict."""
        self.put("cilium_policy", {"policy": policy, "identity": identity}, number)
        prefix = 32 if not protocol else 40 if not port else 40 + bits
        key = {"prefixlen": prefix, "class": number, "protocol": protocol, "port": list(port.to_bytes(2, "big"))}
        self.put("cilium_policy_class", key, {"cookie": number * 100 + bits, **verdict})

    # --- packets

    def run(self, program: str, packet: Packet | bytes, *, came_from: int = 0, ifindex: int = LOOPBACK) -> Outcome:
        self.events()
        result = self.run_unread(program, packet, came_from=came_from, ifindex=ifindex)
        return Outcome(result.retval, result.data, list(self.events()))

    def run_unread(
        self, program: str, packet: Packet | bytes, *, came_from: int = 0, ifindex: int = LOOPBACK
    ) -> RunResult:
        """Run without looking at the events."""
        context = SkBuff(ifindex=ifindex, ingress_ifindex=came_from)
        return run_program(self.program(program), bytes(packet), context=context)

    def run_frame(self, program: str, packet: Packet | bytes, *, ifindex: int = LOOPBACK) -> Outcome:
        """XDP, on a device of the caller's network namespace."""
        self.events()
        data = bytes(packet)
        result = run_program(self.program(program), data, context=Frame(len(data), ifindex))
        return Outcome(result.retval, result.data, list(self.events()))

    def events(self) -> Iterator[Any]:
        """What was written since the last call."""
        found = []
        position, end = self._ring.consumer_position, self._ring.producer_position
        while position < end:
            at = position & self._ring.mask
            length = int(self._ring.data[at : at + 4].view(np.uint32)[0])
            assert not length & BUSY
            size = length & 0x3FFFFFFF
            data = bytes(self._ring.data[at + HEADER_SIZE : at + HEADER_SIZE + size])
            found.append(np.frombuffer(data, structs.EVENT)[0])
            position += (HEADER_SIZE + size + 7) & ~7
        self._ring.consumer_position = position
        return iter(found)

    def count(self, reason: int, direction: int) -> int:
        values, _ = self.map("cilium_metrics").lookup(np.array([reason * 4 + direction], np.uint32))
        return int(
            values["value"]["packets"].sum() if "value" in (values.dtype.names or ()) else values["packets"].sum()
        )

    def connections(self) -> list[tuple[Any, Any]]:
        keys, values = self.map("cilium_ct").dump()
        return list(zip(keys, values, strict=True))


def encoded(address: str) -> list[int]:
    return list(address_bytes(ip_address(address)))


def row(dtype: Any, fields: Mapping[str, Any] | int) -> Any:
    found = np.zeros(1, dtype)
    if isinstance(fields, int):
        found[0] = fields
        return found
    for name, value in fields.items():
        found[name][0] = value
    return found


ROOT = Path(__file__).resolve().parents[2]
