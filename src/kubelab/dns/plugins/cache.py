"""`cache`: answers are kept for as long as they live, and no longer than the directive says.

In: queries. Out: earlier answers with the time that is left to them; with `serve_stale` also those whose time is over,
with `prefetch` popular ones that are fetched before it is.
"""

from __future__ import annotations

import asyncio
import time
from typing import get_args

import dns.name
from dns.rcode import Rcode

from kubelab.dns.corefile import Directive
from kubelab.dns.plugin import Context, Plugin, ServerFailure, Zones, number, seconds, unknown, words
from kubelab.dns.plugins.cached import Entry, Key, Kind, Prefetch, Table, kind_of, lifetimes, with_time
from kubelab.dns.plugins.operations import metrics_of
from kubelab.dns.wire import Query, Response

MOST: dict[Kind, int] = {"success": 3600, "denial": 1800}
LEAST = 5
FAILURE = 5
"""Seconds for which an upstream's SERVFAIL is kept."""
LONGEST_FAILURE = 300
STALE = 3600.0


class Cache(Plugin):
    """Two tables: what exists and what does not."""

    name = "cache"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        arguments = list(directive.arguments)
        self._most, self._least = dict(MOST), dict.fromkeys(MOST, LEAST)
        self._tables = {kind: Table() for kind in MOST}
        if arguments and arguments[0].isdecimal():
            ttl = number(directive, arguments.pop(0), 1, 2**31)
            self._most = {kind: min(ttl, most) for kind, most in MOST.items()}
        self._zones = Zones.of(directive, arguments, context)
        self._disabled: dict[Kind, Zones] = {}
        self._failure, self._stale, self._verify, self._keep = FAILURE, 0.0, False, False
        self._prefetch = Prefetch()
        for line in directive.block:
            self._property(line)
        counted = any(key.startswith("metrics ") for key in context.shared)
        self._metrics = metrics_of(context) if counted else None
        self._fetching: dict[Key, asyncio.Task[None]] = {}

    def _property(self, line: Directive) -> None:
        directive = self.directive
        match line.name:
            case "success" | "denial":
                capacity, *ttls = (number(directive, word, 0, 2**31) for word in words(directive, line, 1, 3))
                self._tables[line.name].capacity = capacity
                self._most[line.name], self._least[line.name] = (*ttls, *(self._most[line.name], LEAST)[len(ttls) :])
            case "disable":
                kind, *zones = line.arguments or ("",)
                for known in get_args(Kind):
                    if kind == known:
                        self._disabled[known] = Zones.of(directive, zones, self.context)
                        return
                raise directive.error("disable: write success or denial, then zones")
            case "servfail":
                self._failure = int(seconds(directive, words(directive, line, 1)[0]))
                if self._failure > LONGEST_FAILURE:
                    raise directive.error("servfail: caching SERVFAIL responses over 5 minutes is not permitted")
            case "serve_stale":
                given, mode = (*words(directive, line, 0, 2), *("1h", "immediate")[len(line.arguments) :])
                self._stale = seconds(directive, given)
                if mode not in ("immediate", "verify"):
                    raise directive.error(f"invalid value for serve_stale refresh mode: {mode}: immediate or verify")
                self._verify = mode == "verify"
            case "prefetch":
                self._prefetch = _prefetch(directive, line)
            case "keepttl":
                words(directive, line, 0)
                self._keep = True
            case _:
                raise unknown(directive, line)

    async def stop(self) -> None:
        for task in self._fetching.values():
            task.cancel()

    async def serve(self, query: Query) -> Response:
        zone = self._zones.match(query.name)
        if zone is None:
            return await self.onward(query)
        key, now = (query.name, int(query.type), int(query.klass)), time.monotonic()
        for kind, table in self._tables.items():
            if (entry := table.find(key, now, self._stale)) is not None:
                self._count(zone, kind)
                return await self._kept(entry, key, query, now)
        self._count(zone, None)
        return await self._fetch(key, query)

    async def _kept(self, entry: Entry, key: Key, query: Query, now: float) -> Response:
        left = entry.left(now)
        if left <= 0 and self._verify:
            try:
                fresh = await self._fetch(key, query, failures=False)
            except (ServerFailure, OSError):
                fresh = Response(Rcode.SERVFAIL)
            if kind_of(fresh) is not None and fresh.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN):
                return fresh
        elif left <= 0 or self._prefetch.due(entry, now):
            self._fetch_aside(key, query)
        return with_time(entry.response, query, entry.ttl if self._keep else max(0, int(left)))

    def _fetch_aside(self, key: Key, query: Query) -> None:
        async def fetch() -> None:
            try:
                await self._fetch(key, query, failures=False)
            except (ServerFailure, OSError):
                pass  # what is kept stays for as long as it may
            finally:
                del self._fetching[key]

        if key not in self._fetching:
            self._fetching[key] = asyncio.ensure_future(fetch())

    async def _fetch(self, key: Key, query: Query, *, failures: bool = True) -> Response:
        """What the rest of the chain says, kept if it may be; with the time for which it is kept."""
        response, now = await self.onward(query), time.monotonic()
        kind = kind_of(response)
        if kind is None or ((off := self._disabled.get(kind)) is not None and off.match(key[0]) is not None):
            return response
        failed = response.rcode in (Rcode.SERVFAIL, Rcode.NOTIMP)
        if failed and not (failures and self._failure):
            return response
        ttl = self._failure if failed else max(self._least[kind], min(self._most[kind], *lifetimes(response)))
        for other, table in self._tables.items():
            if other != kind:
                table.forget(key)
        self._tables[kind].store(key, Entry(response, now, ttl))
        if self._metrics is not None:
            self._metrics.entries(str(self._zones.names[-1]), kind, len(self._tables[kind]))
        return with_time(response, query, ttl)

    def _count(self, zone: dns.name.Name, kind: Kind | None) -> None:
        if self._metrics is not None:
            self._metrics.cached(str(zone), kind)


def _prefetch(directive: Directive, line: Directive) -> Prefetch:
    """`AMOUNT [DURATION] [PERCENTAGE%]`. Raises CorefileError."""
    amount, *rest = words(directive, line, 1, 3)
    found = Prefetch(number(directive, amount, 0, 2**31))
    for word in rest:
        if word.endswith("%"):
            found.percentage = number(directive, word[:-1], 10, 90)
        else:
            found.pause = seconds(directive, word)
    return found
