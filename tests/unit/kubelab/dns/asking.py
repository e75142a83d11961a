"""A chain of plugins without sockets, and questions to it."""

from pathlib import Path

import dns.message
import dns.rdataclass
from dns.message import Message

from kubelab.dns.chain import Configuration
from kubelab.dns.corefile import parse
from kubelab.dns.plugins.kubernetes import Kubernetes
from kubelab.dns.wire import Protocol, Query, decode


def configured(corefile: str, path: Path = Path("/nowhere/Corefile")) -> Configuration:
    return Configuration(parse(corefile, {}), path)


def kubernetes(configuration: Configuration) -> Kubernetes:
    return next(plugin for plugin in configuration.plugins if isinstance(plugin, Kubernetes))


async def ask(
    configuration: Configuration, name: str, kind: str = "A", protocol: Protocol = "udp", edns: int = 0
) -> Message:
    options = {"use_edns": 0, "payload": edns} if edns else {}
    data = dns.message.make_query(name, kind, **options).to_wire()
    query = decode(data, "10.0.0.9", 4711, protocol)
    assert isinstance(query, Query)
    found = configuration.find(query.name, 53)
    assert found is not None
    chain, zone = found
    return dns.message.from_wire(await chain.answer(zone, query))


def texts(message: Message) -> list[str]:
    """The data of the answer's records."""
    return [str(record) for found in message.answer for record in found]


def outcome(message: Message) -> str:
    """NOERROR, NODATA, NXDOMAIN …"""
    rcode = message.rcode().name
    return "NODATA" if rcode == "NOERROR" and not message.answer else rcode
