"""Which ports of the node answer for which Services, what they answer, and what is wrong with them.

In: `services`, `endpoint-slices`, `kube-nodes` (labels of this node); then `health-checks` and the state of its
reconciler. Out: `health-checks`; `health-check-problems`. Only Services that keep traffic from outside on the node that
it reaches (externalTrafficPolicy: Local) have such a port, and only on nodes that serve them: load balancers must know
which nodes to choose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from cilium.features.service_health.rows import HealthCheck
from cilium.state import Kind, RowChanges, View
from cilium.state.claims import Claims
from cilium.tables.problems import ProblemBook, Reason
from cilium.tables.services import EndpointSlice, Service
from cilium.tables.types import IPAddress

FIELD = "spec.healthCheckNodePort"


class HealthCheckPorts:
    """The derivation. `node`: whose endpoints count."""

    def __init__(self, *, node: str) -> None:
        self._node = node
        self._labels: Mapping[str, str] = {}
        """Of this node."""
        self._services: dict[str, Service] = {}
        """Those that have a port."""
        self._slices: dict[str, dict[str, EndpointSlice]] = {}
        """Theirs alone, by service."""
        self._claims: Claims[int, str, HealthCheck] = Claims()

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        touched, fresh, ports = self._follow_services(view)
        touched |= self._follow_slices(view)
        # Slices of a Service may have been there before its port.
        for piece in view.snapshots["endpoint-slices"] if fresh else ():
            if piece.service_key in fresh:
                self._slices[piece.service_key][piece.key] = piece
        for name in touched:
            service = self._services[name]
            row = HealthCheck(service.health_check_node_port, name, self._local_endpoints(name))
            ports |= self._claims.replace(name, (service.created, name), {row.port: row})
        return {"health-checks": self._changes(ports)}

    def _follow_services(self, view: View) -> tuple[set[str], set[str], set[int]]:
        """Services that have a port and changed, those of them that are new, and ports that may be free."""
        touched: set[str] = set()
        fresh: set[str] = set()
        ports: set[int] = set()
        for name in self._concerned(view):
            service = view.snapshots["services"].get(name)
            if service is not None and wants_port(service, self._labels):
                if name not in self._services:
                    fresh.add(name)
                    self._slices[name] = {}
                self._services[name] = service
                touched.add(name)
            elif name in self._services:
                del self._services[name], self._slices[name]
                ports |= self._claims.drop(name)
        return touched, fresh, ports

    def _concerned(self, view: View) -> set[str]:
        """Services to look at again: those that changed and, when this node has other labels, those that look at it."""
        names = {change.key for change in view.changes["services"]}
        for change in view.changes["kube-nodes"]:
            if change.key == self._node and change.new is not None and change.new.labels != self._labels:
                self._labels = change.new.labels
                names |= {service.key for service in view.snapshots["services"] if service.nodes}
        return names

    def _follow_slices(self, view: View) -> set[str]:
        """Services that have a port, and whose slices changed."""
        touched: set[str] = set()
        for change in view.changes["endpoint-slices"]:
            old, new = change.old, change.new
            if old is not None and old.service_key in self._slices:
                self._slices[old.service_key].pop(change.key, None)
                touched.add(old.service_key)
            if new is not None and new.service_key in self._slices:
                self._slices[new.service_key][change.key] = new
                touched.add(new.service_key)
        return touched

    def _local_endpoints(self, name: str) -> int:
        """A pod of two families is in a slice of each, and counts once."""
        found: dict[int, set[IPAddress]] = {4: set(), 6: set()}
        for row in self._slices[name].values():
            for end in row.endpoints:
                if end.node == self._node and end.ready:
                    found[end.address.version].add(end.address)
        return max(map(len, found.values()))

    def _changes(self, ports: Iterable[int]) -> RowChanges[Any, Any]:
        upserts, deletes = [], []
        for port in ports:
            holders = self._claims.of(port)
            if holders:
                rivals = tuple(owner for owner, _ in holders[1:])
                upserts.append(msgspec.structs.replace(holders[0][1], rivals=rivals))
            else:
                deletes.append(port)
        return RowChanges(upserts=upserts, deletes=deletes)


def wants_port(service: Service, labels: Mapping[str, str]) -> bool:
    """On a node with these labels."""
    return (
        bool(service.health_check_node_port)
        and service.kind == "LoadBalancer"
        and service.external_local
        and service.served_by(labels)
    )


class HealthCheckProblems:
    """The derivation of problems: what the servers' reconciler could not do, and who was second."""

    def __init__(self) -> None:
        self._problems = ProblemBook("Service", Reason.HEALTH_CHECK)
        self._known: dict[int, tuple[str, ...]] = {}
        """Services by port."""
        self._errors: dict[int, str] = {}
        """By port; while it is tried again, what it was before."""

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        rows = view.snapshots["health-checks"]
        for change in view.changes["status"]:
            if change.new is None or change.new.kind is Kind.DONE:
                self._errors.pop(change.key, None)
            elif change.new.kind is Kind.ERROR:
                self._errors[change.key] = change.new.error
        found: dict[str, dict[str, str]] = {}
        for port in sorted({change.key for changes in view.changes.values() for change in changes}):
            row: HealthCheck | None = rows.get(port)
            for service in self._known.pop(port, ()):
                found.setdefault(service, {})
            if row is None:
                continue
            self._known[port] = (row.service, *row.rivals)
            for rival in row.rivals:
                found[rival] = {FIELD: f"{port} belongs to Service {row.service}, which is older; choose another port"}
            if port in self._errors:
                found[row.service] = {FIELD: self._errors[port]}
            else:
                found.setdefault(row.service, {})
        return {"health-check-problems": self._problems.report(found)}
