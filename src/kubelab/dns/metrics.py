"""Counters of a name server, under the names of CoreDNS.

In: answers given. Out: a page in Prometheus' text format.
"""

from __future__ import annotations

from typing import ClassVar

import dns.rcode
from dns.rdatatype import RdataType
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from kubelab.dns import VERSION
from kubelab.dns.http import Page
from kubelab.dns.wire import Query, Response

_SIZES = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)
_SECONDS = tuple(0.00025 * 2**step for step in range(16))
_TYPES = {
    RdataType.A, RdataType.AAAA, RdataType.MX, RdataType.SOA, RdataType.CNAME, RdataType.PTR, RdataType.TXT,
    RdataType.NS, RdataType.SRV, RdataType.DS, RdataType.DNSKEY, RdataType.RRSIG, RdataType.NSEC, RdataType.NSEC3,
    RdataType.HTTPS, RdataType.ANY,
}  # fmt: skip


class Metrics:
    """All counters of one process; they outlive a reload."""

    _shared: ClassVar[Metrics | None] = None

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped; CoreDNS has none
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        zone = ["server", "zone", "view"]

        def counter(name: str, text: str, labels: list[str]) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

        self._requests = counter("coredns_dns_requests", "Queries received.", [*zone, "proto", "family", "type"])
        self._responses = counter("coredns_dns_responses", "Answers given.", [*zone, "rcode", "plugin"])
        self._duration = histogram("coredns_dns_request_duration_seconds", "Time to the answer.", zone, _SECONDS)
        self._asked = histogram("coredns_dns_request_size_bytes", "Sizes of queries.", [*zone, "proto"], _SIZES)
        self._said = histogram("coredns_dns_response_size_bytes", "Sizes of answers.", [*zone, "proto"], _SIZES)
        self._panics = Counter("coredns_panics", "Errors of the server itself.", registry=self.registry)
        self._reloads = Counter("coredns_reload_failed", "Corefiles that could not be taken.", registry=self.registry)
        self._cache_asked = counter("coredns_cache_requests", "Queries to the cache.", ["server", "zones", "view"])
        self._hits = counter("coredns_cache_hits", "Answers of the cache.", ["server", "type", "zones", "view"])
        self._misses = counter("coredns_cache_misses", "What it did not have.", ["server", "zones", "view"])
        names = ["server", "type", "zones", "view"]
        self._entries = Gauge("coredns_cache_entries", "Answers that it holds.", names, registry=self.registry)
        self._upstream = histogram(
            "coredns_proxy_request_duration_seconds", "Time an upstream took.", ["proxy_name", "to", "rcode"], _SECONDS
        )

        self._probes = counter(
            "coredns_proxy_healthcheck_failures", "Probes that an upstream did not answer.", ["proxy_name", "to"]
        )
        build = Gauge("coredns_build_info", "What runs.", ["version", "revision", "goversion"], registry=self.registry)
        build.labels(VERSION, "kubelab.dns", "").set(1)

    @classmethod
    def shared(cls) -> Metrics:
        cls._shared = cls._shared or cls()
        return cls._shared

    def page(self) -> Page:
        return Page(200, generate_latest(self.registry).decode(), CONTENT_TYPE_LATEST)

    def answered(self, zone: str, query: Query, response: Response, size: int, seconds: float) -> None:
        labels = (SERVER, zone, "")
        kind = query.type.name if query.type in _TYPES else "other"
        self._requests.labels(*labels, query.protocol, "2" if ":" in query.peer else "1", kind).inc()
        self._responses.labels(*labels, dns.rcode.to_text(response.rcode), "").inc()
        self._duration.labels(*labels).observe(seconds)
        self._asked.labels(*labels, query.protocol).observe(query.size)
        self._said.labels(*labels, query.protocol).observe(size)

    def cached(self, zone: str, kind: str | None) -> None:
        """``kind`` is `success` or `denial` of a hit; None: a miss."""
        self._cache_asked.labels(SERVER, zone, "").inc()
        if kind is None:
            self._misses.labels(SERVER, zone, "").inc()
        else:
            self._hits.labels(SERVER, kind, zone, "").inc()

    def entries(self, zone: str, kind: str, number: int) -> None:
        self._entries.labels(SERVER, kind, zone, "").set(number)

    def forwarded(self, upstream: str, rcode: int, seconds: float) -> None:
        self._upstream.labels("forward", upstream, dns.rcode.to_text(dns.rcode.Rcode(rcode))).observe(seconds)

    def probe_failed(self, upstream: str) -> None:
        self._probes.labels("forward", upstream).inc()

    def broke(self) -> None:
        self._panics.inc()

    def refused_reload(self) -> None:
        self._reloads.inc()


SERVER = "dns://:53"
