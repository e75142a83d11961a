"""`forward`: queries go to other name servers, over UDP and, when an answer was cut, over TCP.

In: queries; addresses, or a resolv.conf. Out: their answers; SERVFAIL when none of them answers.
"""

from __future__ import annotations

import random
import time
from ipaddress import ip_address
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
from dns.rcode import Rcode

from kubelab.dns.corefile import Directive
from kubelab.dns.plugin import Context, Plugin, ServerFailure, Zones, number, seconds, unknown, words
from kubelab.dns.plugins.operations import metrics_of
from kubelab.dns.plugins.upstream import FAILURES, HealthCheck, Upstream
from kubelab.dns.wire import OWN_SIZE, Query, Response

ATTEMPT = 2.0
"""Seconds until the next server is asked."""
DEADLINE = 5.0


class Forward(Plugin):
    """Asks one server after the other, in the order of the policy; those that are down are passed over."""

    name = "forward"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        if len(directive.arguments) < 2:
            raise directive.error("write forward ZONE ADDRESS-OR-FILE...")
        self._zones = Zones.of(directive, directive.arguments[:1], context)
        self._policy, self._tcp, self._most, self._fail_fast = "random", False, 0, False
        self._next: set[Rcode] = set()
        self._except = Zones(())
        self._check = HealthCheck()
        self._under_way = 0
        for line in directive.block:
            self._property(line)
        counted = any(key.startswith("metrics ") for key in context.shared)
        self._metrics = metrics_of(context) if counted else None
        places = [place for word in directive.arguments[1:] for place in self._places(word)]
        self._servers = [Upstream(address, port, self._check, self._probe_failed) for address, port in places]

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
                seconds(directive, words(directive, line, 1)[0])  # of connections that are kept; here none is
            case "max_fails":
                self._check.max_fails = number(directive, words(directive, line, 1)[0], 0, 2**31)
            case "health_check":
                self._health_check(line)
            case "next":
                self._next = {_rcode(directive, word) for word in words(directive, line, 1, 16)}
            case "failfast_all_unhealthy_upstreams":
                words(directive, line, 0)
                self._fail_fast = True
            case "tls" | "tls_servername":
                raise directive.error(f"{line.name}: only plain DNS is forwarded to here")
            case _:
                raise unknown(directive, line)

    def _health_check(self, line: Directive) -> None:
        """`DURATION [no_rec] [domain FQDN]`."""
        interval, *rest = words(self.directive, line, 1, 4)
        self._check.interval = seconds(self.directive, interval)
        while rest:
            match rest.pop(0):
                case "no_rec":
                    self._check.recursion = False
                case "domain" if rest:
                    try:
                        self._check.domain = dns.name.from_text(rest.pop(0))
                    except dns.exception.DNSException as error:
                        raise self.directive.error(f"health_check: invalid domain name: {error}") from error
                case word:
                    raise self.directive.error(f"health_check: unknown option {word!r}: no_rec, domain FQDN")

    async def stop(self) -> None:
        for server in self._servers:
            server.close()

    async def serve(self, query: Query) -> Response:
        if self._zones.match(query.name) is None or self._except.match(query.name) is not None:
            return await self.onward(query)
        if self._most and self._under_way >= self._most:
            raise ServerFailure(f"concurrent queries exceeded maximum {self._most}")
        self._under_way += 1
        try:
            response = await self._ask(query)
        finally:
            self._under_way -= 1
        return await self.onward(query) if response.rcode in self._next and self.next is not None else response

    async def _ask(self, query: Query) -> Response:
        message = dns.message.make_query(query.name, query.type, query.klass, use_edns=0, payload=OWN_SIZE)
        if query.message.edns >= 0 and query.message.ednsflags & dns.flags.DO:
            message.want_dnssec()
        if query.message.flags & dns.flags.CD:
            message.flags |= dns.flags.CD
        problem: Exception = ServerFailure("no healthy proxies")
        end = time.monotonic() + DEADLINE
        for server in self._order():
            began = time.monotonic()
            if began >= end:
                break
            tcp = self._tcp or query.protocol == "tcp"
            try:
                answer = await server.ask(message, tcp=tcp, timeout=min(ATTEMPT, end - began))
            except FAILURES as error:
                # dnspython says how long it waited; who did not answer is worth more
                problem = ServerFailure(f"{server}: {error or type(error).__name__}")
                server.suspect()
                continue
            if self._metrics is not None:
                self._metrics.forwarded(str(server), answer.rcode(), time.monotonic() - began)
            recursion = bool(answer.flags & dns.flags.RA)
            return Response(answer.rcode(), answer.answer, answer.authority, answer.additional, False, recursion)
        raise problem

    def _order(self) -> list[Upstream]:
        """Who is asked, one after the other. Where all are down, that may be an error of the probes: one is tried."""
        servers = list(self._servers)
        if self._policy == "random":
            random.shuffle(servers)
        elif self._policy == "round_robin":
            self._servers.append(self._servers.pop(0))
        healthy = [server for server in servers if not server.down]
        return healthy or ([] if self._fail_fast else [random.choice(servers)])

    def _probe_failed(self, server: str) -> None:
        if self._metrics is not None:
            self._metrics.probe_failed(server)


def _rcode(directive: Directive, word: str) -> Rcode:
    """Raises CorefileError."""
    try:
        return dns.rcode.from_text(word)
    except (dns.rcode.UnknownRcode, ValueError):
        raise directive.error(f"next: {word!r} is not a response code, like NXDOMAIN or SERVFAIL") from None
