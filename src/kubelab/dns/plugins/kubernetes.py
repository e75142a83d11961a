"""`kubernetes`: names of Services, endpoints and pods.

In: what the API server has (`kubelab.dns.index`). Out: answers by the DNS specification of Kubernetes, version 1.1.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

import dns.exception
import dns.name
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from kubelab.dns import records
from kubelab.dns.corefile import Directive
from kubelab.dns.index import COLLECTIONS, Endpoint, Index, Object, Port, Service, undashed
from kubelab.dns.plugin import Context, Fallthrough, Plugin, ServerFailure, Zones, number, seconds, unknown, words
from kubelab.dns.watch import ApiServer, Follower
from kubelab.dns.wire import Query, Response, reverse_address

VERSION = "1.1.0"
TIMERS = (7200, 1800, 86400)
SYNC = 5.0
"""Seconds that the start waits for the API server; without it the server starts and says SERVFAIL."""
MAX_CHAIN = 8
_ADDRESSES = (RdataType.A, RdataType.AAAA)


class NoSuchNameError(Exception):
    """NXDOMAIN."""


class Kubernetes(Plugin):
    """Answers from an index that threads keep up to date."""

    name = "kubernetes"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        self._zones = Zones.of(directive, directive.arguments, context)
        self._primary = next((zone for zone in self._zones.names if not _is_reverse(zone)), dns.name.root)
        self._pods, self._pod_names, self._ttl = "disabled", False, 5
        self._namespaces: frozenset[str] | None = None
        self._fallthrough = Fallthrough()
        self._endpoint = ""
        self._startup = SYNC
        for line in directive.block:
            self._property(line)
        extra = ("pods",) if self._pods == "verified" else ()
        self.index = Index(("services", "endpointslices", "namespaces", *extra))
        self._followers: list[Follower] = []
        self._synced = asyncio.Event()

    def _property(self, line: Directive) -> None:
        directive = self.directive
        match line.name:
            case "pods":
                (self._pods,) = words(directive, line, 1)
                if self._pods not in ("disabled", "insecure", "verified"):
                    raise directive.error(f"wrong value for pods: {self._pods}: write disabled, insecure or verified")
            case "endpoint_pod_names":
                words(directive, line, 0)
                self._pod_names = True
            case "ttl":
                self._ttl = number(directive, words(directive, line, 1)[0], 0, 3600)
            case "fallthrough":
                self._fallthrough = Fallthrough.of(directive, line)
            case "namespaces":
                self._namespaces = frozenset(words(directive, line, 1, 1000))
            case "endpoint":
                (self._endpoint,) = words(directive, line, 1)
            case "startup_timeout":
                self._startup = seconds(directive, words(directive, line, 1)[0])
            case _:
                raise unknown(directive, line)

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Waits a moment for the API server; without it queries fail until it is there. Raises CorefileError."""
        server = self._server()
        loop = asyncio.get_running_loop()
        for collection in self.index.collections:
            self._followers.append(self._follower(loop, server, collection))
            self._followers[-1].start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._startup):
                await self._synced.wait()

    def _server(self) -> ApiServer:
        if self._endpoint:
            place = urlsplit(self._endpoint if "://" in self._endpoint else f"https://{self._endpoint}")
            return ApiServer(place.hostname or "", place.port or 443)
        try:
            return ApiServer.in_cluster()
        except RuntimeError as error:
            raise self.directive.error(str(error)) from error

    def _follower(self, loop: asyncio.AbstractEventLoop, server: ApiServer, collection: str) -> Follower:
        def replace(objects: list[Object]) -> None:
            loop.call_soon_threadsafe(self._replaced, collection, objects)

        def change(kind: str, item: Object) -> None:
            loop.call_soon_threadsafe(self.index.change, collection, kind, item)

        def complain(text: str) -> None:
            print(f"[WARNING] plugin/kubernetes: {text}", flush=True)

        return Follower(server, COLLECTIONS[collection], replace, change, complain)

    def _replaced(self, collection: str, objects: list[Object]) -> None:
        self.index.replace(collection, objects)
        if self.index.synced:
            self._synced.set()

    async def stop(self) -> None:
        for follower in self._followers:
            follower.stop()
        self._followers.clear()

    def ready(self) -> bool:
        return self.index.synced

    # -- answers ------------------------------------------------------------------------------------------------

    async def serve(self, query: Query) -> Response:
        zone = self._zones.match(query.name)
        if zone is None:
            return await self.onward(query)
        if not self.index.synced:
            raise ServerFailure("plugin/kubernetes: the API server was not heard of yet")
        try:
            response = self._reverse(query) if _is_reverse(zone) else await self._forward(query, zone)
        except NoSuchNameError:
            if self._fallthrough.through(query.name):
                return await self.onward(query)
            response = Response(Rcode.NXDOMAIN)
        if not response.answer:
            response.authority = [self._soa(zone)]
        response.authoritative = True
        return response

    async def _forward(self, query: Query, zone: dns.name.Name) -> Response:
        labels = [label.decode(errors="replace").lower() for label in query.name.relativize(zone).labels]
        match labels:
            case []:
                return self._apex(query, zone)
            case ["dns-version"]:
                return Response(answer=[self._record(query.name, RdataType.TXT, VERSION)] if _is(query, "TXT") else [])
            case ["ns", "dns"]:
                return Response(answer=self._addresses(query, self._own_addresses(query)))
            case ["dns"] | ["svc"] | ["pod"]:
                return Response()
            case [namespace, ("svc" | "pod")]:
                self._require(namespace)
                return Response()
            case [label, namespace, "pod"]:
                return self._pod(query, namespace, label)
            case [name, namespace, "svc"]:
                return await self._service(query, namespace, name, None, None, zone)
            case [port, protocol, name, namespace, "svc"] if port[:1] == "_" and protocol[:1] == "_":
                return await self._service(query, namespace, name, None, (port[1:], protocol[1:]), zone)
            case [endpoint, name, namespace, "svc"]:
                return await self._service(query, namespace, name, endpoint, None, zone)
        raise NoSuchNameError

    def _require(self, namespace: str) -> None:
        """Raises NoSuchNameError."""
        exposed = self._namespaces is None or namespace in self._namespaces
        if namespace not in self.index.namespaces or not exposed:
            raise NoSuchNameError

    def _apex(self, query: Query, zone: dns.name.Name) -> Response:
        if _is(query, "SOA"):
            return Response(answer=[self._soa(zone)])
        if _is(query, "NS"):
            server = self._server_name(zone)
            extra = [found for kind in _ADDRESSES for found in self._set(server, kind, self._own_addresses(query))]
            return Response(answer=[self._record(query.name, RdataType.NS, str(server))], additional=extra)
        return Response()

    def _pod(self, query: Query, namespace: str, label: str) -> Response:
        """Raises NoSuchNameError."""
        address = undashed(label)
        if self._pods == "disabled" or address is None:
            raise NoSuchNameError
        self._require(namespace)
        if self._pods == "verified" and not self.index.pod_at(namespace, address):
            raise NoSuchNameError
        return Response(answer=self._addresses(query, [address]))

    async def _service(
        self,
        query: Query,
        namespace: str,
        name: str,
        endpoint: str | None,
        port: tuple[str, str] | None,
        zone: dns.name.Name,
    ) -> Response:
        """Raises NoSuchNameError."""
        self._require(namespace)
        service = self.index.services.get((namespace, name))
        if service is None:
            raise NoSuchNameError
        if service.external_name:
            return await self._external(query, service)
        base = dns.name.from_text(f"{name}.{namespace}.svc", zone)
        if endpoint is None and not service.headless:
            ports = _chosen(service.ports, port)
            return self._cluster(query, service, ports, base)
        found = [
            one
            for one in self.index.endpoints(service.key)
            if endpoint is None or one.label(pod_names=self._pod_names) == endpoint
        ]
        if not found:
            raise NoSuchNameError
        return self._headless(query, found, port, base)

    def _cluster(self, query: Query, service: Service, ports: Sequence[Port], base: dns.name.Name) -> Response:
        if not _is(query, "SRV"):
            return Response(answer=self._addresses(query, service.addresses))
        share = 100 // max(1, len(ports))
        texts = [f"0 {share} {one.number} {base}" for one in ports]
        extra = [found for kind in _ADDRESSES for found in self._set(base, kind, service.addresses)]
        return Response(answer=[records.rrset(query.name, self._ttl, RdataType.SRV, texts)], additional=extra)

    def _headless(
        self, query: Query, found: Sequence[Endpoint], port: tuple[str, str] | None, base: dns.name.Name
    ) -> Response:
        """Raises NoSuchNameError when no endpoint has the port."""
        if port is not None:
            found = [one for one in found if any(_matches(entry, port) for entry in one.ports)]
            if not found:
                raise NoSuchNameError
        if not _is(query, "SRV"):
            return Response(answer=self._addresses(query, [one.address for one in found]))
        members: dict[dns.name.Name, list[str]] = {}
        targets: set[tuple[int, dns.name.Name]] = set()
        for one in found:
            target = dns.name.from_text(one.label(pod_names=self._pod_names), base)
            members.setdefault(target, []).append(one.address)
            targets |= {(entry.number, target) for entry in one.ports if port is None or _matches(entry, port)}
        if not targets:
            return Response()
        share = max(1, 100 // len(targets))
        texts = [f"0 {share} {one} {target}" for one, target in sorted(targets)]
        extra = [
            record
            for target, values in sorted(members.items())
            for kind in _ADDRESSES
            for record in self._set(target, kind, values)
        ]
        return Response(answer=[records.rrset(query.name, self._ttl, RdataType.SRV, texts)], additional=extra)

    async def _external(self, query: Query, service: Service) -> Response:
        """The alias, and for addresses what it leads to."""
        target = dns.name.from_text(service.external_name)
        alias = self._record(query.name, RdataType.CNAME, str(target))
        response = Response(answer=[alias])
        if query.type not in _ADDRESSES:
            return response if query.type in (RdataType.CNAME, RdataType.ANY) else Response()
        if query.aliases < MAX_CHAIN:
            with contextlib.suppress(ServerFailure, OSError, dns.exception.DNSException):
                followed = await self.context.resolve(query.about(target))
                response.answer += followed.answer
                response.recursion_available = followed.recursion_available
        return response

    def _reverse(self, query: Query) -> Response:
        """Raises NoSuchNameError."""
        address = reverse_address(query.name)
        if address is None:
            raise NoSuchNameError
        service = self.index.service_at(address)
        names: Iterable[str]
        if service is not None:
            names = [f"{service.key[1]}.{service.key[0]}.svc"]
        else:
            names = [f"{hostname}.{key[1]}.{key[0]}.svc" for hostname, key in self.index.hostnames_at(address)]
        targets = [str(dns.name.from_text(name, self._primary)) for name in dict.fromkeys(names)]
        if not targets:
            raise NoSuchNameError
        if not _is(query, "PTR"):
            return Response()
        return Response(answer=[records.rrset(query.name, self._ttl, RdataType.PTR, targets)])

    # -- records ------------------------------------------------------------------------------------------------

    def _record(self, name: dns.name.Name, kind: RdataType, text: str) -> records.RRset:
        return records.rrset(name, self._ttl, kind, [f'"{text}"' if kind == RdataType.TXT else text])

    def _set(self, name: dns.name.Name, kind: RdataType, values: Iterable[str]) -> list[records.RRset]:
        return records.addresses(name, self._ttl, kind, values)

    def _addresses(self, query: Query, values: Iterable[str]) -> list[records.RRset]:
        kinds = _ADDRESSES if query.type == RdataType.ANY else (query.type,)
        return [found for kind in kinds if kind in _ADDRESSES for found in self._set(query.name, kind, values)]

    def _server_name(self, zone: dns.name.Name) -> dns.name.Name:
        return dns.name.from_text("ns.dns", zone)

    def _own_addresses(self, query: Query) -> tuple[str, ...]:
        service = self.index.services.get(("kube-system", "kube-dns"))
        return service.addresses if service is not None else ()

    def _soa(self, zone: dns.name.Name) -> records.RRset:
        return records.soa(zone, self._ttl, int(time.time()), self._server_name(zone), (*TIMERS, self._ttl))


def _is(query: Query, kind: str) -> bool:
    return query.type in (RdataType.from_text(kind), RdataType.ANY) and (kind != "SRV" or query.type != RdataType.ANY)


def _is_reverse(zone: dns.name.Name) -> bool:
    return bool(re.search(r"(^|\.)(in-addr|ip6)\.arpa\.$", str(zone)))


def _matches(entry: Port, port: tuple[str, str]) -> bool:
    return (entry.name, entry.protocol) == port


def _chosen(ports: Sequence[Port], port: tuple[str, str] | None) -> Sequence[Port]:
    """Raises NoSuchNameError when a port is named that is not there."""
    if port is None:
        return ports
    found = [entry for entry in ports if _matches(entry, port)]
    if not found:
        raise NoSuchNameError
    return found
