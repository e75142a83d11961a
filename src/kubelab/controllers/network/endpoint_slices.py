"""EndpointSlices: the addresses behind each Service, per family, in pieces of at most a hundred.

In: Services with selectors, pods, nodes (zones). Out: discovery.k8s.io/v1 EndpointSlices. An endpoint stays in its
slice while it lives, so that one pod's change is one slice's change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.network.endpoint_addresses import Backend, backends_of, families_of, selector_of
from kubelab.controllers.objects import Object

RESOURCE = "endpointslices.discovery.k8s.io"
MANAGER = "endpointslice-controller.k8s.io"
SERVICE_LABEL, MANAGER_LABEL = "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"
HEADLESS_LABEL = "service.kubernetes.io/headless"
ZONE_LABEL = "topology.kubernetes.io/zone"
MAX_ENDPOINTS = 100


@dataclass
class Plan:
    """What to write: new slices, slices with new content, names of slices to delete."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)


def endpoint(backend: Backend, service: Object, zones: Mapping[str, str]) -> Object:
    conditions = {"ready": backend.ready, "serving": backend.serving, "terminating": backend.terminating}
    found: Object = {
        "addresses": [backend.address],
        "conditions": conditions,
        "nodeName": backend.node,
        "targetRef": {
            "kind": "Pod",
            "namespace": service["metadata"]["namespace"],
            "name": backend.pod,
            "uid": backend.uid,
        },
    }
    if backend.hostname:
        found["hostname"] = backend.hostname
    if zones.get(backend.node):
        found["zone"] = zones[backend.node]
    if backend.ready and (hints := _hints(backend, service["spec"].get("trafficDistribution"), found.get("zone"))):
        found["hints"] = hints
    return found


def _hints(backend: Backend, wish: str | None, zone: str | None) -> Object:
    """For whom the endpoint is near, if the Service wishes that traffic stays near."""
    near = {"forZones": [{"name": zone}]} if zone else {}
    if wish == "PreferSameNode":
        return {"forNodes": [{"name": backend.node}], **near}
    return near if wish in ("PreferSameZone", "PreferClose") else {}


def slice_ports(backend: Backend) -> list[Object]:
    return [
        {
            "name": port.name,
            "port": port.number,
            "protocol": port.protocol,
            **({"appProtocol": port.app_protocol} if port.app_protocol else {}),
        }
        for port in backend.ports
    ]


def plan(service: Object, backends: Sequence[Backend], present: Sequence[Object], zones: Mapping[str, str]) -> Plan:
    """The fewest writes that make the present slices say what the backends are."""
    result = Plan()
    groups: dict[tuple[str, tuple[object, ...]], dict[str, Backend]] = {}
    for backend in backends:
        groups.setdefault((backend.family, backend.ports), {})[backend.address] = backend
    # A Service without a pod has an empty slice of each family: watchers learn that there is nobody.
    for family in families_of(service):
        if not any(known == family for known, _ in groups):
            groups[(family, ())] = {}
    kept: dict[tuple[str, tuple[object, ...]], list[Object]] = {group: [] for group in groups}
    for old in present:
        group = _group_of(old, groups)
        if group is None or objects.is_deleting(old):
            result.delete.append(old["metadata"]["name"])
        else:
            kept[group].append(old)
    labels = _labels(service)
    for group, wanted in groups.items():
        _fill(service, group, dict(wanted), kept[group], zones, labels, result)
    return result


def _group_of(
    old: Object, groups: Mapping[tuple[str, tuple[object, ...]], Mapping[str, Backend]]
) -> tuple[str, tuple[object, ...]] | None:
    for group, members in groups.items():
        first = next(iter(members.values()), None)
        ports = slice_ports(first) if first is not None else []
        if old["addressType"] == group[0] and (old.get("ports") or []) == ports:
            return group
    return None


def _fill(
    service: Object,
    group: tuple[str, tuple[object, ...]],
    wanted: dict[str, Backend],
    slices: list[Object],
    zones: Mapping[str, str],
    labels: Mapping[str, str],
    result: Plan,
) -> None:
    """Distribute the backends of one group: those with a place keep it, the others fill gaps, then new slices."""
    first = next(iter(wanted.values()), None)
    ports = slice_ports(first) if first is not None else []
    contents: list[tuple[Object, list[Backend]]] = []
    for old in slices:
        addresses = [entry["addresses"][0] for entry in old.get("endpoints") or ()]
        contents.append((old, [wanted.pop(address) for address in addresses if address in wanted]))
    rest = list(wanted.values())
    for _, members in contents:
        room = MAX_ENDPOINTS - len(members)
        members.extend(rest[:room])
        rest = rest[room:]
    # An emptied slice goes, unless it is the last that says there is nobody.
    occupied = [(old, members) for old, members in contents if members]
    spared = occupied or contents[:1]
    result.delete += [old["metadata"]["name"] for old, members in contents if (old, members) not in spared]
    for old, members in spared:
        new = {
            **old,
            "metadata": {**old["metadata"], "labels": {**objects.labels_of(old), **labels}},
            "endpoints": [endpoint(member, service, zones) for member in members],
        }
        if new != old:
            result.update.append(new)
    chunks = [rest[start : start + MAX_ENDPOINTS] for start in range(0, len(rest), MAX_ENDPOINTS)]
    for members in chunks or ([] if spared else [[]]):
        result.create.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "generateName": f"{service['metadata']['name']}-",
                    "namespace": service["metadata"]["namespace"],
                    "labels": dict(labels),
                    "ownerReferences": [objects.owner_reference(service)],
                },
                "addressType": group[0],
                "endpoints": [endpoint(member, service, zones) for member in members],
                "ports": ports,
            }
        )


def _labels(service: Object) -> dict[str, str]:
    labels = {k: v for k, v in objects.labels_of(service).items() if k not in (SERVICE_LABEL, MANAGER_LABEL)}
    labels |= {SERVICE_LABEL: service["metadata"]["name"], MANAGER_LABEL: MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    return labels


class EndpointSliceController(Controller):
    name = "endpointslice-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {"services": objects.own_key, "pods": self._of_pod, RESOURCE: self._of_slice, "nodes": self._of_node}

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        labels = objects.labels_of(pod)
        for service in self.store.peek_all("services", namespace=pod["metadata"]["namespace"]):
            selector = selector_of(service)
            if selector is not None and selector.matches(labels):
                yield objects.key_of(service)

    @staticmethod
    def _of_slice(obj: Object) -> Iterable[Key]:
        labels = objects.labels_of(obj)
        if labels.get(MANAGER_LABEL) == MANAGER and SERVICE_LABEL in labels:
            yield obj["metadata"]["namespace"], labels[SERVICE_LABEL]

    def _of_node(self, node: Object) -> Iterable[Key]:
        """A node concerns slices only through its zone."""
        name, zone = node["metadata"]["name"], objects.labels_of(node).get(ZONE_LABEL, "")
        for obj in self.store.peek_all(RESOURCE):
            if any(e.get("nodeName") == name and e.get("zone", "") != zone for e in obj.get("endpoints") or ()):
                yield from self._of_slice(obj)

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        service = self.store.peek("services", name, namespace=namespace)
        present = [
            obj for obj in self.store.peek_all(RESOURCE, namespace=namespace) if key in tuple(self._of_slice(obj))
        ]
        selector = selector_of(service) if service is not None else None
        if service is None or selector is None or objects.is_deleting(service):
            for obj in present:
                await self.store.delete(RESOURCE, obj["metadata"]["name"], namespace=namespace)
            return None
        pods = [
            pod for pod in self.store.peek_all("pods", namespace=namespace) if selector.matches(objects.labels_of(pod))
        ]
        zones = {
            node["metadata"]["name"]: objects.labels_of(node).get(ZONE_LABEL, "")
            for node in self.store.peek_all("nodes")
        }
        steps = plan(service, backends_of(service, pods), present, zones)
        for obj in steps.create:
            await self.store.create(RESOURCE, obj, namespace=namespace)
        for obj in steps.update:
            await self.store.update(RESOURCE, obj, namespace=namespace)
        for old in steps.delete:
            await self.store.delete(RESOURCE, old, namespace=namespace)
        return None
