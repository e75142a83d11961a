"""`cache`: answers are kept for as long as they live, and no longer than the directive says.

In: queries. Out: earlier answers with the time that is left to them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

import dns.name
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from kubelab.dns import records
from kubelab.dns.corefile import Directive
from kubelab.dns.plugin import Context, Plugin, Zones, number, unknown, words
from kubelab.dns.plugins.operations import metrics_of
from kubelab.dns.wire import Query, Response

CAPACITY = 9984
MOST = {"success": 3600, "denial": 1800}
LEAST = 5


@dataclass(slots=True)
class _Entry:
    response: Response
    stored: float
    ends: float


class Cache(Plugin):
    """Two tables: what exists and what does not."""

    name = "cache"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        arguments = list(directive.arguments)
        self._most, self._least = dict(MOST), dict.fromkeys(MOST, LEAST)
        self._capacity = dict.fromkeys(MOST, CAPACITY)
        if arguments and arguments[0].isdecimal():
            ttl = number(directive, arguments.pop(0), 1, 2**31)
            self._most = {kind: min(ttl, most) for kind, most in MOST.items()}
        self._zones = Zones.of(directive, arguments, context)
        self._disabled: dict[str, Zones] = {}
        for line in directive.block:
            self._property(line)
        self._tables: dict[str, OrderedDict[tuple[dns.name.Name, int, int], _Entry]] = {
            kind: OrderedDict() for kind in MOST
        }
        counted = any(key.startswith("metrics ") for key in context.shared)
        self._metrics = metrics_of(context) if counted else None

    def _property(self, line: Directive) -> None:
        directive = self.directive
        match line.name:
            case "success" | "denial":
                capacity, *ttls = (number(directive, word, 0, 2**31) for word in words(directive, line, 1, 3))
                self._capacity[line.name] = capacity
                self._most[line.name], self._least[line.name] = (*ttls, *(self._most[line.name], LEAST)[len(ttls) :])
            case "disable":
                kind, *zones = line.arguments or ("",)
                if kind not in MOST:
                    raise directive.error("disable: write success or denial, then zones")
                self._disabled[kind] = Zones.of(directive, zones, self.context)
            case "servfail" | "serve_stale" | "prefetch" | "keepttl":
                pass  # accepted: they change when upstreams are asked, not what is answered
            case _:
                raise unknown(directive, line)

    async def serve(self, query: Query) -> Response:
        zone = self._zones.match(query.name)
        if zone is None:
            return await self.onward(query)
        key, now = (query.name, int(query.type), int(query.klass)), time.monotonic()
        for kind, table in self._tables.items():
            if (entry := table.get(key)) is not None:
                if now < entry.ends:
                    self._count(zone, kind)
                    return self._aged(entry, query, now)
                del table[key]
        self._count(zone, None)
        response = await self.onward(query)
        self._store(key, response, now)
        return response

    def _store(self, key: tuple[dns.name.Name, int, int], response: Response, now: float) -> None:
        kind = kind_of(response)
        if kind is None or ((off := self._disabled.get(kind)) is not None and off.match(key[0]) is not None):
            return
        found = [record.ttl for section in (response.answer, response.authority) for record in section]
        if kind == "denial":
            found += [record[0].minimum for record in response.authority if record.rdtype == RdataType.SOA]
        ttl = max(self._least[kind], min(self._most[kind], *found) if found else self._least[kind])
        table = self._tables[kind]
        table[key] = _Entry(response, now, now + ttl)
        while len(table) > self._capacity[kind]:
            table.popitem(last=False)
        if self._metrics is not None:
            self._metrics.entries(str(self._zones.names[-1]), kind, len(table))

    def _aged(self, entry: _Entry, query: Query, now: float) -> Response:
        left, kept = max(0, int(entry.ends - now)), entry.response
        answer = records.with_ttl(kept.answer, left)
        for record in answer:
            if record.name == query.name:
                record.name = query.name  # in the asker's case
        authority, additional = records.with_ttl(kept.authority, left), records.with_ttl(kept.additional, left)
        return Response(kept.rcode, answer, authority, additional, kept.authoritative, kept.recursion_available)

    def _count(self, zone: dns.name.Name, kind: str | None) -> None:
        if self._metrics is not None:
            self._metrics.cached(str(zone), kind)


def kind_of(response: Response) -> str | None:
    """In which table an answer belongs; None: it is not kept."""
    if response.rcode == Rcode.NOERROR and response.answer:
        return "success"
    denied = response.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN)
    return "denial" if denied and any(found.rdtype == RdataType.SOA for found in response.authority) else None
