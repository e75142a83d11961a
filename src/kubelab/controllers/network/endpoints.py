"""Endpoints: what older clients read instead of EndpointSlices; the Service's first family only.

In: Services with selectors, and pods. Out: one core/v1 Endpoints object per Service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.network.endpoint_addresses import Backend, backends_of, families_of, selector_of
from kubelab.controllers.objects import Object

RESOURCE = "endpoints"
HEADLESS_LABEL = "service.kubernetes.io/headless"


def subsets_of(service: Object, backends: Sequence[Backend]) -> list[Object]:
    """One subset per set of ports, ready and other addresses apart."""
    family, namespace = families_of(service)[0], service["metadata"]["namespace"]
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    groups: dict[tuple[object, ...], list[Backend]] = {}
    for backend in backends:
        if backend.family == family and (publish or not backend.terminating):
            groups.setdefault(backend.ports, []).append(backend)
    subsets = []
    for members in groups.values():
        subset: Object = {}
        for name, ready in (("addresses", True), ("notReadyAddresses", False)):
            listed = [_address(member, namespace) for member in members if member.ready is ready]
            if listed:
                subset[name] = listed
        ports = [{"name": port.name, "port": port.number, "protocol": port.protocol} for port in members[0].ports]
        if ports:
            subset["ports"] = [{k: v for k, v in port.items() if v != ""} for port in ports]
        subsets.append(subset)
    return subsets


def _address(backend: Backend, namespace: str) -> Object:
    target = {"kind": "Pod", "namespace": namespace, "name": backend.pod, "uid": backend.uid}
    found: Object = {"ip": backend.address, "nodeName": backend.node, "targetRef": target}
    if backend.hostname:
        found["hostname"] = backend.hostname
    return found


class EndpointsController(Controller):
    name = "endpoints-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {"services": objects.own_key, "pods": self._of_pod, RESOURCE: objects.own_key}

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        labels = objects.labels_of(pod)
        for service in self.store.peek_all("services", namespace=pod["metadata"]["namespace"]):
            selector = selector_of(service)
            if selector is not None and selector.matches(labels):
                yield objects.key_of(service)

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        service = self.store.peek("services", name, namespace=namespace)
        present = self.store.peek(RESOURCE, name, namespace=namespace)
        if service is None or objects.is_deleting(service):
            if present is not None and (objects.controller_of(present) or {}).get("kind") == "Service":
                await self.store.delete(RESOURCE, name, namespace=namespace)
            return None
        selector = selector_of(service)
        if selector is None:
            return None  # a Service without a selector: somebody else writes its addresses
        pods = [
            pod for pod in self.store.peek_all("pods", namespace=namespace) if selector.matches(objects.labels_of(pod))
        ]
        subsets = subsets_of(service, backends_of(service, pods))
        labels = dict(objects.labels_of(service))
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS_LABEL] = ""
        metadata: Object = {
            "name": name,
            "namespace": namespace,
            "ownerReferences": [objects.owner_reference(service)],
            **({"labels": labels} if labels else {}),
        }
        if present is None:
            new = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}
            await self.store.create(RESOURCE, new, namespace=namespace)
        elif (present.get("subsets") or []) != subsets or objects.labels_of(present) != labels:
            merged = {**present["metadata"], **metadata}
            await self.store.update(RESOURCE, {**present, "metadata": merged, "subsets": subsets}, namespace=namespace)
        return None
