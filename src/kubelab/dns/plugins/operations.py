"""Plugins by which a name server is run: bind, errors, health, log, loop, prometheus, ready, reload.

In: queries that pass, what others are ready for. Out: pages for probes and scrapes, lines of a log.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from typing import TYPE_CHECKING, ClassVar

import dns.flags
import dns.message
import dns.name
import dns.rcode
from dns.rdatatype import RdataType

from kubelab.dns import http
from kubelab.dns.corefile import Directive
from kubelab.dns.http import Page
from kubelab.dns.plugin import Context, Plugin, ServerFailure, seconds, unknown, words
from kubelab.dns.wire import Query, Response

if TYPE_CHECKING:
    from kubelab.dns.metrics import Metrics

LOOP_LIMIT = 2
"""So often the own probe may be seen: once by itself, once more by a retry."""


class Bind(Plugin):
    """On which addresses the block's zones are served; without it on all."""

    name = "bind"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        if not directive.arguments or directive.block:
            raise directive.error("write bind ADDRESS...")
        self.addresses = directive.arguments


class Errors(Plugin):
    """Says on the log why a query had no answer; what `consolidate` matches, not every time."""

    name = "errors"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        self._patterns: list[tuple[float, re.Pattern[str]]] = []
        self._next: dict[int, float] = {}
        for line in directive.block:
            if line.name == "consolidate":
                duration, pattern = words(directive, line, 2, 3)[:2]
                self._patterns.append((seconds(directive, duration), re.compile(pattern)))
            elif line.name != "stacktrace":
                raise unknown(directive, line)

    def failed(self, query: Query, error: Exception) -> None:
        text = f"{query.name} {RdataType.to_text(query.type)}: {error}"
        now = time.monotonic()
        for index, (period, pattern) in enumerate(self._patterns):
            if pattern.search(str(error)):
                if now < self._next.get(index, 0):
                    return
                self._next[index] = now + period
        print(f"[ERROR] plugin/errors: 2 {text}", flush=True)


class Log(Plugin):
    """One line per query in CoreDNS's common format; `class` chooses: all, success, denial, error."""

    name = "log"
    _CLASSES: ClassVar = {"all", "success", "denial", "error"}

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        self._classes: set[str] = set()
        for line in directive.block:
            if line.name != "class":
                raise unknown(directive, line)
            self._classes |= set(line.arguments)
        if wrong := self._classes - self._CLASSES:
            raise directive.error(f"class {min(wrong)!r}: write one of {', '.join(sorted(self._CLASSES))}")

    def observe(self, zone: dns.name.Name, query: Query, response: Response, size: int, seconds: float) -> None:
        if self._classes - {"all"} and self._class(response) not in self._classes:
            return
        flags = ["qr"]
        flags += ["aa"] if response.authoritative else []
        flags += ["rd"] if query.message.flags & dns.flags.RD else []
        flags += ["ra"] if response.recursion_available else []
        wanted = query.message.payload if query.message.edns >= 0 else 512
        secure = "true" if query.message.ednsflags & dns.flags.DO else "false"
        question = f"{RdataType.to_text(query.type)} {query.klass.name} {query.name} {query.protocol}"
        print(
            f'[INFO] {query.peer}:{query.port} - {query.message.id} "{question} {query.size} {secure} {wanted}" '
            f"{dns.rcode.to_text(response.rcode)} {','.join(flags)} {size} {seconds:.9f}s",
            flush=True,
        )

    @staticmethod
    def _class(response: Response) -> str:
        if response.rcode == dns.rcode.Rcode.NXDOMAIN or (
            response.rcode == dns.rcode.Rcode.NOERROR and not response.answer
        ):
            return "denial"
        return "success" if response.rcode == dns.rcode.Rcode.NOERROR else "error"


class Health(Plugin):
    """`/health` on port 8080: the process lives. `lameduck`: how long it goes on serving when told to end."""

    name = "health"
    _default = ":8080"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        self._address = (*words(directive, directive, 0, 1), self._default)[0]
        self._lame = 0.0
        self._servers: list[asyncio.Server] = []
        for line in directive.block:
            if line.name != "lameduck":
                raise unknown(directive, line)
            self._lame = seconds(directive, words(directive, line, 1)[0])

    async def start(self) -> None:
        self._servers = await http.serve(self._address, {"/health": lambda: Page(200, "OK")})

    async def stop(self) -> None:
        await http.close(self._servers)

    async def lame(self) -> None:
        await asyncio.sleep(self._lame)


class Ready(Plugin):
    """`/ready` on port 8181: every plugin of every block is ready. One page serves all blocks that name the port."""

    name = "ready"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        address = (*words(directive, directive, 0, 1), ":8181")[0]
        self._servers: list[asyncio.Server] = []
        self._address = address if context.shared.setdefault(f"ready {address}", self) is self else None

    async def start(self) -> None:
        if self._address is not None:
            self._servers = await http.serve(self._address, {"/ready": self.page})

    async def stop(self) -> None:
        await http.close(self._servers)

    def page(self) -> Page:
        plugins = self.context.shared["plugins"]
        assert isinstance(plugins, list)
        late = [plugin.name for plugin in plugins if not plugin.ready()]
        return Page(503, ",".join(sorted(set(late)))) if late else Page(200, "OK")


class Prometheus(Plugin):
    """`/metrics` on port 9153, with the names that dashboards know."""

    name = "prometheus"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        address = (*words(directive, directive, 0, 1), "localhost:9153")[0]
        self._address = address if context.shared.setdefault(f"metrics {address}", self) is self else None
        self._servers: list[asyncio.Server] = []
        self._metrics = metrics_of(context)

    async def start(self) -> None:
        if self._address is not None:
            page = self._metrics.page
            self._servers = await http.serve(self._address, {"/metrics": page})

    async def stop(self) -> None:
        await http.close(self._servers)

    def observe(self, zone: dns.name.Name, query: Query, response: Response, size: int, seconds: float) -> None:
        self._metrics.answered(str(zone), query, response, size, seconds)


def metrics_of(context: Context) -> Metrics:
    """The process's counters. The library is loaded by those who count."""
    from kubelab.dns.metrics import Metrics

    found = context.shared.setdefault("metrics", Metrics.shared())
    assert isinstance(found, Metrics)
    return found


class Reload(Plugin):
    """How often the Corefile is looked at; the server does it (`kubelab.dns.server`)."""

    name = "reload"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        given = [seconds(directive, text) for text in words(directive, directive, 0, 2)]
        interval, jitter = (*given, 30.0, 15.0)[:2] if len(given) != 1 else (given[0], given[0] / 2)
        if interval < 2:
            raise directive.error("interval value must be greater or equal to 2s")
        context.shared["reload"] = (interval, min(jitter, interval / 2))


class Loop(Plugin):
    """Finds out whether forwarded queries come back here: the process ends then, as nothing else would help."""

    name = "loop"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        zone = context.zones[0]
        label = f"{random.randrange(2**32)}.{random.randrange(2**32)}"
        self._probe = dns.name.from_text(label, zone)
        self._seen = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.ensure_future(self._ask())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _ask(self) -> None:
        message = dns.message.make_query(self._probe, RdataType.HINFO)
        query = Query(message, self._probe, RdataType.HINFO, message.question[0].rdclass)
        with contextlib.suppress(ServerFailure, OSError):
            await self.serve(query)

    async def serve(self, query: Query) -> Response:
        if query.type == RdataType.HINFO and query.name == self._probe:
            self._seen += 1
            if self._seen > LOOP_LIMIT:
                raise SystemExit(
                    f"[FATAL] plugin/loop: Loop ({query.peer}:{query.port} -> here) detected for zone "
                    f'"{self.context.zones[0]}": what forward names sends queries back'
                )
        return await self.onward(query)
