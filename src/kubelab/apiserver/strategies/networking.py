"""EndpointSlices, NetworkPolicies, Ingresses."""

import ipaddress
from collections.abc import Iterator
from typing import Any

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.strategies.common import (
    NamedStrategy,
    invalid_value,
    required,
    selector_causes,
    unsupported,
)

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_DIRECTIONS = (("ingress", "from", "Ingress"), ("egress", "to", "Egress"))


class EndpointSliceStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        for port in obj.get("ports") or ():
            port.setdefault("protocol", "TCP")
            port.setdefault("name", "")

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        kind = obj.get("addressType")
        if kind not in _ADDRESS_TYPES:
            causes.append(unsupported("addressType", kind, _ADDRESS_TYPES))
        elif old is not None and kind != old.get("addressType"):
            causes.append(invalid_value("addressType", kind, "field is immutable"))
        for index, endpoint in enumerate(obj.get("endpoints") or ()):
            for place, address in enumerate(endpoint.get("addresses") or ()):
                if kind in ("IPv4", "IPv6") and not _is_address(address, 4 if kind == "IPv4" else 6):
                    where = f"endpoints[{index}].addresses[{place}]"
                    causes.append(invalid_value(where, address, f"must be an {kind} address"))
        return causes

    def spec_changed(self, obj: Object, old: Object) -> bool:
        return any(obj.get(f) != old.get(f) for f in ("endpoints", "ports", "addressType"))


class NetworkPolicyStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return
        spec.setdefault("podSelector", {})
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        for direction, _, _ in _DIRECTIONS:
            for rule in spec.get(direction) or ():
                for port in rule.get("ports") or ():
                    port.setdefault("protocol", "TCP")

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return causes
        causes += selector_causes(spec.get("podSelector"), "spec.podSelector")
        for kind in spec.get("policyTypes") or ():
            if kind not in ("Egress", "Ingress"):
                causes.append(unsupported("spec.policyTypes", kind, ("Egress", "Ingress")))
        for direction, peers, _ in _DIRECTIONS:
            for index, rule in enumerate(spec.get(direction) or ()):
                where = f"spec.{direction}[{index}]"
                causes += _port_causes(rule.get("ports") or (), f"{where}.ports")
                for place, peer in enumerate(rule.get(peers) or ()):
                    causes += _peer_causes(peer, f"{where}.{peers}[{place}]")
        return causes


def _port_causes(ports: Any, path: str) -> Iterator[Cause]:
    for index, port in enumerate(ports):
        where, number, end = f"{path}[{index}]", port.get("port"), port.get("endPort")
        if port.get("protocol") not in _PROTOCOLS:
            yield unsupported(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)
        if isinstance(number, int) and not 0 < number < 65536:
            yield invalid_value(f"{where}.port", number, "must be between 1 and 65535, inclusive")
        if end is not None:
            if not isinstance(number, int):
                yield invalid_value(f"{where}.endPort", end, "may not be specified when `port` is not a number")
            elif not number <= end < 65536:
                yield invalid_value(f"{where}.endPort", end, "must be between `port` and 65535")


def _peer_causes(peer: Object, path: str) -> Iterator[Cause]:
    if not any(f in peer for f in ("podSelector", "namespaceSelector", "ipBlock")):
        yield required(path, "must specify a peer: podSelector, namespaceSelector or ipBlock")
    if "ipBlock" in peer and len(peer) > 1:
        why = "Forbidden: may not specify both ipBlock and another peer"
        yield Cause(path, "FieldValueForbidden", why)
    for field in ("podSelector", "namespaceSelector"):
        yield from selector_causes(peer.get(field), f"{path}.{field}")
    block = peer.get("ipBlock")
    if isinstance(block, dict):
        yield from _block_causes(block, f"{path}.ipBlock")


def _block_causes(block: Object, path: str) -> Iterator[Cause]:
    cidr = _network(block.get("cidr"))
    if cidr is None:
        yield invalid_value(
            f"{path}.cidr", block.get("cidr"), "must be a valid CIDR value (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        )
    for index, text in enumerate(block.get("except") or ()):
        excluded = _network(text)
        where = f"{path}.except[{index}]"
        if excluded is None:
            yield invalid_value(where, text, "must be a valid CIDR value (e.g. 10.9.8.0/24 or 2001:db8::/64)")
        elif cidr is not None and (cidr.version != excluded.version or not _inside(excluded, cidr)):
            yield invalid_value(where, text, f"must be a strict subset of `cidr` {block['cidr']}")


class IngressStrategy(NamedStrategy):
    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec = obj.get("spec") or {}
        if not spec.get("rules") and not spec.get("defaultBackend"):
            causes.append(invalid_value("spec", spec, "either `defaultBackend` or `rules` must be specified"))
        for index, rule in enumerate(spec.get("rules") or ()):
            for place, path in enumerate((rule.get("http") or {}).get("paths") or ()):
                where = f"spec.rules[{index}].http.paths[{place}]"
                if path.get("pathType") not in _PATH_TYPES:
                    causes.append(unsupported(f"{where}.pathType", path.get("pathType"), _PATH_TYPES))
                elif path["pathType"] != "ImplementationSpecific" and not str(path.get("path", "")).startswith("/"):
                    causes.append(invalid_value(f"{where}.path", path.get("path", ""), "must be an absolute path"))
        return causes


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: Any) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False) if isinstance(text, str) and "/" in text else None
    except ValueError:
        return None


def _inside(inner: Network, outer: Network) -> bool:
    return inner != outer and inner.prefixlen > outer.prefixlen and inner[0] in outer


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
