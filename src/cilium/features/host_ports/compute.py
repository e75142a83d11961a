"""At which addresses of this node pods want to be reached: the host ports of their containers.

In: `pods` of this node, `devices`. Out: `host-port-frontends`, which become rows of `frontends` unless a Service has
the address; `host-port-problems`. A pod is reached there while it runs. Two pods that want one port: the older one has
it, the other is named, and takes over when the older goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from cilium.state import RowChanges, View
from cilium.state.claims import Claims
from cilium.tables.kubernetes import HostPort, Pod
from cilium.tables.problems import ProblemBook
from cilium.tables.services import Backend, Frontend, FrontendKey, Scope
from cilium.tables.types import IPAddress

UNSPECIFIED: Mapping[int, IPAddress] = {4: IPv4Address(0), 6: IPv6Address(0)}
RUNNING = "Running"


class UnservedError(Exception):
    """A host port that this node does not serve; the message says why."""


class HostPorts:
    """The derivation. `node`: this one's name; `versions`: the IP versions, `protocols`: the protocols it serves."""

    def __init__(self, *, node: str, versions: Collection[int], protocols: Collection[str]) -> None:
        self._node, self._versions, self._protocols = node, frozenset(versions), frozenset(protocols)
        self._addresses: frozenset[IPAddress] = frozenset()
        self._claims: Claims[FrontendKey, str, Frontend] = Claims()
        self._pods: dict[str, Pod] = {}
        """Those that claim something, or would if it were right."""
        self._unserved: dict[str, dict[str, str]] = {}
        """By pod: messages by field."""
        self._problems = ProblemBook("Pod")

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        touched = {change.key for change in view.changes["pods"]}
        if view.changes["devices"]:
            addresses = frozenset(own.ip for device in view.snapshots["devices"] for own in device.addresses)
            if addresses != self._addresses:
                self._addresses = addresses
                touched |= self._pods.keys()
        keys: set[FrontendKey] = set()
        for name in touched:
            keys |= self._claim(name, view.snapshots["pods"].get(name))
        concerned = {owner for key in keys for owner, _ in self._claims.of(key)} | touched
        return {
            "host-port-frontends": self._claims.changes(keys),
            "host-port-problems": self._problems.report({name: self._found(name) for name in concerned}),
        }

    def _claim(self, name: str, pod: Pod | None) -> set[FrontendKey]:
        """Replaces what a pod claims; returns the keys that may have changed."""
        self._unserved.pop(name, None)
        if pod is None or not pod.host_ports or pod.phase != RUNNING or pod.node != self._node:
            self._pods.pop(name, None)
            return self._claims.drop(name)
        self._pods[name] = pod
        rows: dict[FrontendKey, Frontend] = {}
        for port in pod.host_ports:
            try:
                rows |= {row.key: row for row in self._rows(pod, port)}
            except UnservedError as error:
                self._unserved.setdefault(name, {})[port_field(port.host_port, port.protocol)] = str(error)
        return self._claims.replace(name, (pod.created, name), rows)

    def _rows(self, pod: Pod, port: HostPort) -> Iterator[Frontend]:
        """Raises UnservedError."""
        if port.protocol not in self._protocols:
            raise UnservedError(f"{port.protocol} is not served by this node; served are {_listed(self._protocols)}")
        for address in self._places(port.host_ip):
            ends = tuple(
                Backend(ip, port.container_port, pod.deleting, self._node)
                for ip in pod.ips
                if ip.version == address.version
            )
            # Nobody outside can ask for a loopback address.
            scopes = (Scope.CLUSTER,) if address.is_loopback else (Scope.CLUSTER, Scope.EXTERNAL)
            for scope in scopes if ends else ():
                yield Frontend(
                    address, port.host_port, port.protocol, pod.key, "", "HostPort", backends=ends[:1], scope=scope
                )

    def _places(self, text: str) -> list[IPAddress]:
        """Addresses of this node. One of another node is that node's: a row here would lead its clients astray."""
        if not text:
            return [UNSPECIFIED[version] for version in sorted(self._versions)]
        try:
            address = ip_address(text)
        except ValueError:
            raise UnservedError(f"hostIP {text!r} is no IP address") from None
        if address.version not in self._versions:
            raise UnservedError(f"hostIP {text} is IPv{address.version}, which this node does not speak")
        if not (address.is_unspecified or address.is_loopback or address in self._addresses):
            raise UnservedError(f"hostIP {text} is no address of this node; leave it out to take every address")
        return [address]

    def _found(self, name: str) -> dict[str, str]:
        """Messages by field: what is wrong with a pod's host ports, and which of them others have."""
        found = dict(self._unserved.get(name, {}))
        for key in self._claims.keys_of(name):
            owner, _ = self._claims.of(key)[0]
            if owner != name:
                _, port, protocol, _ = key
                found[port_field(port, protocol)] = (
                    f"pod {owner} was first and has it; choose another port, or another node"
                )
        return found


def port_field(port: int, protocol: str) -> str:
    return f"spec.containers.ports[{port}/{protocol}].hostPort"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
