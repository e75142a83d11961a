"""Plugins that answer or change answers by themselves: any, hosts, loadbalance, local, template, whoami.

In: queries and what their directives say. Out: answers.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

import dns.exception
import dns.name
import dns.rcode
import dns.rdata
import dns.reversename
import dns.rrset
from dns.rcode import Rcode
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from kubelab.dns import records
from kubelab.dns.corefile import CorefileError, Directive
from kubelab.dns.plugin import Context, Fallthrough, Plugin, ServerFailure, Zones, number, unknown, words
from kubelab.dns.wire import Query, Response, reverse_address

LOCALHOST = dns.name.from_text("localhost.")
LOCAL_TTL = 604800


class Any(Plugin):
    """Answers a query for ANY as little as allowed (RFC 8482)."""

    name = "any"

    async def serve(self, query: Query) -> Response:
        if query.type != RdataType.ANY:
            return await self.onward(query)
        return Response(answer=[records.rrset(query.name, 8482, RdataType.HINFO, ['"ANY obsoleted" "See RFC 8482"'])])


class Hosts(Plugin):
    """A hosts file, or lines of one in braces; the file is read again when it changed."""

    name = "hosts"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        file, *zones = directive.arguments or ("/etc/hosts",)
        self._file = context.path.parent / file
        self._zones = Zones.of(directive, zones, context)
        self._ttl, self._reverse, self._fallthrough = 3600, True, Fallthrough()
        self._inline: list[tuple[str, ...]] = []
        self._stamp = -1
        for line in directive.block:
            match line.name:
                case "fallthrough":
                    self._fallthrough = Fallthrough.of(directive, line)
                case "ttl":
                    self._ttl = number(directive, words(directive, line, 1)[0], 1, 65535)
                case "no_reverse":
                    self._reverse = False
                case "reload":
                    words(directive, line, 1)
                case _:
                    self._inline.append((line.name, *line.arguments))
        self._names: dict[dns.name.Name, list[str]] = {}
        self._addresses: dict[str, list[dns.name.Name]] = {}
        try:
            self._read(self._inline)
        except ValueError as error:
            raise directive.error(str(error)) from error

    async def serve(self, query: Query) -> Response:
        zone = self._zones.match(query.name)
        self._refresh()
        if query.type == RdataType.PTR and self._reverse and (address := reverse_address(query.name)) is not None:
            names = self._addresses.get(str(ip_address(address)), [])
            if names:
                answer = [records.rrset(query.name, self._ttl, RdataType.PTR, map(str, names))]
                return Response(answer=answer, authoritative=True)
        values = self._names.get(query.name) if zone is not None else None
        if values is None:
            if zone is None or self._fallthrough.through(query.name) or self.next is not None:
                return await self.onward(query)
            return Response(Rcode.NXDOMAIN, authoritative=True)
        return Response(answer=records.addresses(query.name, self._ttl, query.type, values), authoritative=True)

    def _refresh(self) -> None:
        try:
            stamp = self._file.stat().st_mtime_ns
            if stamp != self._stamp:
                self._stamp = stamp
                lines = [line.partition("#")[0].split() for line in self._file.read_text().splitlines()]
                self._names, self._addresses = {}, {}
                self._read([tuple(line) for line in lines], strict=False)
                self._read(self._inline)
        except OSError:
            return

    def _read(self, lines: list[tuple[str, ...]], *, strict: bool = True) -> None:
        """Raises ValueError for a line that does not begin with an address."""
        for address, *names in filter(None, lines):
            try:
                value = str(ip_address(address))
            except ValueError:
                if strict:
                    raise
                continue
            for name in names:
                full = dns.name.from_text(name)
                self._names.setdefault(full, []).append(value)
                self._addresses.setdefault(value, []).append(full)


class LoadBalance(Plugin):
    """Addresses in random order, so that those who take the first one spread: dnspython writes every set that way."""

    name = "loadbalance"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        if words(directive, directive, 0, 1) not in ((), ("round_robin",)):
            raise directive.error(f"unknown policy {directive.arguments[0]!r}: there is round_robin")


class Local(Plugin):
    """localhost and the reverse names of loopback, which no upstream should be asked about (RFC 6303)."""

    name = "local"
    _EMPTY = tuple(map(dns.name.from_text, ("0.in-addr.arpa.", "255.in-addr.arpa.")))
    _LOOPBACK = dns.name.from_text("127.in-addr.arpa.")

    async def serve(self, query: Query) -> Response:
        name = query.name
        if name == LOCALHOST or (len(name.labels) > 2 and name.labels[0].lower() == b"localhost"):
            answer = records.addresses(name, LOCAL_TTL, query.type, ("127.0.0.1", "::1"))
            return Response(answer=answer, authority=[] if answer else [_local_soa(name)], authoritative=True)
        if name == dns.name.from_text("1.0.0.127.in-addr.arpa.") and query.type == RdataType.PTR:
            answer = [records.rrset(name, LOCAL_TTL, RdataType.PTR, ["localhost."])]
            return Response(answer=answer, authoritative=True)
        for zone in (*self._EMPTY, self._LOOPBACK):
            if name.is_subdomain(zone):
                rcode = Rcode.NOERROR if name == zone else Rcode.NXDOMAIN
                return Response(rcode, authority=[_local_soa(zone)], authoritative=True)
        return await self.onward(query)


def _local_soa(zone: dns.name.Name) -> records.RRset:
    return records.rrset(zone, LOCAL_TTL, RdataType.SOA, ["localhost. root.localhost. 1 0 0 0 0"])


class Template(Plugin):
    """Answers made from the query by patterns: `template IN A example.org { match … answer … }`."""

    name = "template"
    _HOLE = re.compile(r"\{\{\s*(.*?)\s*\}\}")

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        if len(directive.arguments) < 2:
            raise directive.error("write template CLASS TYPE [ZONE...]")
        klass, kind, *zones = directive.arguments
        try:
            self._class = None if klass.upper() == "ANY" else RdataClass.from_text(klass)
            self._type = None if kind.upper() == "ANY" else RdataType.from_text(kind)
        except dns.exception.DNSException as error:
            raise directive.error(f"{klass} {kind}: {error}") from error
        self._zones = Zones.of(directive, zones, context)
        self._matches: list[re.Pattern[str]] = []
        self._sections: dict[str, list[str]] = {"answer": [], "additional": [], "authority": []}
        self._rcode, self._fallthrough = Rcode.NOERROR, Fallthrough()
        for line in directive.block:
            self._property(line)
        self._matches = self._matches or [re.compile("")]

    def _property(self, line: Directive) -> None:
        try:
            if line.name == "match":
                self._matches += [re.compile(pattern) for pattern in line.arguments]
            elif line.name in self._sections:
                self._sections[line.name] += line.arguments
                for text in line.arguments:
                    self._filled(text, {".Name": "a.", ".Class": "IN", ".Type": "A", ".Zone": "."}, None)
            elif line.name == "rcode":
                self._rcode = dns.rcode.from_text(words(self.directive, line, 1)[0])
            elif line.name == "fallthrough":
                self._fallthrough = Fallthrough.of(self.directive, line)
            else:
                raise unknown(self.directive, line)
        except CorefileError:
            raise
        except (re.error, dns.exception.DNSException, ServerFailure) as error:
            raise line.error(str(error)) from error

    async def serve(self, query: Query) -> Response:
        zone = self._zones.match(query.name)
        suits = self._class in (None, query.klass) and self._type in (None, query.type)
        if zone is None or not suits:
            return await self.onward(query)
        name = str(query.name)
        found = next((match for pattern in self._matches if (match := pattern.search(name))), None)
        if found is None:
            if self._fallthrough.through(query.name):
                return await self.onward(query)
            return Response(Rcode.NXDOMAIN)
        values = {".Name": name, ".Class": query.klass.name, ".Type": query.type.name, ".Zone": str(zone)}

        def section(name: str) -> list[records.RRset]:
            return [_parsed(self._filled(text, values, found)) for text in self._sections[name]]

        return Response(self._rcode, section("answer"), section("authority"), section("additional"), True)

    def _filled(self, text: str, values: dict[str, str], found: re.Match[str] | None) -> str:
        """Raises ServerFailure for an expression that is not known."""

        def value(hole: re.Match[str]) -> str:
            expression = hole[1].replace(".Question.", ".")
            if expression in values:
                return values[expression]
            if group := re.fullmatch(r"\.Group\.(\w+)", expression):
                return "" if found is None else found.groupdict().get(group[1]) or ""
            if group := re.fullmatch(r"index \.(?:Match|Group) \"?(\w+)\"?", expression):
                key = int(group[1]) if group[1].isdecimal() else group[1]
                return "" if found is None else found[key] or ""
            raise ServerFailure(f"{hole[0]}: there are .Name, .Class, .Type, .Zone, .Group.NAME and index .Match N")

        return self._HOLE.sub(value, text)


def _parsed(text: str) -> records.RRset:
    """`NAME TTL CLASS TYPE DATA`. Raises ServerFailure."""
    try:
        name, ttl, klass, kind, data = text.split(None, 4)
        rdata = dns.rdata.from_text(RdataClass.from_text(klass), RdataType.from_text(kind), data)
        return dns.rrset.from_rdata_list(dns.name.from_text(name), int(ttl), [rdata])
    except (ValueError, dns.exception.DNSException) as error:
        raise ServerFailure(f"template: {text!r} is no record: {error}") from error


class Whoami(Plugin):
    """Tells the asker its own address and port."""

    name = "whoami"

    async def serve(self, query: Query) -> Response:
        address = ip_address(query.peer)
        kind = RdataType.A if address.version == 4 else RdataType.AAAA
        service = dns.name.from_text(f"_{query.protocol}.{query.name}") if len(query.name.labels) > 1 else query.name
        extra = [
            records.rrset(query.name, 0, kind, [str(address)]),
            records.rrset(service, 0, RdataType.SRV, [f"0 0 {query.port} ."]),
        ]
        return Response(additional=extra, authoritative=True)
