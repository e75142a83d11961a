"""Packets that the tests send, one code path for both families."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet

CLIENT = {4: "10.0.0.1", 6: "fd00::1"}
SERVER = {4: "10.0.0.2", 6: "fd00::2"}
REMOTE = {4: "10.0.1.5", 6: "fd01::5"}
WORLD = {4: "192.0.2.9", 6: "2001:db8::9"}
NODE = {4: "172.18.0.2", 6: "fd12::2"}
FAMILIES = [4, 6]


def ip(source: str, destination: str, **fields: Any) -> Packet:
    layer = IPv6 if ":" in source else IP
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:ff:01") / layer(src=source, dst=destination, **fields)


def tcp(source: str, destination: str, sport: int = 40000, dport: int = 80, flags: str = "S", **fields: Any) -> Packet:
    return ip(source, destination, **fields) / TCP(sport=sport, dport=dport, flags=flags)


def udp(source: str, destination: str, sport: int = 40000, dport: int = 53, data: bytes = b"ask") -> Packet:
    return ip(source, destination) / UDP(sport=sport, dport=dport) / data


def sctp(source: str, destination: str, sport: int = 40000, dport: int = 80) -> Packet:
    return ip(source, destination) / SCTP(sport=sport, dport=dport) / SCTPChunkInit(init_tag=1)


def echo(source: str, destination: str, number: int = 7, *, reply: bool = False) -> Packet:
    if ":" in source:
        return ip(source, destination) / (ICMPv6EchoReply if reply else ICMPv6EchoRequest)(id=number, data=b"ping")
    return ip(source, destination) / ICMP(type=0 if reply else 8, id=number) / b"ping"


def checksums_hold(data: bytes) -> bool:
    """Whether every checksum is what scapy computes afresh."""
    found = Ether(data)
    fresh = found.copy()
    layer: Packet | None = fresh
    while layer:
        for name in ("chksum", "cksum"):
            if name in layer.fields and not (name == "chksum" and layer.name == "UDP" and layer.fields[name] == 0):
                del layer.fields[name]
        layer = layer.payload if layer.payload and layer.name not in ("IP in ICMP", "IPv6 in ICMPv6") else None
        if layer is not None and layer.name in ("IP in ICMP", "IPv6 in ICMPv6"):
            break
    return bytes(fresh) == data
