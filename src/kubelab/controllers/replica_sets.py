"""ReplicaSets: as many pods of one template as asked for.

In: ReplicaSets and pods. Out: pods created, adopted, released and deleted; the ReplicaSet's status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from kubelab.apiserver.errors import ApiError, NotFound
from kubelab.apiserver.selectors import from_spec
from kubelab.controllers import events, objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
RESOURCE = "replicasets.apps"


def deletion_rank(pod: Object) -> tuple[int, int, int, int, str]:
    """Sort key: whoever comes first is deleted first. Unscheduled, then pending, then not ready, then cheap, then
    young.
    """
    phase = (pod.get("status") or {}).get("phase", "Pending")
    cost = objects.annotations_of(pod).get(DELETION_COST, "0")
    created = objects.parse_time(pod["metadata"].get("creationTimestamp"))
    return (
        1 if (pod.get("spec") or {}).get("nodeName") else 0,
        0 if phase == "Pending" else 1,
        1 if objects.is_ready(pod) else 0,
        int(cost) if cost.lstrip("-").isdecimal() else 0,
        # Younger first: invert by subtracting from a far time.
        f"{10**12 - int(created.timestamp()) if created else 0:014d}{pod['metadata']['name']}",
    )


def status_of(replica_set: Object, pods: list[Object], now: datetime, old: Object) -> tuple[Object, float | None]:
    """The status that these active pods make, and when it will change by time alone."""
    spec = replica_set["spec"]
    template_labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    waits = [objects.available_in(pod, spec.get("minReadySeconds", 0), now) for pod in pods]
    status = {
        **{name: value for name, value in old.items() if name == "conditions"},
        "replicas": len(pods),
        "fullyLabeledReplicas": sum(template_labels.items() <= objects.labels_of(pod).items() for pod in pods),
        "readyReplicas": sum(objects.is_ready(pod) for pod in pods),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "observedGeneration": replica_set["metadata"].get("generation", 0),
    }
    for name in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
        if not status[name]:
            del status[name]  # zero is absent, as in the API
    return status, min((wait for wait in waits if wait), default=None)


class ReplicaSetController(Controller):
    name = "replicaset-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {RESOURCE: objects.own_key, "pods": self._of_pod}

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        owner = objects.controller_of(pod)
        if owner is not None:
            return objects.controlled_by("ReplicaSet", pod)
        namespace, labels = pod["metadata"]["namespace"], objects.labels_of(pod)
        candidates = self.store.peek_all(RESOURCE, namespace=namespace) if labels else []
        return [objects.key_of(candidate) for candidate in candidates if self._selects(candidate, pod)]

    @staticmethod
    def _selects(replica_set: Object, pod: Object) -> bool:
        selector = from_spec(replica_set["spec"].get("selector"))
        return selector is not None and bool(selector.requirements) and selector.matches(objects.labels_of(pod))

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        replica_set = self.store.peek(RESOURCE, name, namespace=namespace)
        if replica_set is None:
            return None
        pods = await self._claim(replica_set)
        active = [pod for pod in pods if objects.is_active(pod)]
        failure: ApiError | None = None
        if not objects.is_deleting(replica_set):
            try:
                await self._scale(replica_set, active)
            except ApiError as error:
                failure = error
        return await self._report(replica_set, failure)

    async def _claim(self, replica_set: Object) -> list[Object]:
        """Own pods; matching pods without a controller are adopted, own pods that match no more are released."""
        namespace, uid = replica_set["metadata"]["namespace"], objects.uid_of(replica_set)
        claimed = []
        for pod in self.store.peek_all("pods", namespace=namespace):
            owner, matches = objects.controller_of(pod), self._selects(replica_set, pod)
            mine = owner is not None and owner["uid"] == uid
            if mine and not matches:
                rest = [entry for entry in objects.owners_of(pod) if entry["uid"] != uid]
                await self._set_owners(pod, rest)
            elif mine:
                claimed.append(pod)
            elif owner is None and matches and objects.is_active(pod) and not objects.is_deleting(replica_set):
                owners = [*objects.owners_of(pod), objects.owner_reference(replica_set)]
                claimed.append(await self._set_owners(pod, owners))
        return claimed

    async def _set_owners(self, pod: Object, owners: list[Object]) -> Object:
        metadata = pod["metadata"]
        patch = {"metadata": {"ownerReferences": owners or None, "uid": metadata["uid"]}}
        return await self.store.patch("pods", metadata["name"], patch, namespace=metadata["namespace"])

    async def _scale(self, replica_set: Object, active: list[Object]) -> None:
        wanted = replica_set["spec"].get("replicas", 1)
        missing = wanted - len(active)
        namespace, name = objects.key_of(replica_set)
        for _ in range(missing):
            pod = objects.pod_from_template(
                replica_set["spec"].get("template") or {}, owner=replica_set, prefix=f"{name}-", labels={}
            )
            try:
                created = await self.store.create("pods", pod, namespace=namespace)
            except ApiError as error:
                await self._event(replica_set, "FailedCreate", f"Error creating: {error}", warning=True)
                raise
            await self._event(replica_set, "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")
        for pod in sorted(active, key=deletion_rank)[: max(0, -missing)]:
            try:
                await self.store.delete("pods", pod["metadata"]["name"], namespace=namespace, uid=objects.uid_of(pod))
            except NotFound:
                continue
            await self._event(replica_set, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    async def _report(self, replica_set: Object, failure: ApiError | None) -> float | None:
        """Write the status; afterwards a failure of scaling is raised, so that it is retried."""
        namespace, name = objects.key_of(replica_set)
        uid = objects.uid_of(replica_set)
        pods = [
            pod
            for pod in self.store.peek_all("pods", namespace=namespace)
            if objects.is_active(pod) and (objects.controller_of(pod) or {}).get("uid") == uid
        ]
        old = replica_set.get("status") or {}
        status, wait = status_of(replica_set, pods, self.now(), old)
        kept = [entry for entry in old.get("conditions") or () if entry["type"] != "ReplicaFailure"]
        if failure is not None:
            new = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": str(failure)}
            kept = objects.with_condition(old.get("conditions") or (), new, self.now())
        status.pop("conditions", None)
        if kept:
            status["conditions"] = kept
        if status != old:
            current = self.store.peek(RESOURCE, name, namespace=namespace)
            if current is not None and objects.uid_of(current) == uid:
                await self.store.update(RESOURCE, {**current, "status": status}, subresource="status")
        if failure is not None:
            raise failure
        return wait

    async def _event(self, replica_set: Object, reason: str, message: str, *, warning: bool = False) -> None:
        await events.record(
            self.store,
            replica_set,
            kind="Warning" if warning else "Normal",
            reason=reason,
            message=message,
            component=self.name,
            now=self.now(),
        )
