"""Claims and volumes find each other.

In: PersistentVolumeClaims, PersistentVolumes, StorageClasses. Out: both sides of a binding, phases, events; volumes
whose claim is gone are released, and deleted if their reclaim policy says so. Volumes for claims that none suits are
made by the provisioner, for the node on which the claim's first pod will run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from kubelab.apiserver.store import Store
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object
from kubelab.controllers.storage import matching
from kubelab.controllers.storage.matching import CLAIMS, CLASSES, VOLUMES
from kubelab.controllers.storage.provisioner import Provisioner

BOUND_BY = "pv.kubernetes.io/bound-by-controller"
COMPLETED = "pv.kubernetes.io/bind-completed"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"


class VolumeController(Controller):
    """Keys with a namespace are claims, those without are volumes."""

    name = "persistentvolume-controller"

    def __init__(
        self, store: Store, *, pods: PodIndex, now: Callable[[], datetime], provisioner: Provisioner | None
    ) -> None:
        super().__init__(store, pods=pods, now=now)
        self._provisioner = provisioner

    def watches(self) -> Mapping[str, Mapper]:
        return {CLAIMS: self._of_claim, VOLUMES: self._of_volume, CLASSES: self._of_class}

    @staticmethod
    def _of_claim(claim: Object) -> Iterable[Key]:
        yield objects.key_of(claim)
        if name := claim["spec"].get("volumeName"):
            yield "", name

    def _of_volume(self, volume: Object) -> Iterable[Key]:
        yield "", volume["metadata"]["name"]
        reference = volume["spec"].get("claimRef")
        if reference is not None:
            yield reference.get("namespace", ""), reference["name"]
        elif (volume.get("status") or {}).get("phase") == "Available":
            yield from self._pending(matching.class_of(volume))

    def _of_class(self, storage_class: Object) -> Iterable[Key]:
        return self._pending(storage_class["metadata"]["name"])

    def _pending(self, storage_class: str) -> list[Key]:
        return [
            objects.key_of(claim)
            for claim in self.store.peek_all(CLAIMS)
            if not matching.is_bound(claim) and matching.class_of(claim) == storage_class
        ]

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        if not namespace:
            volume = self.store.peek(VOLUMES, name)
            if volume is not None and not objects.is_deleting(volume):
                await self._see_to_volume(volume)
            return None
        claim = self.store.peek(CLAIMS, name, namespace=namespace)
        if claim is not None and not objects.is_deleting(claim):
            await self._see_to_claim(claim)
        return None

    # ---- claims -----------------------------------------------------------------------------------------------------

    async def _see_to_claim(self, claim: Object) -> None:
        if name := claim["spec"].get("volumeName"):
            await self._complete(claim, name)
            return
        storage_class = self.store.peek(CLASSES, matching.class_of(claim))
        delayed = matching.waits_for_consumer(storage_class)
        selected = objects.annotations_of(claim).get(matching.SELECTED_NODE)
        volume = self._reserved(claim)
        if volume is None and not (delayed and selected is None):
            node = self.store.peek("nodes", selected) if selected else None
            volume = matching.best(self.store.peek_all(VOLUMES), claim, node)
        if volume is not None:
            await self._bind(claim, volume)
        elif delayed and selected is None:
            await self._say(claim, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
        elif matching.provisions(storage_class) and storage_class is not None:
            await self._provision(claim, storage_class, selected)
        elif matching.class_of(claim) and storage_class is None:
            text = f'storageclass.storage.k8s.io "{matching.class_of(claim)}" not found'
            await self._say(claim, "ProvisioningFailed", text, warning=True)
        else:
            text = "no persistent volumes available for this claim and no storage class is set"
            await self._say(claim, "FailedBinding", text)

    async def _say(self, claim: Object, reason: str, text: str, *, warning: bool = False) -> None:
        await self._set_phase(claim, "Pending")
        await self.event(claim, reason, text, warning=warning)

    def _reserved(self, claim: Object) -> Object | None:
        """A volume whose claimRef names this claim already: the scheduler's choice, or its author's."""
        for volume in self.store.peek_all(VOLUMES):
            reference = volume["spec"].get("claimRef")
            if reference is not None and matching.means(reference, claim) and matching.suits(volume, claim):
                return volume
        return None

    async def _provision(self, claim: Object, storage_class: Object, selected: str | None) -> None:
        await self._set_phase(claim, "Pending")
        maker = storage_class["provisioner"]
        claim = await self._annotate(claim, {PROVISIONER: maker})
        if self._provisioner is None or maker != self._provisioner.name:
            text = (
                f"Waiting for a volume to be created either by the external provisioner '{maker}' or manually by the "
                "system administrator. If volume creation is delayed, please verify that the provisioner is running "
                "and correctly registered."
            )
            await self.event(claim, "ExternalProvisioning", text)
            return
        node = self.store.peek("nodes", selected) if selected else self._any_node()
        if node is None:
            text = f"failed to get target node: node {selected!r} not found" if selected else "there are no nodes"
            await self.event(claim, "ProvisioningFailed", text, warning=True)
            if selected:
                await self._annotate(claim, {matching.SELECTED_NODE: None})  # the scheduler chooses again
            return
        path = "/".join(objects.key_of(claim))
        await self.event(claim, "Provisioning", f'External provisioner is provisioning volume for claim "{path}"')
        volume = self._provisioner.volume(claim, storage_class, node)
        if self.store.peek(VOLUMES, volume["metadata"]["name"]) is None:
            volume = await self.store.create(VOLUMES, volume)
        text = f"Successfully provisioned volume {volume['metadata']['name']}"
        await self.event(claim, "ProvisioningSucceeded", text)
        await self._bind(claim, volume)

    def _any_node(self) -> Object | None:
        ready = (
            node
            for node in self.store.peek_all("nodes")
            if (objects.condition(node, "Ready") or {}).get("status") == "True" and not objects.is_deleting(node)
        )
        return min(ready, key=lambda node: str(node["metadata"]["name"]), default=None)

    async def _annotate(self, obj: Object, annotations: Mapping[str, str | None]) -> Object:
        if all(objects.annotations_of(obj).get(name) == value for name, value in annotations.items()):
            return obj
        namespace, name = objects.key_of(obj)
        patch = {"metadata": {"annotations": dict(annotations)}}
        return await self.store.patch(CLAIMS if namespace else VOLUMES, name, patch, namespace=namespace)

    # ---- the binding ------------------------------------------------------------------------------------------------

    async def _bind(self, claim: Object, volume: Object) -> None:
        """First the volume's side, then the claim's: whoever dies in between finds the claim reserved."""
        namespace, name = objects.key_of(claim)
        reference = volume["spec"].get("claimRef") or {}
        if reference.get("uid") != objects.uid_of(claim):
            new = {
                "kind": "PersistentVolumeClaim",
                "apiVersion": "v1",
                "namespace": namespace,
                "name": name,
                "uid": objects.uid_of(claim),
                "resourceVersion": claim["metadata"]["resourceVersion"],
            }
            patch: Object = {"spec": {"claimRef": new}}
            if not reference:
                patch["metadata"] = {"annotations": {BOUND_BY: "yes"}}
            volume = await self.store.patch(VOLUMES, volume["metadata"]["name"], patch)
        patch = {
            "spec": {"volumeName": volume["metadata"]["name"]},
            "metadata": {"annotations": {COMPLETED: "yes", BOUND_BY: "yes"}},
        }
        claim = await self.store.patch(CLAIMS, name, patch, namespace=namespace)
        await self._complete(claim, volume["metadata"]["name"])

    async def _complete(self, claim: Object, name: str) -> None:
        """A claim that names its volume: both become Bound, or the claim waits for the volume, or has lost it."""
        volume = self.store.peek(VOLUMES, name)
        was_bound = COMPLETED in objects.annotations_of(claim)
        if volume is None or not matching.means(volume["spec"].get("claimRef") or _wish(claim), claim):
            if was_bound:
                text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
                await self._set_phase(claim, "Lost")
                await self.event(claim, "ClaimLost", text, warning=True)
            else:
                await self._set_phase(claim, "Pending")
            return
        if (volume["spec"].get("claimRef") or {}).get("uid") != objects.uid_of(claim) or not was_bound:
            await self._bind_written(claim, volume)
            return
        await self.write_status(volume, {**(volume.get("status") or {}), "phase": "Bound"})
        spec = volume["spec"]
        bound = {"phase": "Bound", "accessModes": spec["accessModes"], "capacity": spec["capacity"]}
        await self.write_status(claim, {**(claim.get("status") or {}), **bound})

    async def _bind_written(self, claim: Object, volume: Object) -> None:
        """The user named the volume: bind to it if it suits."""
        if matching.suits(volume, claim):
            await self._bind(claim, volume)
        else:
            await self._set_phase(claim, "Pending")
            text = f"Cannot bind to requested volume {volume['metadata']['name']!r}: it does not suit the claim"
            await self.event(claim, "VolumeMismatch", text, warning=True)

    async def _set_phase(self, obj: Object, phase: str) -> None:
        await self.write_status(obj, {**(obj.get("status") or {}), "phase": phase})

    # ---- volumes ----------------------------------------------------------------------------------------------------

    async def _see_to_volume(self, volume: Object) -> None:
        reference = volume["spec"].get("claimRef")
        if reference is None or not reference.get("uid"):
            await self._set_phase(volume, "Available")
            return
        claim = self.store.peek(CLAIMS, reference["name"], namespace=reference.get("namespace", ""))
        if claim is not None and objects.uid_of(claim) == reference["uid"]:
            if matching.is_bound(claim):
                await self._set_phase(volume, "Bound")
            return
        await self._set_phase(volume, "Released")
        if volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete":
            return
        if self._provisioner is not None and self._provisioner.made(volume):
            self._provisioner.wipe(volume)
            await self.store.delete(VOLUMES, volume["metadata"]["name"])
        elif "hostPath" in volume["spec"] or "local" in volume["spec"]:
            text = "error getting deleter volume plugin for volume: no deletable volume plugin matched"
            status = {**(volume.get("status") or {}), "phase": "Failed", "message": text}
            await self.write_status(volume, status)
            await self.event(volume, "VolumeFailedDelete", text, warning=True)


def _wish(claim: Object) -> Object:
    """The claimRef that a free volume would get."""
    namespace, name = objects.key_of(claim)
    return {"namespace": namespace, "name": name}
