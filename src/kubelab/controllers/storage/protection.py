"""Nobody loses a volume in use: claims stay while pods use them, volumes while they are bound. And claims of ephemeral
volumes, which come and go with their pod.

In: claims, volumes and pods. Out: finalizers taken off; claims made.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

from kubelab.apiserver.errors import ApiError
from kubelab.apiserver.strategies.storage import CLAIM_FINALIZER, VOLUME_FINALIZER
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling.volumes import claim_names
from kubelab.controllers.storage.matching import CLAIMS, VOLUMES


class ProtectionController(Controller):
    """Keys with a namespace are claims, those without are volumes."""

    name = "volume-protection-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {CLAIMS: objects.own_key, VOLUMES: objects.own_key, "pods": self._of_pod}

    @staticmethod
    def _of_pod(pod: Object) -> Iterable[Key]:
        return [(pod["metadata"]["namespace"], name) for name in claim_names(pod)]

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        resource, finalizer = (CLAIMS, CLAIM_FINALIZER) if namespace else (VOLUMES, VOLUME_FINALIZER)
        obj = self.store.peek(resource, name, namespace=namespace)
        finalizers = (obj or {}).get("metadata", {}).get("finalizers") or ()
        if obj is None or not objects.is_deleting(obj) or finalizer not in finalizers or self._used(obj):
            return None
        patch = {"metadata": {"finalizers": [entry for entry in finalizers if entry != finalizer] or None}}
        await self.store.patch(resource, name, patch, namespace=namespace)
        return None

    def _used(self, obj: Object) -> bool:
        namespace, name = objects.key_of(obj)
        if not namespace:
            return (obj.get("status") or {}).get("phase") == "Bound"
        return any(
            name in claim_names(pod) and not objects.is_finished(pod)
            for pod in self.store.peek_all("pods", namespace=namespace)
        )


class EphemeralVolumeController(Controller):
    name = "ephemeral-volume-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {"pods": self._of_pod}

    @staticmethod
    def _of_pod(pod: Object) -> Iterable[Key]:
        if any("ephemeral" in volume for volume in pod["spec"].get("volumes") or ()):
            yield objects.key_of(pod)

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        pod = self.store.peek("pods", name, namespace=namespace)
        if pod is None or not objects.is_active(pod):
            return None
        for volume in pod["spec"].get("volumes") or ():
            claim = f"{name}-{volume['name']}"
            if "ephemeral" not in volume or self.store.peek(CLAIMS, claim, namespace=namespace) is not None:
                continue
            template = volume["ephemeral"]["volumeClaimTemplate"]
            metadata = {k: v for k, v in (template.get("metadata") or {}).items() if k in ("labels", "annotations")}
            body = {
                "metadata": {**metadata, "name": claim, "ownerReferences": [objects.owner_reference(pod)]},
                "spec": copy.deepcopy(template["spec"]),
            }
            try:
                await self.store.create(CLAIMS, body, namespace=namespace)
            except ApiError as error:
                text = f"ephemeral volume controller failed to create PVC {claim}: {error}"
                await self.event(pod, "FailedBinding", text, warning=True)
                raise
        return None
