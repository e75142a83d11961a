"""Endpoints that somebody wrote by hand, as EndpointSlices: for Services without a selector.

In: Endpoints and their Services. Out: slices that follow the Endpoints and go with them.
Source: Kubernetes documentation, "EndpointSlice mirroring".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.network.endpoint_slices import MANAGER_LABEL, MAX_ENDPOINTS, RESOURCE, SERVICE_LABEL
from kubelab.controllers.objects import Object

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
_NOT_MIRRORED = ("kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time")


def mirrored(service: Object | None, endpoints: Object | None) -> bool:
    if service is None or endpoints is None or objects.is_deleting(endpoints):
        return False
    by_hand = not service["spec"].get("selector") and service["spec"].get("type") != "ExternalName"
    return by_hand and objects.labels_of(endpoints).get(SKIP_LABEL) != "true"


def slices_of(endpoints: Object) -> Iterator[Object]:
    """The content of the slices: one per subset, family and hundred addresses."""
    for subset in endpoints.get("subsets") or ():
        ports = [
            {"name": port.get("name", ""), "port": port["port"], "protocol": port.get("protocol", "TCP")}
            for port in subset.get("ports") or ()
        ]
        families: dict[str, list[Object]] = {}
        for kind, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(kind) or ():
                family = f"IPv{ip_address(address['ip']).version}"
                families.setdefault(family, []).append(_endpoint(address, ready))
        for family, members in sorted(families.items()):
            for start in range(0, len(members), MAX_ENDPOINTS):
                yield {"addressType": family, "ports": ports, "endpoints": members[start : start + MAX_ENDPOINTS]}


def _endpoint(address: Object, ready: bool) -> Object:
    kept = {name: address[name] for name in ("hostname", "nodeName", "targetRef") if address.get(name)}
    return {"addresses": [address["ip"]], "conditions": {"ready": ready}, **kept}


class MirroringController(Controller):
    name = "endpointslice-mirroring-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {"endpoints": objects.own_key, "services": objects.own_key, RESOURCE: self._of_slice}

    @staticmethod
    def _of_slice(obj: Object) -> Iterable[Key]:
        labels = objects.labels_of(obj)
        if labels.get(MANAGER_LABEL) == MANAGER and SERVICE_LABEL in labels:
            yield obj["metadata"]["namespace"], labels[SERVICE_LABEL]

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        service = self.store.peek("services", name, namespace=namespace)
        endpoints = self.store.peek("endpoints", name, namespace=namespace)
        present = [
            obj for obj in self.store.peek_all(RESOURCE, namespace=namespace) if key in tuple(self._of_slice(obj))
        ]
        wanted = list(slices_of(endpoints)) if endpoints is not None and mirrored(service, endpoints) else []
        free = []
        for obj in present:
            content = {field: obj.get(field) or [] for field in ("addressType", "ports", "endpoints")}
            if content in wanted:
                wanted.remove(content)
            else:
                free.append(obj)
        for obj in free:
            twin = next((content for content in wanted if content["addressType"] == obj["addressType"]), None)
            if twin is None:
                await self.store.delete(RESOURCE, obj["metadata"]["name"], namespace=namespace)
            else:
                wanted.remove(twin)
                await self.store.update(RESOURCE, {**obj, **twin}, namespace=namespace)
        for content in wanted:
            await self._create(endpoints or {}, content)
        return None

    async def _create(self, endpoints: Object, content: Object) -> None:
        namespace, name = objects.key_of(endpoints)
        annotations = {k: v for k, v in objects.annotations_of(endpoints).items() if k not in _NOT_MIRRORED}
        labels = {**objects.labels_of(endpoints), SERVICE_LABEL: name, MANAGER_LABEL: MANAGER}
        metadata = {
            "generateName": f"{name}-",
            "namespace": namespace,
            "labels": labels,
            **({"annotations": annotations} if annotations else {}),
            "ownerReferences": [objects.owner_reference(endpoints)],
        }
        body = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, **content}
        await self.store.create(RESOURCE, body, namespace=namespace)
