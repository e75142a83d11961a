"""Services: defaults, allocation of cluster IPs and node ports, validation.

Owns: one range of addresses per family of the cluster, and the ports 30000-32767. What is taken is read from the stored
Services, so there is no second book that could disagree. Explicit addresses are honoured when they are free and in
range.
"""

import ipaddress
import random
from collections.abc import Container, Iterator
from typing import Any

from kubelab.apiserver.errors import Cause, InternalError, invalid
from kubelab.apiserver.strategies.base import Object, Reader
from kubelab.apiserver.strategies.common import NamedStrategy, duplicate, invalid_value, required, unsupported

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ServiceRanges = tuple[Network, ...]
SERVICE_RANGES: ServiceRanges = (ipaddress.IPv4Network("10.96.0.0/16"), ipaddress.IPv6Network("fd00:10:96::/112"))
"""Of the cluster's families, the primary first."""
NODE_PORTS = range(30000, 32768)
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
_CHOICES = {
    "ipFamilyPolicy": _POLICIES,
    "externalTrafficPolicy": ("Cluster", "Local"),
    "internalTrafficPolicy": ("Cluster", "Local"),
    "trafficDistribution": ("PreferClose", "PreferSameNode", "PreferSameZone"),
}
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_OUT_OF_RANGE = "provided port is not in the valid range. The range of valid ports is 30000-32767"
_NO_PORT = "failed to allocate a nodePort: range is full"
# Addresses handed out at random come from behind this offset, so that chosen low ones stay free.
_RESERVED = 256


class ServiceStrategy(NamedStrategy):
    ranges: ServiceRanges = SERVICE_RANGES

    def default(self, obj: Object) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("sessionAffinity", "None")
        if spec["sessionAffinity"] == "ClientIP":
            spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
        for port in spec.get("ports") or ():
            port.setdefault("protocol", "TCP")
            if "port" in port:
                port.setdefault("targetPort", port["port"])
        if spec["type"] in ("NodePort", "LoadBalancer"):
            spec.setdefault("externalTrafficPolicy", "Cluster")
        if spec["type"] == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
        if spec["type"] != "ExternalName":
            spec.setdefault("internalTrafficPolicy", "Cluster")

    def prepare_create(self, obj: Object, store: Reader) -> None:
        obj["status"] = {"loadBalancer": {}}
        self._allocate(obj, None, store)

    def prepare_update(self, obj: Object, old: Object, store: Reader) -> None:
        spec, before = obj.get("spec"), old["spec"]
        if isinstance(spec, dict) and spec.get("type") != "ExternalName" and before.get("type") != "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                if field in before:
                    spec.setdefault(field, before[field])
            known = {(p.get("name"), p["port"], p["protocol"]): p.get("nodePort") for p in before.get("ports") or ()}
            for port in spec.get("ports") or ():
                kept = known.get((port.get("name"), port.get("port"), port.get("protocol")))
                if kept and spec["type"] in ("NodePort", "LoadBalancer"):
                    port.setdefault("nodePort", kept)
                elif spec["type"] == "ClusterIP" and port.get("nodePort") == kept:
                    port.pop("nodePort", None)
            _keep_health_port(spec, before)
        self._allocate(obj, old, store)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return [*causes, required("spec")]
        causes += _spec_causes(spec)
        before = (old or {}).get("spec") or {}
        moved = old is not None and spec.get("clusterIP") != before.get("clusterIP")
        if moved and "ExternalName" not in (spec.get("type"), before.get("type")):
            causes.append(invalid_value("spec.clusterIPs[0]", spec.get("clusterIP"), "may not change once set"))
        return causes

    def _allocate(self, obj: Object, old: Object | None, store: Reader) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict) or any(_spec_causes(spec)):
            return  # validate() says why.
        before = (old or {}).get("spec", {}).get("clusterIP")
        if before and spec["type"] != "ExternalName" and spec.get("clusterIP") not in (None, "", before):
            return
        others = [s["spec"] for s in store.peek_all("services") if s["metadata"]["uid"] != obj["metadata"]["uid"]]
        causes: list[Cause] = []
        if spec["type"] == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
        else:
            causes += _allocate_addresses(spec, others, self.ranges)
        if spec["type"] == "NodePort" or (spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts")):
            causes += _allocate_ports(spec, others)
        if _wants_health_port(spec):
            causes += _allocate_health_port(spec, others)
        if causes:
            raise invalid(group="", kind="Service", name=obj["metadata"]["name"], causes=causes)


def _spec_causes(spec: Object) -> Iterator[Cause]:
    kind = spec.get("type")
    if kind not in _TYPES:
        yield unsupported("spec.type", kind, _TYPES)
    if kind == "ExternalName":
        if not spec.get("externalName"):
            yield required("spec.externalName")
        return
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    if spec.get("healthCheckNodePort") and not _wants_health_port(spec):
        reason = "may only be set for type LoadBalancer with externalTrafficPolicy Local"
        yield invalid_value("spec.healthCheckNodePort", spec["healthCheckNodePort"], reason)
    if spec.get("sessionAffinity") not in ("None", "ClientIP"):
        yield unsupported("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    for field, known in _CHOICES.items():
        if spec.get(field) is not None and spec[field] not in known:
            yield unsupported(f"spec.{field}", spec[field], known)
    if spec.get("clusterIP") == "None" and kind in ("NodePort", "LoadBalancer"):
        yield invalid_value("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    seen: set[Any] = set()
    for index, port in enumerate(ports):
        where = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{where}.name")
        for identity in (("name", port.get("name")), ("port", port.get("port"), port.get("protocol"))):
            if identity in seen and identity != ("name", None):
                yield duplicate(where, {"port": port.get("port"), "protocol": port.get("protocol")})
            seen.add(identity)
        if not isinstance(port.get("port"), int) or not 0 < port["port"] < 65536:
            yield invalid_value(f"{where}.port", port.get("port"), "must be between 1 and 65535, inclusive")
        if port.get("protocol") not in _PROTOCOLS:
            yield unsupported(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)
        target = port.get("targetPort")
        if isinstance(target, int) and not 0 < target < 65536:
            yield invalid_value(f"{where}.targetPort", target, "must be between 1 and 65535, inclusive")


def _allocate_addresses(spec: Object, others: list[Object], ranges: ServiceRanges) -> list[Cause]:
    asked = list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
    known = {f"IPv{network.version}": network for network in ranges}
    families = _families(spec, asked, list(known))
    if foreign := [*_foreign(spec, families, known)]:
        return foreign
    spec.setdefault("ipFamilyPolicy", "SingleStack" if len(families) == 1 else "RequireDualStack")
    spec["ipFamilies"] = families
    if asked and asked[0] == "None":
        spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
        return []
    taken = {ip for other in others for ip in other.get("clusterIPs") or ()}
    addresses: list[str] = []
    causes: list[Cause] = []
    for index, family in enumerate(families):
        network = known[family]
        address = asked[index] if index < len(asked) else _free_address(network, taken)
        fault = _address_fault(address, network, taken)
        if fault:
            causes.append(
                invalid_value("spec.clusterIPs", asked or [address], f"failed to allocate IP {address}: {fault}")
            )
        addresses.append(address)
    if not causes:
        spec["clusterIP"], spec["clusterIPs"] = addresses[0], addresses
    return causes


def _foreign(spec: Object, families: list[str], known: Container[str]) -> Iterator[Cause]:
    """What a Service wants of families that the cluster does not have."""
    for index, family in enumerate(families):
        if family not in known:
            yield invalid_value(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
    if spec.get("ipFamilyPolicy") == "RequireDualStack" and len(families) < 2:
        reason = "this cluster is not configured for dual-stack services"
        yield invalid_value("spec.ipFamilyPolicy", "RequireDualStack", reason)


def _families(spec: Object, asked: list[str], known: list[str]) -> list[str]:
    """The address families in order: as given, else of the given addresses, else the cluster's primary."""
    families = list(spec.get("ipFamilies") or ())
    if not families:
        families = ["IPv6" if ":" in ip else "IPv4" for ip in asked if ip != "None"] or known[:1]
    if spec.get("ipFamilyPolicy") in ("PreferDualStack", "RequireDualStack") and len(families) == 1:
        families += [family for family in known if family != families[0]]
    return families[:1] if spec.get("ipFamilyPolicy") == "SingleStack" else families[:2]


def _free_address(network: Network, taken: set[str]) -> str:
    size = network.num_addresses
    start = random.randrange(min(_RESERVED, size // 16), size - 1)
    for offset in range(size):
        place = (start + offset) % (size - 2) + 1
        address = str(network[place])
        if address not in taken:
            return address
    raise InternalError("Internal error occurred: failed to allocate a serviceIP: range is full")


def _address_fault(address: str, network: Network, taken: set[str]) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "not an IP address"
    if parsed.version != network.version or parsed not in network:
        return f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}"
    return "provided IP is already allocated" if str(parsed) in taken else ""


def _allocate_ports(spec: Object, others: list[Object]) -> list[Cause]:
    taken = _taken_ports(others)
    causes: list[Cause] = []
    for index, port in enumerate(spec.get("ports") or ()):
        where, protocol = f"spec.ports[{index}].nodePort", port["protocol"]
        number = port.get("nodePort")
        if number:
            if number not in NODE_PORTS:
                causes.append(invalid_value(where, number, _OUT_OF_RANGE))
            elif (number, protocol) in taken:
                causes.append(invalid_value(where, number, "provided port is already allocated"))
        else:
            free = [n for n in NODE_PORTS if (n, protocol) not in taken]
            if not free:
                raise InternalError(f"Internal error occurred: {_NO_PORT}")
            number = port["nodePort"] = random.choice(free)
        taken.add((number, protocol))
    return causes


def _taken_ports(specs: list[Object]) -> set[tuple[int, str]]:
    ports = {(p["nodePort"], p.get("protocol")) for spec in specs for p in spec.get("ports") or () if p.get("nodePort")}
    return ports | {(spec["healthCheckNodePort"], "TCP") for spec in specs if spec.get("healthCheckNodePort")}


def _wants_health_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _keep_health_port(spec: Object, before: Object) -> None:
    """As long as the Service wants one; what it had goes with the wish."""
    kept = before.get("healthCheckNodePort")
    if kept and _wants_health_port(spec):
        spec.setdefault("healthCheckNodePort", kept)
    elif kept and spec.get("healthCheckNodePort") == kept:
        del spec["healthCheckNodePort"]


def _allocate_health_port(spec: Object, others: list[Object]) -> list[Cause]:
    """A node port, of TCP, on which every node says whether it has endpoints."""
    where, number = "spec.healthCheckNodePort", spec.get("healthCheckNodePort")
    taken = _taken_ports([*others, {"ports": spec.get("ports")}])
    if not number:
        free = [n for n in NODE_PORTS if (n, "TCP") not in taken]
        if not free:
            raise InternalError(f"Internal error occurred: {_NO_PORT}")
        spec["healthCheckNodePort"] = random.choice(free)
    elif number not in NODE_PORTS:
        return [invalid_value(where, number, _OUT_OF_RANGE)]
    elif (number, "TCP") in taken:
        return [invalid_value(where, number, "provided port is already allocated")]
    return []
