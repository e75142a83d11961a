"""Deployments: a ReplicaSet per template, and the way from one to the next.

In: Deployments and their ReplicaSets. Out: ReplicaSets created, scaled and forgotten; status with its conditions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

from kubelab.apiserver.errors import AlreadyExists
from kubelab.apiserver.selectors import from_spec
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object
from kubelab.controllers.workloads import rollout
from kubelab.controllers.workloads.deployment_status import status_of

RESOURCE, SETS = "deployments.apps", "replicasets.apps"
HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"
HISTORY = "deployment.kubernetes.io/revision-history"
NOT_INHERITED = (REVISION, HISTORY, DESIRED, MOST, "kubectl.kubernetes.io/last-applied-configuration")


def without_hash(template: Object) -> Object:
    plain = copy.deepcopy(template)
    labels = (plain.get("metadata") or {}).get("labels") or {}
    labels.pop(HASH_LABEL, None)
    return plain


def inherited(deployment: Object) -> dict[str, str]:
    """Annotations that a Deployment hands on to its newest set."""
    return {k: v for k, v in objects.annotations_of(deployment).items() if k not in NOT_INHERITED}


def size_annotations(deployment: Object) -> dict[str, str]:
    """Of what size its sets are a part: they tell later whether the size has changed, and by how much."""
    wanted = deployment["spec"].get("replicas", 1)
    return {DESIRED: str(wanted), MOST: str(wanted + rollout.budget_of(deployment["spec"]).surge)}


def _number(obj: Object, annotation: str) -> int | None:
    text = objects.annotations_of(obj).get(annotation, "")
    return int(text) if text.isdecimal() else None


def _was_resized(deployment: Object, sets: Iterable[Object]) -> bool:
    """Whether a set that has pods has them for another size."""
    wanted = deployment["spec"].get("replicas", 1)
    known = (_number(entry, DESIRED) for entry in sets if entry["spec"].get("replicas", 1))
    return any(size is not None and size != wanted for size in known)


def _is_saturated(deployment: Object, replica_set: Object) -> bool:
    """All that is wanted, and available, is of this set."""
    wanted = deployment["spec"].get("replicas", 1)
    available = (replica_set.get("status") or {}).get("availableReplicas", 0)
    return bool(replica_set["spec"].get("replicas", 1) == wanted == available == _number(replica_set, DESIRED))


def revision_of(obj: Object) -> int:
    return _number(obj, REVISION) or 0


def new_set_of(deployment: Object, sets: Iterable[Object]) -> Object | None:
    """The ReplicaSet of the present template; the oldest, should there be several."""
    wanted = without_hash(deployment["spec"]["template"])
    same = [entry for entry in sets if without_hash(entry["spec"]["template"]) == wanted]
    return min(
        same, key=lambda entry: (entry["metadata"]["creationTimestamp"], entry["metadata"]["name"]), default=None
    )


def replicas_of(replica_set: Object) -> rollout.Replicas:
    status = replica_set.get("status") or {}
    wanted = replica_set["spec"].get("replicas", 1)
    return rollout.Replicas(replica_set["metadata"]["name"], wanted, status.get("availableReplicas", 0))


class DeploymentController(Controller):
    name = "deployment-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {
            RESOURCE: objects.own_key,
            SETS: lambda replica_set: objects.controlled_by("Deployment", replica_set),
            "pods": self._of_pod,
        }

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        """A pod that goes away concerns a Deployment that waits to recreate."""
        for namespace, name in objects.controlled_by("ReplicaSet", pod):
            replica_set = self.store.peek(SETS, name, namespace=namespace)
            if replica_set is not None:
                yield from objects.controlled_by("Deployment", replica_set)

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        deployment = self.store.peek(RESOURCE, name, namespace=namespace)
        if deployment is None or objects.is_deleting(deployment):
            return None
        sets = await self._claim(deployment)
        new = new_set_of(deployment, sets)
        if new is None and not deployment["spec"].get("paused"):
            new = await self._create(deployment, sets)
        elif new is not None:
            new = await self._mark_revision(deployment, new, sets)
        old = sorted(
            (entry for entry in sets if new is None or objects.uid_of(entry) != objects.uid_of(new)), key=revision_of
        )
        if deployment["spec"].get("paused") or new is None or _was_resized(deployment, sets):
            await self._resize(deployment, new, old)
        else:
            await self._roll(deployment, new, old)
        return await self._report(deployment, new)

    def _sets(self, deployment: Object) -> list[Object]:
        uid = objects.uid_of(deployment)
        return [
            entry
            for entry in self.store.peek_all(SETS, namespace=deployment["metadata"]["namespace"])
            if (objects.controller_of(entry) or {}).get("uid") == uid
        ]

    async def _claim(self, deployment: Object) -> list[Object]:
        """Own ReplicaSets, after adopting matching ones that have no controller."""
        namespace, selector = deployment["metadata"]["namespace"], from_spec(deployment["spec"].get("selector"))
        for entry in self.store.peek_all(SETS, namespace=namespace):
            orphan = objects.controller_of(entry) is None and not objects.is_deleting(entry)
            if orphan and selector is not None and selector.requirements and selector.matches(objects.labels_of(entry)):
                owners = [*objects.owners_of(entry), objects.owner_reference(deployment)]
                patch = {"metadata": {"ownerReferences": owners}}
                await self.store.patch(SETS, entry["metadata"]["name"], patch, namespace=namespace)
        return self._sets(deployment)

    async def _create(self, deployment: Object, sets: list[Object]) -> Object:
        namespace, name = objects.key_of(deployment)
        template = copy.deepcopy(deployment["spec"]["template"])
        digest = objects.template_hash({"template": template, "collisions": self._collisions(deployment)})
        labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: digest}
        template.setdefault("metadata", {})["labels"] = labels
        selector = copy.deepcopy(deployment["spec"]["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}
        revision = max((revision_of(entry) for entry in sets), default=0) + 1
        annotations = inherited(deployment) | size_annotations(deployment) | {REVISION: str(revision)}
        replica_set = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{name}-{digest}",
                "namespace": namespace,
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [objects.owner_reference(deployment)],
            },
            "spec": {
                "replicas": 0,
                "minReadySeconds": deployment["spec"].get("minReadySeconds", 0),
                "selector": selector,
                "template": template,
            },
        }
        try:
            created = await self.store.create(SETS, replica_set, namespace=namespace)
        except AlreadyExists:
            # Another owner's set has the name: the hash moves on by the collision count.
            status = {**(deployment.get("status") or {}), "collisionCount": self._collisions(deployment) + 1}
            await self.store.update(RESOURCE, {**deployment, "status": status}, subresource="status")
            raise
        await self._set_revision(deployment, revision)
        return created

    @staticmethod
    def _collisions(deployment: Object) -> int:
        return int((deployment.get("status") or {}).get("collisionCount", 0))

    async def _mark_revision(self, deployment: Object, new: Object, sets: list[Object]) -> Object:
        """The set in use has the highest revision: a roll-back makes an old set the newest again."""
        others = [revision_of(entry) for entry in sets if entry is not new]
        revision = max(revision_of(new), max(others, default=0) + 1)
        wanted = inherited(deployment) | {REVISION: str(revision)}
        if 0 < revision_of(new) < revision:  # `kubectl rollout history` may be asked for the earlier numbers
            earlier = objects.annotations_of(new).get(HISTORY)
            wanted[HISTORY] = ",".join(filter(None, (earlier, str(revision_of(new)))))
        patience = deployment["spec"].get("minReadySeconds", 0)
        same = wanted.items() <= objects.annotations_of(new).items()
        if not same or new["spec"].get("minReadySeconds", 0) != patience:
            patch = {"metadata": {"annotations": wanted}, "spec": {"minReadySeconds": patience}}
            namespace, name = objects.key_of(new)
            new = await self.store.patch(SETS, name, patch, namespace=namespace)
        await self._set_revision(deployment, revision)
        return new

    async def _set_revision(self, deployment: Object, revision: int) -> None:
        namespace, name = objects.key_of(deployment)
        if revision_of(deployment) != revision:
            patch = {"metadata": {"annotations": {REVISION: str(revision)}}}
            await self.store.patch(RESOURCE, name, patch, namespace=namespace)

    async def _roll(self, deployment: Object, new: Object, old: list[Object]) -> None:
        spec = deployment["spec"]
        wanted = spec.get("replicas", 1)
        if (spec.get("strategy") or {}).get("type", "RollingUpdate") == "Recreate":
            goals = rollout.recreate(
                wanted, replicas_of(new), [replicas_of(entry) for entry in old], old_pods=self._pods_of(old)
            )
        else:
            goals = rollout.rolling(
                wanted, rollout.budget_of(spec), replicas_of(new), [replicas_of(entry) for entry in old]
            )
        for entry in (*old, new):
            await self._scale(deployment, entry, goals[entry["metadata"]["name"]])
        await self._forget(deployment, old)

    def _pods_of(self, sets: list[Object]) -> int:
        """Pods of these sets that still run, also those that are ending."""
        return sum(not objects.is_finished(pod) for entry in sets for pod in self.pods.of(entry))

    async def _resize(self, deployment: Object, new: Object | None, old: list[Object]) -> None:
        """Another size, or a pause: nothing is rolled out, but all sets together follow the size."""
        sets, wanted = [*old, *([new] if new else [])], deployment["spec"].get("replicas", 1)
        running = [entry for entry in sets if entry["spec"].get("replicas", 1)]
        if len(running) <= 1:
            for entry in running or sets[-1:]:
                await self._scale(deployment, entry, wanted)
        elif new is not None and _is_saturated(deployment, new):
            for entry in old:
                await self._scale(deployment, entry, 0)
        elif (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate":
            goals = self._proportions(deployment, running)
            for entry in running:
                await self._scale(deployment, entry, goals[entry["metadata"]["name"]])

    @staticmethod
    def _proportions(deployment: Object, running: list[Object]) -> dict[str, int]:
        """The larger come first; of those alike the younger when pods come, the older when they go."""
        spec = deployment["spec"]
        wanted, budget = spec.get("replicas", 1), rollout.budget_of(spec)
        grows = wanted + budget.surge > sum(entry["spec"].get("replicas", 1) for entry in running)
        by_age = sorted(running, key=lambda entry: str(entry["metadata"]["creationTimestamp"]), reverse=grows)
        ordered = sorted(by_age, key=lambda entry: -int(entry["spec"].get("replicas", 1)))
        shares = [
            rollout.Share(entry["metadata"]["name"], entry["spec"].get("replicas", 1), _number(entry, MOST) or 0)
            for entry in ordered
        ]
        total = (deployment.get("status") or {}).get("replicas", 0)
        return rollout.resized(wanted, budget, shares, total=total)

    async def _scale(self, deployment: Object, replica_set: Object, goal: int) -> None:
        namespace, name = objects.key_of(replica_set)
        before, size = replica_set["spec"].get("replicas", 1), size_annotations(deployment)
        if before == goal and (goal == 0 or size.items() <= objects.annotations_of(replica_set).items()):
            return
        patch = {"spec": {"replicas": goal}, "metadata": {"annotations": size}}
        await self.store.patch(SETS, name, patch, namespace=namespace)
        if before == goal:
            return
        message = f"Scaled {'up' if goal > before else 'down'} replica set {name} from {before} to {goal}"
        await self.event(deployment, "ScalingReplicaSet", message)

    async def _forget(self, deployment: Object, old: list[Object]) -> None:
        """Keep as many empty old sets as the revision history asks for."""
        empty = [
            entry
            for entry in old
            if not entry["spec"].get("replicas", 1) and not (entry.get("status") or {}).get("replicas")
        ]
        surplus = len(empty) - deployment["spec"].get("revisionHistoryLimit", 10)
        for entry in empty[: max(0, surplus)]:
            namespace, name = objects.key_of(entry)
            await self.store.delete(SETS, name, namespace=namespace, uid=objects.uid_of(entry))

    async def _report(self, deployment: Object, new: Object | None) -> float | None:
        namespace, name = objects.key_of(deployment)
        current = self.store.peek(RESOURCE, name, namespace=namespace)
        if current is None or objects.uid_of(current) != objects.uid_of(deployment):
            return None
        if new is not None:
            new = self.store.peek(SETS, new["metadata"]["name"], namespace=namespace)
        status, wait = status_of(current, self._sets(current), new, self.now())
        await self.write_status(current, status)
        return wait
