"""Rows about local redirects: what CiliumLocalRedirectPolicies say, and what becomes of it on this node."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from cilium.tables.rules import Selector
from cilium.tables.types import IPAddress


class FrontendType(StrEnum):
    """What a policy names, in upstream's words."""

    SERVICE = "clusterIP + all svc ports"
    SERVICE_PORT = "clusterIP + port"
    SERVICE_PORTS = "clusterIP + named ports"
    ADDRESS_PORT = "IP + port"
    ADDRESS_PORTS = "IP + named ports"
    UNKNOWN = "unknown"


class RedirectPort(msgspec.Struct, frozen=True):
    port: int
    protocol: str
    """TCP or UDP."""
    name: str = ""
    """In lower case."""


class RedirectPolicy(msgspec.Struct, frozen=True):
    """Table `redirect-policies`, key `namespace/name`: cilium.io/v2 CiliumLocalRedirectPolicy.

    Either `address` or `service` is set, unless the object was never right.
    """

    namespace: str
    name: str
    uid: str = ""
    created: str = ""
    address: IPAddress | None = None
    service: str = ""
    """namespace/name."""
    ports: tuple[RedirectPort, ...] = ()
    """Of the address or the service; none: every port of the service."""
    selector: Selector = Selector()
    """Of pods in the policy's namespace, by their Kubernetes labels."""
    backend_ports: tuple[RedirectPort, ...] = ()
    skip_backends: bool = False
    """What the selected pods themselves send to the address goes where it would go without the policy."""
    error: str = ""
    """Field and reason why the object's present version is not followed; the rest is its last right one, if any."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def frontend_type(self) -> FrontendType:
        if self.service:
            several = {0: FrontendType.SERVICE, 1: FrontendType.SERVICE_PORT}
            return several.get(len(self.ports), FrontendType.SERVICE_PORTS)
        if self.address is None:
            return FrontendType.UNKNOWN
        return FrontendType.ADDRESS_PORT if len(self.ports) == 1 else FrontendType.ADDRESS_PORTS

    def target(self, port: RedirectPort) -> RedirectPort | None:
        """Where what is meant for a port of the address or service goes: the backend port of its name; where there is
        one port only on either side, names do not matter.
        """
        candidates = [end for end in self.backend_ports if end.protocol == port.protocol]
        named = [end for end in candidates if end.name and end.name == port.name]
        if named:
            return named[0]
        alone = len(self.ports) == 1 or (not self.ports and len(self.backend_ports) == 1)
        return candidates[0] if alone and len(candidates) == 1 else None


class RedirectBackend(msgspec.Struct, frozen=True):
    pod: str
    """namespace/name."""
    address: IPAddress
    port: int


class RedirectMapping(msgspec.Struct, frozen=True):
    address: IPAddress
    port: int
    protocol: str
    backends: tuple[RedirectBackend, ...] = ()
    """None: what is meant for the address goes where it would go without the policy."""


class LocalRedirect(msgspec.Struct, frozen=True):
    """Table `local-redirects`, key `policy`: what a policy means on this node, for people to look at."""

    policy: RedirectPolicy
    mappings: tuple[RedirectMapping, ...] = ()

    @property
    def key(self) -> str:
        return self.policy.key
