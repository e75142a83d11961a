"""Which addresses stand for services, and for which backends.

In: `services`, `endpoint-slices`, `kube-nodes` (labels of this node), `devices` (its addresses, if node ports answer at
some only), and tables of rows that others want (host ports, local redirects). Out: `frontends`, `service-findings`. A
change touches the services it names and no others; a change of this node touches those that look at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cilium.features.services.claims import Claims, Owner
from cilium.features.services.exposure import Exposure, Place
from cilium.features.services.findings import Findings
from cilium.settings.service_groups import ServiceSettings
from cilium.state import RowChanges, View
from cilium.tables.devices import Device
from cilium.tables.kubernetes import KubeNode
from cilium.tables.services import EndpointSlice, Frontend, FrontendKey, Scope, Service
from cilium.tables.types import IPAddress

ZONE = "topology.kubernetes.io/zone"
OWN_DEVICES = "cilium_"


class Frontends:
    """The derivation. `node`: whose pods are local; `versions`: the IP versions that this node speaks; `others`: inputs
    whose rows are frontends that somebody else wants. `kube-nodes` and `devices` may be missing: nothing is known then.
    """

    def __init__(
        self,
        *,
        node: str,
        versions: frozenset[int],
        settings: ServiceSettings | None = None,
        others: Sequence[str] = (),
    ) -> None:
        self._settings = settings or ServiceSettings(replacement=True)
        self._exposure = Exposure(settings=self._settings, versions=versions)
        self._place = Place(name=node, labels={})
        self._others = tuple(others)
        self._slices: dict[str, dict[str, EndpointSlice]] = {}
        """By service, then by slice."""
        self._claims = Claims()
        self._redirected: set[FrontendKey] = set()
        """Those whose former rows are kept, for those whom a local redirect spares."""
        self._findings = Findings()

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        services = view.snapshots["services"]
        touched = {change.key for change in view.changes["services"]}
        for change in view.changes["endpoint-slices"]:
            touched |= self._file(change.key, change.old, change.new)
        place = self._here(view)
        if place != self._place:
            before, self._place = self._place, place
            touched |= {row.key for row in services if self._looks_at(row, before, place)}
        keys: set[FrontendKey] = set()
        for name in touched:
            keys |= self._claim(name, services.get(name))
        for source in self._others:
            for change in view.changes[source]:
                keys |= self._other(source, change.key, change.new)
        return self._changes(keys)

    def _changes(self, keys: Iterable[FrontendKey]) -> Mapping[str, RowChanges[Any, Any]]:
        upserts, deletes = [], []
        for key in keys:
            verdict = self._claims.verdict(key)
            self._findings.verdict(key, verdict)
            if verdict is None:
                deletes.append(key)
            else:
                upserts.append(verdict.row)
            original = verdict.original if verdict is not None else None
            if original is not None:
                self._redirected.add(key)
                upserts.append(msgspec.structs.replace(original, scope=Scope.ORIGINAL))
            elif key in self._redirected:
                self._redirected.remove(key)
                deletes.append((*key[:3], Scope.ORIGINAL))
        return {
            "frontends": RowChanges(upserts=upserts, deletes=deletes),
            "service-findings": self._findings.changes(),
        }

    def _file(self, key: str, old: EndpointSlice | None, new: EndpointSlice | None) -> set[str]:
        """Notes a slice under its service; returns the services that it concerns."""
        concerned = set()
        if old is not None and old.service:
            members = self._slices.get(old.service_key, {})
            members.pop(key, None)
            if not members:
                self._slices.pop(old.service_key, None)
            concerned.add(old.service_key)
        if new is not None and new.service:
            self._slices.setdefault(new.service_key, {})[key] = new
            concerned.add(new.service_key)
        return concerned

    def _claim(self, name: str, service: Service | None) -> set[FrontendKey]:
        """Replaces what a service claims and what is wrong with it; returns the keys that may have changed."""
        owner = Owner("services", name)
        if service is None:
            self._findings.flaws(name, ())
            return self._claims.replace(owner, "", ())
        known = self._slices.get(name, {})
        slices = tuple(known[key] for key in sorted(known))  # of two that say the same, always the same one counts
        self._findings.flaws(name, self._exposure.flaws(service, slices, self._place))
        return self._claims.replace(owner, service.created, self._exposure.rows(service, slices, self._place))

    def _other(self, source: str, key: FrontendKey, row: Frontend | None) -> set[FrontendKey]:
        """Their derivation has settled who of theirs is first: here kinds decide."""
        owner = Owner(source, "/".join(map(str, key)))
        return self._claims.replace(owner, "", () if row is None else (row,))

    def _here(self, view: View) -> Place:
        """This node as it is now. While it is not known, it is what it was."""
        place = self._place
        labels, zone, addresses = place.labels, place.zone, place.addresses
        node: KubeNode | None = None
        if view.changes.get("kube-nodes"):
            node = view.snapshots["kube-nodes"].get(place.name)
        if node is not None:
            labels, zone = node.labels, node.labels.get(ZONE, "")
        if self._settings.node_port_addresses and view.changes.get("devices"):
            addresses = tuple(sorted(self._chosen(view.snapshots["devices"]), key=lambda each: (each.version, each)))
        return Place(name=place.name, labels=labels, zone=zone, addresses=addresses)

    def _chosen(self, devices: Iterable[Device]) -> Iterator[IPAddress]:
        """Addresses of this node at which node ports answer. Loopback addresses are every pod's own, too, so no row can
        stand for those of the node.
        """
        found = {
            interface.ip
            for device in devices
            for interface in device.addresses
            if not device.name.startswith(OWN_DEVICES)
            and not interface.ip.is_loopback
            and not interface.ip.is_link_local
        }
        for address in found:
            networks = self._settings.node_port_addresses
            if any(address.version == network.version and address in network for network in networks):
                yield address

    @staticmethod
    def _looks_at(service: Service, before: Place, now: Place) -> bool:
        """Whether a service depends on what has changed of this node."""
        return (
            (service.topology and before.zone != now.zone)
            or (bool(service.nodes) and before.labels != now.labels)
            or (service.kind != "ClusterIP" and before.addresses != now.addresses)
        )
