"""CiliumLocalRedirectPolicy.

In: one object as JSON. Out: a `RedirectPolicy`; content that is wrong becomes its `error`, never an exception.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from ipaddress import ip_address

import msgspec

from cilium.sources.kubernetes.policies.errors import PolicyError, from_decoder
from cilium.sources.kubernetes.policies.selectors import LabelSelector, requirements
from cilium.sources.kubernetes.policies.wire import Strict
from cilium.tables.redirects import RedirectPolicy, RedirectPort
from cilium.tables.rules import Selector
from cilium.tables.types import IPAddress, IPNetwork

# Field names below are the API's.
# ruff: noqa: N815

PROTOCOLS = ("TCP", "UDP")
_NUMBER = re.compile(r"[1-9][0-9]{0,4}")
_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9](-?[a-z0-9])*")  # RFC 6335 section 5.1
_FRONTEND, _BACKEND = "spec.redirectFrontend", "spec.redirectBackend"


class _Port(Strict, frozen=True):
    port: str
    protocol: str
    name: str = ""


class _Address(Strict, frozen=True):
    ip: str
    toPorts: tuple[_Port, ...]


class _Service(Strict, frozen=True):
    serviceName: str
    namespace: str
    toPorts: tuple[_Port, ...] | None = None


class _Frontend(Strict, frozen=True):
    addressMatcher: _Address | None = None
    serviceMatcher: _Service | None = None


class _Backend(Strict, frozen=True):
    localEndpointSelector: LabelSelector
    toPorts: tuple[_Port, ...]


class _Spec(Strict, frozen=True):
    redirectFrontend: _Frontend
    redirectBackend: _Backend
    skipRedirectFromBackend: bool = False
    description: str = ""


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    creationTimestamp: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: _Metadata


class _Policy(msgspec.Struct, frozen=True):
    spec: _Spec


def decode_local_redirect(raw: bytes | msgspec.Raw, *, allowed: Collection[IPNetwork] = ()) -> RedirectPolicy:
    """`allowed`: addresses that a policy may match; none: every address."""
    metadata = msgspec.json.decode(raw, type=_Object).metadata
    policy = RedirectPolicy(metadata.namespace, metadata.name, metadata.uid, metadata.creationTimestamp)
    try:
        return _parse(policy, msgspec.json.decode(raw, type=_Policy).spec, allowed)
    except PolicyError as error:
        return msgspec.structs.replace(policy, error=str(error))
    except msgspec.DecodeError as error:
        return msgspec.structs.replace(policy, error=str(from_decoder(error)))


def merge_redirect(old: RedirectPolicy | None, new: RedirectPolicy) -> RedirectPolicy:
    """`new` as it should enter the table: an invalid update keeps what the same object's last valid version said."""
    if not new.error or old is None or old.uid != new.uid:
        return new
    return msgspec.structs.replace(old, error=new.error)


def _parse(policy: RedirectPolicy, spec: _Spec, allowed: Collection[IPNetwork]) -> RedirectPolicy:
    """Raises PolicyError."""
    by_address, by_service = spec.redirectFrontend.addressMatcher, spec.redirectFrontend.serviceMatcher
    if (by_address is None) == (by_service is None):
        raise PolicyError(_FRONTEND, "needs either addressMatcher or serviceMatcher, and not both")
    address: IPAddress | None = None
    service, where = "", ""
    given: tuple[_Port, ...] = ()
    if by_address is not None:
        where, given = f"{_FRONTEND}.addressMatcher", by_address.toPorts
        address = _address(by_address.ip, f"{where}.ip", allowed)
        if not given:
            raise PolicyError(f"{where}.toPorts", "is empty: name the ports of the address")
    elif by_service is not None:
        where, given = f"{_FRONTEND}.serviceMatcher", by_service.toPorts or ()
        service = _service(by_service, policy.namespace, where)
    several = len(given) > 1 or len(spec.redirectBackend.toPorts) > 1
    if not spec.redirectBackend.toPorts:
        raise PolicyError(f"{_BACKEND}.toPorts", "is empty: name the ports of the pods")
    selector = requirements(
        spec.redirectBackend.localEndpointSelector, f"{_BACKEND}.localEndpointSelector", source="k8s"
    )
    parsed = msgspec.structs.replace(
        policy,
        address=address,
        service=service,
        ports=_ports(given, f"{where}.toPorts", named=len(given) > 1),
        selector=Selector(selector),
        backend_ports=_ports(spec.redirectBackend.toPorts, f"{_BACKEND}.toPorts", named=several),
        skip_backends=spec.skipRedirectFromBackend,
    )
    _check_targets(parsed, f"{where}.toPorts")
    return parsed


def _address(text: str, path: str, allowed: Collection[IPNetwork]) -> IPAddress:
    """Addresses that are nobody's in particular, or every pod's own, cannot be redirected."""
    try:
        address = ip_address(text)
    except ValueError:
        raise PolicyError(path, f"{text!r} is not an IP address") from None
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise PolicyError(path, f"{text} is not the address of one host that others could ask")
    if address.version == 6 and (address.ipv4_mapped is not None or address.scope_id is not None):
        raise PolicyError(path, f"{text} cannot be matched: write IPv4 addresses as such, and IPv6 ones without a zone")
    if allowed and not any(address in network for network in allowed if network.version == address.version):
        permitted = ", ".join(map(str, allowed))
        raise PolicyError(path, f"{text} is not in {permitted} (localRedirectPolicies.addressMatcherCIDRs)")
    return address


def _service(matcher: _Service, namespace: str, path: str) -> str:
    if not matcher.serviceName:
        raise PolicyError(f"{path}.serviceName", "is empty")
    if matcher.namespace != namespace:
        raise PolicyError(f"{path}.namespace", f"{matcher.namespace!r} is not the policy's own, {namespace}")
    return f"{matcher.namespace}/{matcher.serviceName}"


def _ports(entries: Sequence[_Port], path: str, *, named: bool) -> tuple[RedirectPort, ...]:
    """`named`: each needs a name, for that is what joins those of the frontend with those of the backend."""
    found: list[RedirectPort] = []
    for index, entry in enumerate(entries):
        where = f"{path}[{index}]"
        if not _NUMBER.fullmatch(entry.port) or int(entry.port) > 65535:
            raise PolicyError(f"{where}.port", f"{entry.port!r} is not a number between 1 and 65535")
        if entry.protocol not in PROTOCOLS:
            raise PolicyError(f"{where}.protocol", f"{entry.protocol!r} is not one of {', '.join(PROTOCOLS)}")
        name = entry.name.lower()
        if named and not name:
            raise PolicyError(f"{where}.name", "is missing: several ports are joined by their names")
        if name and not _NAME.fullmatch(name):
            raise PolicyError(f"{where}.name", f"{entry.name!r} is not a port name such as dns-tcp")
        port = RedirectPort(int(entry.port), entry.protocol, name)
        for before, other in enumerate(found):
            if (other.port, other.protocol) == (port.port, port.protocol) or (name and other.name == name):
                raise PolicyError(where, f"is the same as {path}[{before}]")
        found.append(port)
    return tuple(found)


def _check_targets(policy: RedirectPolicy, path: str) -> None:
    for index, port in enumerate(policy.ports):
        if policy.target(port) is not None:
            continue
        wanted = f"named {port.name!r} " if port.name and len(policy.backend_ports) > 1 else ""
        raise PolicyError(f"{path}[{index}]", f"{_BACKEND}.toPorts has no port {wanted}for {port.protocol}")
