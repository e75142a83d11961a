"""Server blocks at work: which plugins there are, in which order they stand, and how a query goes through them.

In: a parsed Corefile. Out: chains that start, answer, stop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any as Anything

import dns.exception
import dns.name
from dns.rcode import Rcode

from kubelab.dns.corefile import CorefileError, Directive, ServerBlock
from kubelab.dns.plugin import Context, Plugin, ServerFailure
from kubelab.dns.plugins.answers import Any, Hosts, LoadBalance, Local, Template, Whoami
from kubelab.dns.plugins.cache import Cache
from kubelab.dns.plugins.forward import Forward
from kubelab.dns.plugins.kubernetes import Kubernetes
from kubelab.dns.plugins.operations import Bind, Errors, Health, Log, Loop, Prometheus, Ready, Reload
from kubelab.dns.plugins.rewrite import Rewrite
from kubelab.dns.wire import Query, Response, encode

PLUGINS: tuple[type[Plugin], ...] = (
    Reload, Bind, Ready, Health, Prometheus, Errors, Log, Local, Any, LoadBalance, Cache, Rewrite, Template, Hosts,
    Kubernetes, Loop, Forward, Whoami,
)  # fmt: skip
"""In the order of CoreDNS's plugin.cfg: in which a Corefile names them does not matter."""
_KNOWN = {plugin.name: plugin for plugin in PLUGINS}


@dataclass(frozen=True, slots=True)
class Chain:
    """One server block: its zones and its plugins, first to last."""

    zones: tuple[tuple[dns.name.Name, int], ...]
    plugins: tuple[Plugin, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        found = next((plugin for plugin in self.plugins if isinstance(plugin, Bind)), None)
        return ("::", "0.0.0.0") if found is None else found.addresses

    @property
    def recursive(self) -> bool:
        """Whether other names are asked about elsewhere. CoreDNS leaves RA to its upstreams; nslookup complains."""
        return any(isinstance(plugin, Forward) for plugin in self.plugins)

    async def ask(self, query: Query) -> Response:
        """Raises ServerFailure and what plugins stumble over."""
        if not self.plugins:
            raise ServerFailure("no plugin in this server block")
        return await self.plugins[0].serve(query)

    async def answer(self, zone: dns.name.Name, query: Query) -> bytes:
        """The answer on the wire, and everybody who counts and writes is told."""
        began = time.perf_counter()
        try:
            response = await self.ask(query)
            response.recursion_available |= self.recursive
            data = encode(query, response)
        except (ServerFailure, OSError, ValueError, dns.exception.DNSException) as error:
            for plugin in self.plugins:
                plugin.failed(query, error)
            response = Response(Rcode.SERVFAIL)
            data = encode(query, response)
        spent = time.perf_counter() - began
        for plugin in self.plugins:
            plugin.observe(zone, query, response, len(data), spent)
        return data


class Configuration:
    """All chains of one Corefile."""

    def __init__(self, blocks: Sequence[ServerBlock], path: Path) -> None:
        """Raises CorefileError."""
        try:
            self._build(blocks, path)
        except CorefileError as error:
            raise CorefileError(error.line, error.text, str(path)) from None

    def _build(self, blocks: Sequence[ServerBlock], path: Path) -> None:
        self.shared: dict[str, Anything] = {}
        plugins: list[Plugin] = []
        self.shared["plugins"] = plugins
        self.chains: list[Chain] = []
        for block in blocks:
            context = Context(tuple(zone for zone, _ in block.zones), path, self.resolve, self.shared)
            chain = Chain(block.zones, _plugins(block, context))
            plugins += chain.plugins
            self.chains.append(chain)
        self._refuse_doubles(blocks)

    @property
    def plugins(self) -> list[Plugin]:
        return [plugin for chain in self.chains for plugin in chain.plugins]

    @property
    def ports(self) -> dict[tuple[str, int], int]:
        """(address, port) on which to listen -> the port that zones are looked up by."""
        return {
            (address, port): port for chain in self.chains for _, port in chain.zones for address in chain.addresses
        }

    async def start(self) -> None:
        """Raises CorefileError, BindError; what was started is stopped then."""
        started: list[Plugin] = []
        try:
            for plugin in self.plugins:
                await plugin.start()
                started.append(plugin)
        except BaseException:
            for plugin in started:
                await plugin.stop()
            raise

    async def stop(self) -> None:
        for plugin in self.plugins:
            await plugin.stop()

    def find(self, name: dns.name.Name, port: int) -> tuple[Chain, dns.name.Name] | None:
        """The block with the longest zone that holds the name."""
        found = [
            (zone, chain)
            for chain in self.chains
            for zone, where in chain.zones
            if where == port and name.is_subdomain(zone)
        ]
        if not found:
            return None
        zone, chain = max(found, key=lambda entry: len(entry[0].labels))
        return chain, zone

    async def resolve(self, query: Query) -> Response:
        """A plugin's own question, to whoever is responsible. Raises ServerFailure."""
        for port in dict.fromkeys(port for chain in self.chains for _, port in chain.zones):
            if (found := self.find(query.name, port)) is not None:
                return await found[0].ask(query)
        raise ServerFailure(f"{query.name}: no server block has this zone")

    def _refuse_doubles(self, blocks: Sequence[ServerBlock]) -> None:
        seen: dict[tuple[dns.name.Name, int], int] = {}
        for block in blocks:
            for zone, port in block.zones:
                if (zone, port) in seen:
                    raise CorefileError(
                        block.line,
                        f"cannot serve dns://{zone}:{port} - it is already defined in line {seen[zone, port]}",
                    )
                seen[zone, port] = block.line


def _plugins(block: ServerBlock, context: Context) -> tuple[Plugin, ...]:
    """Raises CorefileError."""
    found: dict[type[Plugin], list[Directive]] = {}
    for directive in block.directives:
        kind = _KNOWN.get(directive.name)
        if kind is None:
            known = ", ".join(sorted(_KNOWN))
            raise CorefileError(directive.line, f"Unknown directive '{directive.name}': there are {known}")
        if kind in found and kind not in (Template, Forward, Rewrite):
            raise directive.error("this plugin can only be used once per Server Block")
        found.setdefault(kind, []).append(directive)
    made = [kind(directive, context) for kind in PLUGINS for directive in found.get(kind, ())]
    for one, following in pairwise(made):
        one.next = following
    return tuple(made)
