"""Answers that are kept, for how long, and how often they are asked for.

In: answers with the time at which they came. Out: the same with the time that is left to them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import dns.name
import dns.rrset
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from kubelab.dns import records
from kubelab.dns.wire import Query, Response

Kind = Literal["success", "denial"]
Key = tuple[dns.name.Name, int, int]


@dataclass(slots=True)
class Entry:
    """One answer. `asked` counts the questions that came without a longer pause than `Prefetch.pause`."""

    response: Response
    stored: float
    ttl: int
    asked: int = 0
    last: float = 0.0

    def left(self, now: float) -> float:
        """Seconds that it still lives; negative: since when it is stale."""
        return self.stored + self.ttl - now


@dataclass(slots=True)
class Prefetch:
    """Popular answers are fetched anew before they end: those asked for so often, in their last percent of time."""

    amount: int = 0
    pause: float = 60.0
    percentage: int = 10

    def due(self, entry: Entry, now: float) -> bool:
        if not self.amount:
            return False
        entry.asked = entry.asked + 1 if now - entry.last <= self.pause else 1
        entry.last = now
        return entry.asked >= self.amount and entry.left(now) <= -(-self.percentage * entry.ttl // 100)


class Table:
    """The newest so many answers of a kind."""

    def __init__(self) -> None:
        self.capacity = 9984
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key, now: float, stale: float) -> Entry | None:
        """What is kept and not dead for more than `stale` seconds; what is, goes."""
        entry = self._entries.get(key)
        if entry is not None and entry.left(now) <= -stale:
            del self._entries[key]
            return None
        return entry

    def store(self, key: Key, entry: Entry) -> None:
        self._entries[key] = entry
        while len(self._entries) > self.capacity:
            self._entries.popitem(last=False)

    def forget(self, key: Key) -> None:
        self._entries.pop(key, None)


def kind_of(response: Response) -> Kind | None:
    """In which table an answer belongs; None: it is not kept."""
    if response.rcode == Rcode.NOERROR and response.answer:
        return "success"
    if response.rcode in (Rcode.SERVFAIL, Rcode.NOTIMP):
        return "denial"
    denied = response.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN)
    return "denial" if denied and any(found.rdtype == RdataType.SOA for found in response.authority) else None


def lifetimes(response: Response) -> list[int]:
    """What the records of an answer say."""
    found = [record.ttl for section in (response.answer, response.authority) for record in section]
    if kind_of(response) == "denial":
        found += [record[0].minimum for record in response.authority if record.rdtype == RdataType.SOA]
    return found


def with_time(response: Response, query: Query, left: int) -> Response:
    """A copy that lives no longer than `left` seconds, in the asker's case."""

    def aged(section: Iterable[dns.rrset.RRset]) -> list[dns.rrset.RRset]:
        return records.with_ttl(section, left)

    answer = aged(response.answer)
    for record in answer:
        if record.name == query.name:
            record.name = query.name
    return Response(
        response.rcode,
        answer,
        aged(response.authority),
        aged(response.additional),
        response.authoritative,
        response.recursion_available,
    )
