"""ReplicaSets and ReplicationControllers: as many pods of one template as asked for.

In: ReplicaSets, ReplicationControllers and pods. Out: pods created, adopted, released and deleted; their status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import ClassVar

from kubelab.apiserver.errors import ApiError, NotFound
from kubelab.controllers import adoption, objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object


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
    """Also serves ReplicationControllers, which differ in their selector only."""

    name = "replicaset-controller"
    resource: ClassVar[str] = "replicasets.apps"
    kind: ClassVar[str] = "ReplicaSet"

    def watches(self) -> Mapping[str, Mapper]:
        return {self.resource: objects.own_key, "pods": self._of_pod}

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        if objects.controller_of(pod) is not None:
            return objects.controlled_by(self.kind, pod)
        namespace = pod["metadata"]["namespace"]
        candidates = self.store.peek_all(self.resource, namespace=namespace) if objects.labels_of(pod) else []
        return [objects.key_of(candidate) for candidate in candidates if adoption.selects(candidate, pod)]

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        replica_set = self.store.peek(self.resource, name, namespace=namespace)
        if replica_set is None:
            return None
        pods = await adoption.claim(self, replica_set)
        failure: ApiError | None = None
        if not objects.is_deleting(replica_set):
            try:
                await self._scale(replica_set, [pod for pod in pods if objects.is_active(pod)])
            except ApiError as error:
                failure = error
        return await self._report(replica_set, failure)

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
                await self.event(replica_set, "FailedCreate", f"Error creating: {error}", warning=True)
                raise
            await self.event(replica_set, "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")
        if missing >= 0:
            return
        for pod in sorted(active, key=self._ranking(replica_set, active))[:-missing]:
            try:
                await self.store.delete("pods", pod["metadata"]["name"], namespace=namespace, uid=objects.uid_of(pod))
            except NotFound:
                continue
            await self.event(replica_set, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    def _ranking(self, replica_set: Object, active: list[Object]) -> Callable[[Object], tuple[object, ...]]:
        """Of pods that are otherwise alike, those whose node has more of them go first."""
        crowd = Counter((pod.get("spec") or {}).get("nodeName", "") for pod in active)

        def rank(pod: Object) -> tuple[object, ...]:
            *first, age = objects.deletion_rank(pod)
            return (*first, -crowd[(pod.get("spec") or {}).get("nodeName", "")], age)

        return rank

    async def _report(self, replica_set: Object, failure: ApiError | None) -> float | None:
        """Write the status; afterwards a failure of scaling is raised, so that it is retried."""
        every = self.pods.of(replica_set)
        pods = [pod for pod in every if objects.is_active(pod)]
        old = replica_set.get("status") or {}
        status, wait = status_of(replica_set, pods, self.now(), old)
        if self.kind == "ReplicaSet":
            ending = (pod for pod in every if objects.is_deleting(pod) and not objects.is_finished(pod))
            status["terminatingReplicas"] = sum(1 for _ in ending)
        kept = [entry for entry in old.get("conditions") or () if entry["type"] != "ReplicaFailure"]
        if failure is not None:
            new = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": str(failure)}
            kept = objects.with_condition(old.get("conditions") or (), new, self.now())
        status.pop("conditions", None)
        if kept:
            status["conditions"] = kept
        await self.write_status(replica_set, status)
        if failure is not None:
            raise failure
        return wait


class ReplicationControllerController(ReplicaSetController):
    name = "replication-controller"
    resource = "replicationcontrollers"
    kind = "ReplicationController"
