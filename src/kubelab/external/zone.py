"""A zone and the answers it gives: an authoritative name server without a socket.

In: records, and queries. Out: responses. Source: RFC 1034 4.3.2 (algorithm), RFC 2308 (negative answers), RFC 4592
(wildcards).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import dns.name
import dns.rdataclass
from dns.name import Name
from dns.rcode import Rcode
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from kubelab.dns import records
from kubelab.dns.records import RRset
from kubelab.dns.wire import Query, Response

TIMERS = (3600, 600, 86400)
NEGATIVE_TTL = 5
MAX_CHAIN = 8


@dataclass(frozen=True)
class Zone:
    """`origin` with its records; names are compared without regard to case."""

    origin: Name
    records: tuple[RRset, ...]
    _by_name: dict[Name, list[RRset]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for record in self.records:
            if not self.contains(record.name):
                raise ValueError(f"{record.name} lies outside of the zone {self.origin}")
            self._by_name.setdefault(record.name, []).append(record)

    @property
    def authority(self) -> RRset:
        """The SOA that negative answers carry."""
        server = dns.name.from_text("ns", self.origin)
        return records.soa(self.origin, NEGATIVE_TTL, 1, server, (*TIMERS, NEGATIVE_TTL))

    def contains(self, name: Name) -> bool:
        return name.is_subdomain(self.origin)

    def lookup(self, name: Name) -> list[RRset] | None:
        """The records of a name, possibly made from a wildcard; empty: the name exists without; None: it does not."""
        if name in self._by_name:
            return self._by_name[name]
        if name == self.origin or any(known.is_subdomain(name) for known in self._by_name):
            return []
        parent = name
        while parent != self.origin:
            parent = parent.parent()
            wildcard = self._by_name.get(dns.name.from_text("*", parent))
            if wildcard is not None:
                return [_renamed(record, name) for record in wildcard]
            if parent in self._by_name:
                return None  # the closest name that exists has no wildcard below it
        return None


def _renamed(record: RRset, name: Name) -> RRset:
    (copy,) = records.with_ttl([record], record.ttl)
    copy.name = name
    return copy


def zone(origin: str, hosts: Mapping[str, Iterable[str]], *, ttl: int = 30) -> Zone:
    """A zone of addresses. `hosts` maps names within it to addresses of both families; `=name` makes an alias."""
    apex = dns.name.from_text(origin)
    found = [records.rrset(apex, ttl, RdataType.NS, [str(dns.name.from_text("ns", apex))])]
    for host, values in hosts.items():
        name = apex if host == "@" else dns.name.from_text(host, apex)
        aliases = [value[1:] for value in values if value.startswith("=")]
        found += [records.rrset(name, ttl, RdataType.CNAME, [str(dns.name.from_text(alias))]) for alias in aliases]
        addresses = [value for value in values if not value.startswith("=")]
        for kind in (RdataType.A, RdataType.AAAA):
            found += records.addresses(name, ttl, kind, addresses)
    return Zone(apex, tuple(found))


def answer(zones: Sequence[Zone], query: Query) -> Response:
    """The response of a server that knows these zones and nothing else."""
    name = query.name
    around = (entry for entry in zones if entry.contains(name))
    found = max(around, key=lambda entry: len(entry.origin.labels), default=None)
    if found is None or query.klass not in (RdataClass.IN, dns.rdataclass.ANY):
        return Response(Rcode.REFUSED)
    answers: list[RRset] = []
    for _ in range(MAX_CHAIN):
        known = found.lookup(name)
        if known is None:
            return Response(Rcode.NXDOMAIN, answers, [found.authority], authoritative=True)
        wanted = [record for record in known if query.type in (record.rdtype, RdataType.ANY)]
        if name == found.origin and query.type in (RdataType.SOA, RdataType.ANY):
            wanted.append(found.authority)
        if wanted:
            return Response(Rcode.NOERROR, [*answers, *wanted], authoritative=True)
        alias = next((record for record in known if record.rdtype == RdataType.CNAME), None)
        if alias is None:
            return Response(Rcode.NOERROR, answers, [found.authority], authoritative=True)
        answers.append(alias)
        name = alias[0].target
        if not found.contains(name):
            break
    return Response(Rcode.NOERROR, answers, authoritative=True)
