"""`forward`: queries go to other name servers, over UDP and, when an answer was cut, over TCP.

In: queries; addresses, or a resolv.conf. Out: their answers; SERVFAIL when none of them answers.
"""

from __future__ import annotations

import random
import time
from ipaddress import ip_address
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message

from kubelab.dns.corefile import Directive
from kubelab.dns.plugin import Context, Plugin, ServerFailure, Zones, number, seconds, unknown, words
from kubelab.dns.plugins.operations import metrics_of
from kubelab.dns.wire import OWN_SIZE, Query, Response

ATTEMPT = 2.0
"""Seconds until the next server is asked."""
DEADLINE = 5.0
REST = 1.0
"""Seconds for which a server that did not answer is asked last."""


class Forward(Plugin):
    """Asks one server after the other, in the order of the policy."""

    name = "forward"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        if len(directive.arguments) < 2:
            raise directive.error("write forward ZONE ADDRESS-OR-FILE...")
        self._zones = Zones.of(directive, directive.arguments[:1], context)
        self._servers = [place for word in directive.arguments[1:] for place in self._places(word)]
        self._policy, self._tcp, self._most = "random", False, 0
        self._except = Zones(())
        self._resting: dict[tuple[str, int], float] = {}
        self._under_way = 0
        for line in directive.block:
            self._property(line)
        counted = any(key.startswith("metrics ") for key in context.shared)
        self._metrics = metrics_of(context) if counted else None

    def _places(self, word: str) -> list[tuple[str, int]]:
        scheme, separator, rest = word.rpartition("://")
        if separator and scheme != "dns":
            raise self.directive.error(f"{word}: only dns:// is forwarded to here")
        if rest.startswith("/"):
            try:
                lines = [line.split() for line in Path(rest).read_text().splitlines()]
            except OSError as error:
                raise self.directive.error(f"{rest}: {error.strerror}") from error
            found = [line[1].partition("%")[0] for line in lines if len(line) > 1 and line[0] == "nameserver"]
            if not found:
                raise self.directive.error(f"{rest}: names no nameserver")
            return [(address, 53) for address in found]
        address, port = rest.strip("[]"), "53"
        if rest.count(":") == 1 or "]:" in rest:
            address, _, port = rest.rpartition(":")
            address = address.strip("[]")
        try:
            return [(str(ip_address(address)), number(self.directive, port, 1, 65535))]
        except ValueError:
            raise self.directive.error(f"not an IP address or file: {word!r}") from None

    def _property(self, line: Directive) -> None:
        directive = self.directive
        match line.name:
            case "except":
                self._except = Zones.of(directive, line.arguments, self.context)
            case "policy":
                (self._policy,) = words(directive, line, 1)
                if self._policy not in ("random", "round_robin", "sequential"):
                    raise directive.error(f"unknown policy {self._policy!r}: random, round_robin or sequential")
            case "force_tcp":
                self._tcp = True
            case "prefer_udp":
                self._tcp = False
            case "max_concurrent":
                self._most = number(directive, words(directive, line, 1)[0], 0, 10**6)
            case "expire":
                seconds(directive, words(directive, line, 1)[0])
            case "health_check" | "max_fails" | "next" | "failfast_all_unhealthy_upstreams":
                pass  # accepted: here a server that does not answer rests a second
            case _:
                raise unknown(directive, line)

    async def serve(self, query: Query) -> Response:
        if self._zones.match(query.name) is None or self._except.match(query.name) is not None:
            return await self.onward(query)
        if self._most and self._under_way >= self._most:
            raise ServerFailure(f"concurrent queries exceeded maximum {self._most}")
        self._under_way += 1
        try:
            return await self._ask(query)
        finally:
            self._under_way -= 1

    async def _ask(self, query: Query) -> Response:
        message = dns.message.make_query(query.name, query.type, query.klass, use_edns=0, payload=OWN_SIZE)
        if query.message.edns >= 0 and query.message.ednsflags & dns.flags.DO:
            message.want_dnssec()
        if query.message.flags & dns.flags.CD:
            message.flags |= dns.flags.CD
        problem: Exception = ServerFailure("no server to forward to")
        end = time.monotonic() + DEADLINE
        for server in self._order():
            began = time.monotonic()
            try:
                answer = await self._exchange(message, server, query, min(ATTEMPT, end - began))
            except (TimeoutError, OSError, EOFError, dns.exception.DNSException) as error:
                # dnspython says how long it waited; who did not answer is worth more
                problem = ServerFailure(f"{server[0]}:{server[1]}: {error or type(error).__name__}")
                self._resting[server] = time.monotonic() + REST
                if time.monotonic() >= end:
                    break
                continue
            self._resting.pop(server, None)
            if self._metrics is not None:
                self._metrics.forwarded(f"{server[0]}:{server[1]}", answer.rcode(), time.monotonic() - began)
            recursion = bool(answer.flags & dns.flags.RA)
            return Response(answer.rcode(), answer.answer, answer.authority, answer.additional, False, recursion)
        raise problem

    async def _exchange(
        self, message: dns.message.Message, server: tuple[str, int], query: Query, timeout: float
    ) -> dns.message.Message:
        """One server's answer. Raises OSError, EOFError, DNSException, TimeoutError."""
        address, port = server
        if self._tcp or query.protocol == "tcp":
            return await dns.asyncquery.tcp(message, address, timeout, port)
        answer, _ = await dns.asyncquery.udp_with_fallback(message, address, timeout, port, ignore_unexpected=True)
        return answer

    def _order(self) -> list[tuple[str, int]]:
        servers = list(self._servers)
        if self._policy == "random":
            random.shuffle(servers)
        elif self._policy == "round_robin":
            self._servers.append(self._servers.pop(0))
        now = time.monotonic()
        return sorted(servers, key=lambda server: self._resting.get(server, 0) > now)
