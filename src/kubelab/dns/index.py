"""What the cluster's names are made of: Services, their endpoints, namespaces, and pods where they are asked for.

In: objects as the API server has them. Out: lookups by name and by address.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""

COLLECTIONS = {
    "services": "/api/v1/services",
    "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
    "namespaces": "/api/v1/namespaces",
    "pods": "/api/v1/pods",
}
SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Port:
    name: str
    protocol: str
    """In lower case."""
    number: int


@dataclass(frozen=True, slots=True)
class Service:
    key: Key
    addresses: tuple[str, ...]
    """Cluster IPs; none of a headless one."""
    external_name: str
    ports: tuple[Port, ...]
    headless: bool


@dataclass(frozen=True, slots=True)
class Endpoint:
    address: str
    hostname: str
    pod: str
    ports: tuple[Port, ...]

    def label(self, *, pod_names: bool = False) -> str:
        """Its name below the service's: hostname, the pod's name where asked for, otherwise its address."""
        if self.hostname:
            return self.hostname
        return self.pod if pod_names and self.pod else dashed(self.address)


@dataclass(frozen=True, slots=True)
class Slice:
    key: Key
    service: Key
    endpoints: tuple[Endpoint, ...]


def dashed(address: str) -> str:
    """`10.0.0.1` as `10-0-0-1`, `fd00::1` as `fd00--1`."""
    return address.replace(".", "-").replace(":", "-")


def undashed(label: str) -> str | None:
    """The address that a label stands for, if it is one."""
    text = label.replace("-", ".") if label.count("-") == 3 and "--" not in label else label.replace("-", ":")
    try:
        return str(ip_address(text))
    except ValueError:
        return None


class Index:
    """All of it; `synced` once every collection was listed."""

    def __init__(self, collections: tuple[str, ...] = ("services", "endpointslices", "namespaces")) -> None:
        self.collections = collections
        self.services: dict[Key, Service] = {}
        self.namespaces: set[str] = set()
        self.serial = 1
        self._listed: set[str] = set()
        self._slices: dict[Key, Slice] = {}
        self._by_service: dict[Key, dict[Key, Slice]] = {}
        self._services_by_address: dict[str, Key] = {}
        self._slices_by_address: dict[str, set[Key]] = {}
        self._pods: dict[Key, tuple[str, ...]] = {}
        self._pods_by_address: dict[Key, set[Key]] = {}

    @property
    def synced(self) -> bool:
        return self._listed.issuperset(self.collections)

    def replace(self, collection: str, objects: list[Object]) -> None:
        """The whole collection."""
        fresh = {_key(item) for item in objects}
        for key in self._known(collection) - fresh:
            self._forget(collection, key)
        for item in objects:
            self._learn(collection, item)
        self._listed.add(collection)
        self.serial += 1

    def change(self, collection: str, kind: str, item: Object) -> None:
        """One event of a watch."""
        if kind == "DELETED":
            self._forget(collection, _key(item))
        else:
            self._learn(collection, item)
        self.serial += 1

    def endpoints(self, service: Key) -> Iterator[Endpoint]:
        """Those that are published: ready ones, or all where the Service says so."""
        for piece in self._by_service.get(service, {}).values():
            yield from piece.endpoints

    def service_at(self, address: str) -> Service | None:
        key = self._services_by_address.get(address)
        return None if key is None else self.services.get(key)

    def hostnames_at(self, address: str) -> Iterator[tuple[str, Key]]:
        """(hostname, Service) of the endpoints that have one."""
        for key in sorted(self._slices_by_address.get(address, ())):
            piece = self._slices[key]
            for endpoint in piece.endpoints:
                if endpoint.address == address and endpoint.hostname:
                    yield endpoint.hostname, piece.service

    def pod_at(self, namespace: str, address: str) -> bool:
        return bool(self._pods_by_address.get((namespace, address)))

    def _known(self, collection: str) -> set[Key]:
        match collection:
            case "services":
                return set(self.services)
            case "endpointslices":
                return set(self._slices)
            case "namespaces":
                return {("", name) for name in self.namespaces}
            case _:
                return set(self._pods)

    def _learn(self, collection: str, item: Object) -> None:
        key = _key(item)
        self._forget(collection, key)
        match collection:
            case "services":
                self.services[key] = service = _service(key, item)
                self._services_by_address.update(dict.fromkeys(service.addresses, key))
            case "endpointslices":
                self._learn_slice(_slice(key, item))
            case "namespaces":
                self.namespaces.add(key[1])
            case "pods":
                status = item.get("status") or {}
                self._pods[key] = ips = tuple(entry["ip"] for entry in status.get("podIPs") or [])
                for ip in ips:
                    self._pods_by_address.setdefault((key[0], str(ip_address(ip))), set()).add(key)

    def _learn_slice(self, piece: Slice) -> None:
        self._slices[piece.key] = piece
        self._by_service.setdefault(piece.service, {})[piece.key] = piece
        for endpoint in piece.endpoints:
            self._slices_by_address.setdefault(endpoint.address, set()).add(piece.key)

    def _forget(self, collection: str, key: Key) -> None:
        match collection:
            case "services":
                service = self.services.pop(key, None)
                for address in service.addresses if service else ():
                    if self._services_by_address.get(address) == key:
                        del self._services_by_address[address]
            case "endpointslices":
                self._forget_slice(key)
            case "namespaces":
                self.namespaces.discard(key[1])
            case "pods":
                for ip in self._pods.pop(key, ()):
                    _discard(self._pods_by_address, (key[0], str(ip_address(ip))), key)

    def _forget_slice(self, key: Key) -> None:
        piece = self._slices.pop(key, None)
        if piece is None:
            return
        others = self._by_service[piece.service]
        del others[key]
        if not others:
            del self._by_service[piece.service]
        for endpoint in piece.endpoints:
            _discard(self._slices_by_address, endpoint.address, key)


def _discard(table: dict[Any, set[Key]], place: Any, key: Key) -> None:
    members = table.get(place)
    if members is not None:
        members.discard(key)
        if not members:
            del table[place]


def _key(item: Object) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _ports(entries: list[Object] | None, number: str) -> tuple[Port, ...]:
    return tuple(
        Port((entry.get("name") or "").lower(), (entry.get("protocol") or "TCP").lower(), int(entry[number]))
        for entry in entries or []
        if entry.get(number) is not None
    )


def _service(key: Key, item: Object) -> Service:
    spec = item["spec"]
    external = spec.get("externalName", "") if spec.get("type") == "ExternalName" else ""
    given = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    addresses = () if external else tuple(str(ip_address(one)) for one in given if one and one != "None")
    return Service(key, addresses, external, _ports(spec.get("ports"), "port"), not addresses and not external)


def _slice(key: Key, item: Object) -> Slice:
    namespace, service = key[0], (item["metadata"].get("labels") or {}).get(SERVICE_LABEL, "")
    if item.get("addressType") == "FQDN":
        return Slice(key, (namespace, service), ())
    ports = _ports(item.get("ports"), "port")
    endpoints = []
    for entry in item.get("endpoints") or []:
        if (entry.get("conditions") or {}).get("ready", True) is False:
            continue
        target = entry.get("targetRef") or {}
        pod = target.get("name", "") if target.get("kind", "Pod") == "Pod" else ""
        hostname = (entry.get("hostname") or "").lower()
        endpoints += [Endpoint(str(ip_address(one)), hostname, pod, ports) for one in entry.get("addresses") or []]
    return Slice(key, (namespace, service), tuple(endpoints))
