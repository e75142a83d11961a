"""A zone and the answers it gives: an authoritative name server without a socket.

In: records, and queries. Out: responses. Source: RFC 1034 4.3.2 (algorithm), RFC 2308 (negative answers), RFC 4592
(wildcards).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address

from kubelab.external.dns_message import Query, Rcode, Record, Response, Type

IN, ANY_CLASS = 1, 255
NEGATIVE_TTL = 5
MAX_CHAIN = 8


def absolute(name: str) -> str:
    return name if name.endswith(".") else f"{name}."


@dataclass(frozen=True)
class Zone:
    """`origin` with its records; names are compared without regard to case."""

    origin: str
    records: tuple[Record, ...]
    ttl: int = 30
    _by_name: dict[str, list[Record]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        origin = self.origin.lower()
        for record in self.records:
            name = record.name.lower()
            if name != origin and not name.endswith(f".{origin}"):
                raise ValueError(f"{record.name} lies outside of the zone {self.origin}")
            self._by_name.setdefault(name, []).append(record)

    @property
    def authority(self) -> Record:
        """The SOA that negative answers carry."""
        data = (f"ns.{self.origin}", f"hostmaster.{self.origin}", 1, 3600, 600, 86400, NEGATIVE_TTL)
        return Record(self.origin, Type.SOA, NEGATIVE_TTL, data)

    def contains(self, name: str) -> bool:
        lower, origin = name.lower(), self.origin.lower()
        return lower == origin or lower.endswith(f".{origin}")

    def lookup(self, name: str) -> list[Record] | None:
        """The records of a name, possibly made from a wildcard; empty: the name exists without; None: it does not."""
        lower, origin = name.lower(), self.origin.lower()
        if lower in self._by_name:
            return self._by_name[lower]
        if lower == origin or any(known.endswith(f".{lower}") for known in self._by_name):
            return []
        parent = lower
        while parent != origin:
            parent = parent.partition(".")[2]
            wildcard = self._by_name.get(f"*.{parent}")
            if wildcard is not None:
                return [Record(name, record.type, record.ttl, record.data) for record in wildcard]
            if parent in self._by_name:
                return None  # the closest name that exists has no wildcard below it
        return None


def zone(origin: str, hosts: Mapping[str, Iterable[str]], *, ttl: int = 30) -> Zone:
    """A zone of addresses. `hosts` maps names within it to addresses of both families; `=name` makes an alias."""
    apex = absolute(origin)
    records = [Record(apex, Type.NS, ttl, f"ns.{apex}")]
    for host, values in hosts.items():
        name = apex if host == "@" else f"{host}.{apex}"
        for value in values:
            if value.startswith("="):
                records.append(Record(name, Type.CNAME, ttl, absolute(value[1:])))
            else:
                address = ip_address(value)
                kind = Type.A if isinstance(address, IPv4Address) else Type.AAAA
                records.append(Record(name, kind, ttl, address))
    return Zone(apex, tuple(records), ttl)


def answer(zones: Sequence[Zone], query: Query) -> Response:
    """The response of a server that knows these zones and nothing else."""
    if query.opcode != 0:
        return Response(Rcode.NOTIMP)
    name = absolute(query.name)
    found = max((entry for entry in zones if entry.contains(name)), key=lambda entry: len(entry.origin), default=None)
    if found is None or query.klass not in (IN, ANY_CLASS):
        return Response(Rcode.REFUSED)
    answers: list[Record] = []
    for _ in range(MAX_CHAIN):
        records = found.lookup(name)
        if records is None:
            return Response(Rcode.NXDOMAIN, True, answers, [found.authority])
        wanted = [record for record in records if query.type in (record.type, Type.ANY)]
        if name.lower() == found.origin.lower() and query.type in (Type.SOA, Type.ANY):
            wanted.append(found.authority)
        if wanted:
            return Response(Rcode.NOERROR, True, [*answers, *wanted])
        alias = next((record for record in records if record.type == Type.CNAME), None)
        if alias is None:
            return Response(Rcode.NOERROR, True, answers, [found.authority])
        answers.append(alias)
        name = str(alias.data)
        if not found.contains(name):
            return Response(Rcode.NOERROR, True, answers)
    return Response(Rcode.NOERROR, True, answers)
