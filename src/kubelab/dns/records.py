"""Resource records, made and changed.

In: names, addresses, numbers. Out: dnspython's RRsets.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import dns.name
import dns.rdata
import dns.rrset
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

Name = dns.name.Name
RRset = dns.rrset.RRset


def rrset(name: Name, ttl: int, kind: RdataType, texts: Iterable[str]) -> RRset:
    """A set from the master file form of its data. Raises dns.exception.DNSException."""
    return dns.rrset.from_rdata_list(name, ttl, [dns.rdata.from_text(RdataClass.IN, kind, text) for text in texts])


def addresses(name: Name, ttl: int, kind: RdataType, values: Iterable[str]) -> list[RRset]:
    """The A or AAAA set of those values that are of its family; no set when there are none."""
    version = {RdataType.A: 4, RdataType.AAAA: 6}.get(kind)
    wanted = [value for value in dict.fromkeys(values) if ip_address(value).version == version]
    return [rrset(name, ttl, kind, wanted)] if wanted else []


def soa(zone: Name, ttl: int, serial: int, server: Name, timers: tuple[int, int, int, int]) -> RRset:
    """The SOA of a zone; ``timers`` are refresh, retry, expire, minimum."""
    mailbox = dns.name.Name((b"hostmaster", *zone.labels))
    numbers = " ".join(map(str, (serial, *timers)))
    return rrset(zone, ttl, RdataType.SOA, [f"{server} {mailbox} {numbers}"])


def with_ttl(records: Iterable[RRset], ttl: int) -> list[RRset]:
    """Copies that live no longer than ``ttl`` seconds."""
    return [dns.rrset.from_rdata_list(record.name, min(record.ttl, ttl), list(record)) for record in records]
