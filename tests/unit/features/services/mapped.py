"""The maps of services in memory, and what a program finds in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import numpy as np

from cilium.datapath.addresses import address_bytes, address_from
from cilium.datapath.fakes import FakeMap, FakeNestedMap
from cilium.datapath.generated import SKIP_KEY, SOURCE_RANGE_KEY, ServiceFlags
from cilium.datapath.generated.maps import MAPS
from cilium.features.services.maglev import Maglev
from cilium.features.services.ops import ServiceMaps
from cilium.features.services.records import service_keys
from cilium.tables.services import Algorithm, Backend, Frontend, Scope

SIZES = {
    "cilium_lb_services": 8,
    "cilium_lb_slots": 64,
    "cilium_lb_backends": 12,
    "cilium_lb_affinity_match": 8,
    "cilium_lb_source_ranges": 8,
    "cilium_lb_skip": 4,
    "cilium_lb_maglev": 3,
}
TABLE = 251
Journal = list[tuple[str, str, int]]


class Log(FakeMap):
    """Notes who was written, in order."""

    def __init__(self, name: str, size: int, journal: Journal) -> None:
        super().__init__(replace(MAPS[name], max_entries=size))
        self.journal = journal

    def update(self, keys: Any, values: Any) -> None:
        if len(keys):
            self.journal.append(("update", self.spec.name, len(keys)))
        super().update(keys, values)

    def delete(self, keys: Any) -> None:
        self.journal.append(("delete", self.spec.name, len(keys)))
        super().delete(keys)


class View:
    """Operations over maps, and what a program finds in those."""

    def __init__(self, maps: Mapping[str, Any], tables: Any) -> None:
        self.journal: Journal = []
        self.now = 0.0
        self.maps, self.tables = maps, tables
        self.services, self.slots = self.maps["cilium_lb_services"], self.maps["cilium_lb_slots"]
        self.backends = self.maps["cilium_lb_backends"]
        self.match, self.ranges = self.maps["cilium_lb_affinity_match"], self.maps["cilium_lb_source_ranges"]
        self.skip = self.maps["cilium_lb_skip"]
        self.restart()

    def restart(self, table: int = TABLE) -> None:
        self.operations = ServiceMaps(
            maps=self.maps,
            nested={"cilium_lb_maglev": self.tables},
            maglev=Maglev(size=table, seed=b"of a cluster"),
            clock=lambda: self.now,
        )

    def update(self, *rows: Frontend) -> dict[Any, Any]:
        self.journal.clear()
        return dict(self.operations.update(rows))

    def delete(self, *rows: Frontend) -> dict[Any, Any]:
        self.journal.clear()
        return dict(self.operations.delete(rows))

    @property
    def written(self) -> list[str]:
        """Maps in the order in which the last operation wrote them, without their common prefix."""
        return [f"{verb} {name.removeprefix('cilium_lb_')}" for verb, name, _ in self.journal]

    def value(self, row: Frontend) -> Any:
        """The service as a program finds it."""
        values, found = self.services.lookup(service_keys([row]))
        return values[0] if found[0] else None

    def id(self, row: Frontend) -> int:
        found = self.value(row)
        return int(found["id"]) if found is not None else 0

    def flags(self, row: Frontend) -> ServiceFlags:
        return ServiceFlags(int(self.value(row)["flags"]))

    def numbers(self, row: Frontend) -> list[int]:
        """Ids in the slots of a service."""
        found = self.value(row)
        start, count = int(found["slots"]), int(found["count"])
        return [int(n) for n in self.slots.lookup(np.arange(start, start + count, dtype=np.uint32))[0]]

    def ends(self, row: Frontend) -> list[str]:
        """As a program finds them."""
        if self.value(row) is None:
            return ["no service"]
        return [self.record(number) for number in self.numbers(row)]

    def record(self, number: int) -> str:
        records, _ = self.backends.lookup(np.array([number], np.uint32))
        if not records[0]["address"].any():
            return "none"
        state = " terminating" if records[0]["state"] else ""
        return f"{address_from(records[0]['address'])}:{int(records[0]['port'])}{state}"

    def number_of(self, ip: str) -> int:
        """The id under which a backend has a record."""
        _, records = self.backends.dump()
        found = (records["address"] == np.frombuffer(address_bytes(ip_address(ip)), np.uint8)).all(axis=1)
        return int(np.flatnonzero(found)[0]) if found.any() else 0

    def asks(self, row: Frontend, ip: str) -> bool:
        """Whether this client may ask, as a program decides it."""
        flags, key = self.flags(row), np.zeros(1, SOURCE_RANGE_KEY)
        key["prefixlen"], key["service"] = 160, self.id(row)
        key["address"] = np.frombuffer(address_bytes(ip_address(ip)), np.uint8)
        listed = bool(self.ranges.lookup(key)[1][0])
        return not flags & ServiceFlags.SOURCE_CHECK or listed is not bool(flags & ServiceFlags.SOURCE_DENY)

    def skips(self, row: Frontend, cookie: int) -> bool:
        key = np.zeros(1, SKIP_KEY)
        key["netns_cookie"], key["port"], key["protocol"] = cookie, row.port, 6
        key["address"] = np.frombuffer(address_bytes(row.address), np.uint8)
        return bool(self.skip.lookup(key)[1][0])

    def matches(self, row: Frontend) -> list[str]:
        """Backends that a client of the service may stay with."""
        keys, _ = self.match.dump()
        return sorted(self.record(int(key["backend"])) for key in keys if key["service"] == self.id(row))

    def table(self, row: Frontend) -> list[int]:
        """Ids in the service's Maglev table."""
        keys, numbers = self.tables.dump()
        found = [int(number) for key, number in zip(keys, numbers, strict=True) if key == self.id(row)]
        return [int(n) for n in self.tables.content(found[0])] if found else []


class World(View):
    """In memory, with a journal of what is written."""

    def __init__(self, sizes: Mapping[str, int] | None = None) -> None:
        sizes, journal = SIZES | dict(sizes or {}), Journal()
        tables = FakeNestedMap("cilium_lb_maglev")
        tables.outer = Log("cilium_lb_maglev", sizes["cilium_lb_maglev"], journal)
        super().__init__(
            {name: Log(name, size, journal) for name, size in sizes.items() if name != "cilium_lb_maglev"}, tables
        )
        self.journal = journal


def row(ip: str, *ends: str, port: int = 80, protocol: str = "TCP", terminating: bool = False) -> Frontend:
    backends = tuple(Backend(ip_address(end), 8080, terminating) for end in ends)
    return Frontend(ip_address(ip), port, protocol, "shop/web", "http", "ClusterIP", backends)


def outside(ip: str, *ends: str, **fields: Any) -> Frontend:
    """Asked from outside, with a Maglev table unless something else is said."""
    fields = {"algorithm": Algorithm.MAGLEV, "scope": Scope.EXTERNAL, "kind": "LoadBalancer"} | fields
    return msgspec.structs.replace(row(ip, *ends), **fields)


def ranges(*texts: str) -> dict[str, Any]:
    return {"source_ranges": tuple(map(ip_network, texts)), "algorithm": Algorithm.RANDOM}


def changed(base: Frontend, *backends: Backend, **fields: Any) -> Frontend:
    return msgspec.structs.replace(base, backends=backends, **fields)


def end(ip: str, **fields: Any) -> Backend:
    return Backend(ip_address(ip), 8080, **fields)
