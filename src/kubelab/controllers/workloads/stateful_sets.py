"""StatefulSets: pods with names that stay, one after the other.

In: StatefulSets, their pods, claims and revisions. Out: pods and claims created, pods deleted and replaced in the order
that the set asks for; the status; one ControllerRevision per template. A pod is not replaced before it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubelab.apiserver.errors import AlreadyExists, ApiError, NotFound
from kubelab.controllers import adoption, objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object
from kubelab.controllers.workloads import revisions, stateful_pods

RESOURCE, CLAIMS = "statefulsets.apps", "persistentvolumeclaims"


@dataclass(frozen=True)
class Plan:
    """One set as it is found: its revisions, and its pods by number."""

    set: Object
    current: Object
    update: Object
    wanted: range
    pods: Mapping[int, Object]
    ordered: bool
    min_ready: int

    @property
    def condemned(self) -> list[Object]:
        """Pods beyond the wanted numbers, the highest first."""
        return [self.pods[number] for number in sorted(self.pods, reverse=True) if number not in self.wanted]

    def revision_for(self, ordinal: int) -> Object:
        """The template of a new pod: below the partition a rolling update leaves the old one."""
        strategy = self.set["spec"].get("updateStrategy") or {}
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        rolling = strategy.get("type", "RollingUpdate") == "RollingUpdate"
        return self.current if rolling and ordinal < self.wanted.start + partition else self.update


class StatefulSetController(Controller):
    name = "statefulset-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {RESOURCE: objects.own_key, "pods": self._of_pod}

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        if objects.controller_of(pod) is not None:
            return objects.controlled_by("StatefulSet", pod)
        namespace = pod["metadata"]["namespace"]
        candidates = self.store.peek_all(RESOURCE, namespace=namespace) if objects.labels_of(pod) else []
        return [objects.key_of(candidate) for candidate in candidates if adoption.selects(candidate, pod)]

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        stateful_set = self.store.peek(RESOURCE, name, namespace=namespace)
        if stateful_set is None or objects.is_deleting(stateful_set):
            return None
        plan = await self._look(stateful_set)
        failure: ApiError | None = None
        wait: float | None = None
        try:
            wait = await self._work_on(plan)
        except ApiError as error:
            failure = error
        await self._report(plan)
        live = {plan.current["metadata"]["name"], plan.update["metadata"]["name"]}
        live |= {stateful_pods.revision_of(pod) for pod in self.pods.of(stateful_set)}
        await revisions.forget(self.store, stateful_set, live)
        if failure is not None:
            raise failure
        return wait

    async def _look(self, stateful_set: Object) -> Plan:
        digest = objects.template_hash(stateful_set["spec"]["template"])
        update = await revisions.record(
            self.store, stateful_set, {"controller.kubernetes.io/hash": digest}, digest=digest
        )
        known = {entry["metadata"]["name"]: entry for entry in revisions.history_of(self.store, stateful_set)}
        current = known.get((stateful_set.get("status") or {}).get("currentRevision", ""), update)
        pods = {}
        for pod in await adoption.claim(
            self, stateful_set, lambda pod: stateful_pods.ordinal_of(stateful_set, pod) is not None
        ):
            ordinal = stateful_pods.ordinal_of(stateful_set, pod)
            if ordinal is not None:
                pods[ordinal] = pod
        spec = stateful_set["spec"]
        ordered = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        wanted, least = stateful_pods.ordinals(stateful_set), spec.get("minReadySeconds", 0)
        return Plan(stateful_set, current, update, wanted, pods, ordered, least)

    # ---- the steps, each of which may end the round -----------------------------------------------------------------

    async def _work_on(self, plan: Plan) -> float | None:
        """Returns when to look again; pods that come, go and become ready bring the set back by themselves."""
        waits: list[float] = []
        for ordinal in plan.wanted:
            if not await self._provide(plan, ordinal, waits) and plan.ordered:
                return min(waits, default=None)
        condemned = plan.condemned
        for pod in condemned:
            await self._set_claim_owners(plan, pod, condemned=True)
        unhealthy = [pod for pod in condemned if not self._healthy(pod)]
        for pod in condemned:
            if not objects.is_deleting(pod):
                if plan.ordered and pod in unhealthy and pod is not unhealthy[-1]:
                    return min(waits, default=None)  # the lowest of those in trouble goes first
                await self._delete(plan.set, pod)
            if plan.ordered:
                return min(waits, default=None)
        await self._roll(plan)
        return min(waits, default=None)

    async def _provide(self, plan: Plan, ordinal: int, waits: list[float]) -> bool:
        """See to one wanted pod. False: the next ones wait for it."""
        pod = plan.pods.get(ordinal)
        if pod is None:
            await self._create(plan, ordinal)
            return False
        if objects.is_finished(pod):
            if not objects.is_deleting(pod):
                failed = (pod.get("status") or {}).get("phase") == "Failed"
                reason = "RecreatingFailedPod" if failed else "RecreatingTerminatedPod"
                what = "failed" if failed else "terminated"
                path = "/".join(objects.key_of(plan.set))
                text = f"StatefulSet {path} is recreating {what} Pod {pod['metadata']['name']}"
                await self.event(plan.set, reason, text, warning=failed)
                await self._delete(plan.set, pod)
            return False
        await self._set_claim_owners(plan, pod, condemned=False)
        left = objects.available_in(pod, plan.min_ready, self.now())
        if left:
            waits.append(left)
        return left == 0

    @staticmethod
    def _healthy(pod: Object) -> bool:
        return objects.is_active(pod) and objects.is_ready(pod)

    async def _create(self, plan: Plan, ordinal: int) -> None:
        owner, namespace = plan.set, plan.set["metadata"]["namespace"]
        pod = stateful_pods.pod_for(owner, ordinal, plan.revision_for(ordinal))
        name, set_name = pod["metadata"]["name"], owner["metadata"]["name"]
        for template, claim in stateful_pods.claim_names(owner, ordinal):
            if self.store.peek(CLAIMS, claim, namespace=namespace) is not None:
                continue
            body = stateful_pods.claim_for(owner, template, claim)
            if (holder := stateful_pods.claim_owner(owner, None, condemned=False)) is not None:
                body["metadata"]["ownerReferences"] = [objects.owner_reference(holder)]
            subject = f"create Claim {claim} Pod {name} in StatefulSet {set_name}"
            await self._try(owner, CLAIMS, body, f"{subject} success", f"{subject} failed error")
        subject = f"create Pod {name} in StatefulSet {set_name}"
        await self._try(owner, "pods", pod, f"{subject} successful", f"{subject} failed error")

    async def _try(self, owner: Object, resource: str, body: Object, good: str, bad: str) -> None:
        try:
            await self.store.create(resource, body, namespace=owner["metadata"]["namespace"])
        except AlreadyExists:
            raise  # a pod of another owner has the name: its end brings nobody back, so this is tried again
        except ApiError as error:
            await self.event(owner, "FailedCreate", f"{bad}: {error}", warning=True)
            raise
        await self.event(owner, "SuccessfulCreate", good)

    async def _delete(self, owner: Object, pod: Object) -> None:
        namespace, name = objects.key_of(pod)
        try:
            await self.store.delete("pods", name, namespace=namespace, uid=objects.uid_of(pod))
        except NotFound:
            return
        text = f"delete Pod {name} in StatefulSet {owner['metadata']['name']} successful"
        await self.event(owner, "SuccessfulDelete", text)

    async def _set_claim_owners(self, plan: Plan, pod: Object, *, condemned: bool) -> None:
        """Claims end with whom the retention policy says."""
        ordinal = stateful_pods.ordinal_of(plan.set, pod)
        holder = stateful_pods.claim_owner(plan.set, pod, condemned=condemned)
        for _, name in stateful_pods.claim_names(plan.set, ordinal if ordinal is not None else -1):
            claim = self.store.peek(CLAIMS, name, namespace=pod["metadata"]["namespace"])
            if claim is None:
                continue
            ours = {objects.uid_of(plan.set), objects.uid_of(pod)}
            others = [entry for entry in objects.owners_of(claim) if entry["uid"] not in ours]
            owners = [*others, *([objects.owner_reference(holder)] if holder is not None else [])]
            if owners != list(objects.owners_of(claim)):
                patch = {"metadata": {"ownerReferences": owners or None, "uid": objects.uid_of(claim)}}
                await self.store.patch(CLAIMS, name, patch, namespace=pod["metadata"]["namespace"])

    async def _roll(self, plan: Plan) -> None:
        """Replace pods of an old template, from the highest number down to the partition."""
        strategy = plan.set["spec"].get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            return
        rolling = strategy.get("rollingUpdate") or {}
        first = plan.wanted.start + rolling.get("partition", 0)
        ordinals = sorted((number for number in plan.wanted if number >= first), reverse=True)
        if rolling.get("maxUnavailable") is None:
            await self._roll_one(plan, ordinals)
        else:
            most = objects.share(rolling["maxUnavailable"], len(plan.wanted), default=1, up=False)
            await self._roll_some(plan, ordinals, max(1, most))

    async def _roll_one(self, plan: Plan, ordinals: Iterable[int]) -> None:
        for ordinal in ordinals:
            pod = plan.pods.get(ordinal)
            if pod is None:
                return
            if stateful_pods.revision_of(pod) != plan.update["metadata"]["name"]:
                if not objects.is_deleting(pod):
                    await self._delete(plan.set, pod)
                return
            if not self._serves(plan, ordinal):
                return

    async def _roll_some(self, plan: Plan, ordinals: Iterable[int], most: int) -> None:
        """At most so many do not serve; what does not serve anyhow is replaced without asking."""
        missing = sum(not self._serves(plan, number) for number in plan.wanted)
        for ordinal in ordinals:
            pod, serves = plan.pods.get(ordinal), self._serves(plan, ordinal)
            if pod is None or objects.is_deleting(pod):
                continue
            outdated = stateful_pods.revision_of(pod) != plan.update["metadata"]["name"]
            if outdated and (not serves or missing < most):
                missing += serves
                await self._delete(plan.set, pod)

    def _serves(self, plan: Plan, ordinal: int) -> bool:
        pod = plan.pods.get(ordinal)
        return pod is not None and self._healthy(pod) and objects.available_in(pod, plan.min_ready, self.now()) == 0

    # ---- status -----------------------------------------------------------------------------------------------------

    async def _report(self, plan: Plan) -> None:
        pods = self.pods.of(plan.set)
        current, update = plan.current["metadata"]["name"], plan.update["metadata"]["name"]
        active = [pod for pod in pods if not objects.is_deleting(pod)]
        count = {
            "replicas": len(pods),
            "readyReplicas": sum(objects.is_ready(pod) and not objects.is_finished(pod) for pod in pods),
            "availableReplicas": sum(objects.available_in(pod, plan.min_ready, self.now()) == 0 for pod in pods),
            "currentReplicas": sum(stateful_pods.revision_of(pod) == current for pod in active),
            "updatedReplicas": sum(stateful_pods.revision_of(pod) == update for pod in active),
        }
        rolling = (plan.set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
        if rolling and count["updatedReplicas"] == count["replicas"] == count["readyReplicas"]:
            current, count["currentReplicas"] = update, count["updatedReplicas"]
        always = ("replicas", "availableReplicas")
        await self.write_status(
            plan.set,
            {
                "observedGeneration": plan.set["metadata"].get("generation", 0),
                **{field: number for field, number in count.items() if number or field in always},
                "currentRevision": current,
                "updateRevision": update,
                "collisionCount": 0,
            },
        )
