"""DaemonSets: one pod of a template on every node that will have it.

In: DaemonSets, nodes, pods. Out: pods pinned to their nodes, replaced when the template changes; the status; one
ControllerRevision per template.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

from kubelab.apiserver.errors import ApiError, NotFound
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling import placement
from kubelab.controllers.workloads import daemon_updates, revisions
from kubelab.controllers.workloads.daemon_updates import OnNode
from kubelab.controllers.workloads.revisions import HASH_LABEL

RESOURCE = "daemonsets.apps"

_EVERY_NODE = [
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/disk-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/pid-pressure", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
]
_HOST_NETWORK = {"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"}


def tolerations_of(pod_spec: Object) -> list[Object]:
    """The template's tolerations and those every daemon has: it comes before the node is ready and stays after."""
    extra = [*_EVERY_NODE, *([_HOST_NETWORK] if pod_spec.get("hostNetwork") else [])]
    own = list(pod_spec.get("tolerations") or ())
    return [*own, *(toleration for toleration in extra if toleration not in own)]


def runs_on(pod_spec: Object, node: Object) -> bool:
    """Whether a new daemon pod belongs on the node."""
    if objects.is_deleting(node) or not placement.selects_node(pod_spec, node):
        return False
    return placement.untolerated(tolerations_of(pod_spec), placement.taints_of(node)) is None


def stays_on(pod_spec: Object, node: Object) -> bool:
    """Whether a daemon pod that is there may stay: only NoExecute taints drive it away."""
    if objects.is_deleting(node) or not placement.selects_node(pod_spec, node):
        return False
    return placement.untolerated(tolerations_of(pod_spec), placement.taints_of(node), ("NoExecute",)) is None


def pinned(pod_spec: Object, node: str) -> Object:
    """The pod's affinity with this node as the only choice: the scheduler still sees to room and ports."""
    affinity = copy.deepcopy(pod_spec.get("affinity") or {})
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    near = affinity.setdefault("nodeAffinity", {})
    terms = (near.get(required) or {}).get("nodeSelectorTerms") or [{}]
    near[required] = {"nodeSelectorTerms": [{**term, "matchFields": [field]} for term in terms]}
    return affinity


def node_of(pod: Object) -> str:
    """The node that the pod runs on or is pinned to."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    near = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (near.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    fields = (field for term in terms for field in term.get("matchFields") or ())
    return next((str(field["values"][0]) for field in fields if field["key"] == "metadata.name"), "")


class DaemonSetController(Controller):
    name = "daemonset-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {
            RESOURCE: objects.own_key,
            "pods": lambda pod: objects.controlled_by("DaemonSet", pod),
            "nodes": self._everyone,
        }

    def _everyone(self, _: Object) -> Iterable[Key]:
        return [objects.key_of(daemon_set) for daemon_set in self.store.peek_all(RESOURCE)]

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        daemon_set = self.store.peek(RESOURCE, name, namespace=namespace)
        if daemon_set is None or objects.is_deleting(daemon_set):
            return None
        digest = objects.template_hash(daemon_set["spec"]["template"])
        present = await revisions.record(self.store, daemon_set, {HASH_LABEL: digest}, digest=digest)
        failure: ApiError | None = None
        try:
            await self._place(daemon_set, digest)
            await self._update(daemon_set, digest)
        except ApiError as error:
            failure = error
        wait = await self._report(daemon_set, digest)
        live = {objects.labels_of(pod).get(HASH_LABEL, "") for here in self._pods(daemon_set).values() for pod in here}
        kept = {present["metadata"]["name"], *(f"{name}-{digest}" for digest in live)}
        await revisions.forget(self.store, daemon_set, kept)
        if failure is not None:
            raise failure
        return wait

    def _pods(self, daemon_set: Object) -> dict[str, list[Object]]:
        """Node -> the pods of this set on it or on their way to it."""
        found: dict[str, list[Object]] = {}
        for pod in self.pods.of(daemon_set):
            found.setdefault(node_of(pod), []).append(pod)
        return found

    async def _place(self, daemon_set: Object, digest: str) -> None:
        """Missing pods come, pods on nodes that will not have them go, failed ones are replaced."""
        spec = daemon_set["spec"]["template"].get("spec") or {}
        surges = self._budget(daemon_set).surge > 0
        pods = self._pods(daemon_set)
        for node in self.store.peek_all("nodes"):
            here = pods.pop(node["metadata"]["name"], [])
            for pod in here:
                if objects.is_finished(pod) and not objects.is_deleting(pod):
                    await self._delete(daemon_set, pod, "FailedDaemonPod", f"Found finished daemon pod {_path(pod)}")
            active = self._on_node(daemon_set, here, digest)
            every = [*active.old, *active.new]
            too_many = daemon_updates.surplus(active, surges=surges) if stays_on(spec, node) else every
            for pod in too_many:
                await self._delete(daemon_set, pod, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
            ending = any(objects.is_deleting(pod) for pod in here)
            if not every and not ending and runs_on(spec, node):
                await self._create(daemon_set, node["metadata"]["name"], digest)
        for node_name, orphans in pods.items():
            for pod in orphans:
                if node_name and not objects.is_deleting(pod):  # its node is gone
                    await self._delete(daemon_set, pod, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    async def _create(self, daemon_set: Object, node: str, digest: str) -> None:
        template = daemon_set["spec"]["template"]
        pod = objects.pod_from_template(
            template,
            owner=daemon_set,
            prefix=f"{daemon_set['metadata']['name']}-",
            labels={HASH_LABEL: digest, "pod-template-generation": str(daemon_set["metadata"].get("generation", 1))},
        )
        pod["spec"]["tolerations"] = tolerations_of(pod["spec"])
        pod["spec"]["affinity"] = pinned(pod["spec"], node)
        namespace = daemon_set["metadata"]["namespace"]
        try:
            created = await self.store.create("pods", pod, namespace=namespace)
        except ApiError as error:
            await self.event(daemon_set, "FailedCreate", f"Error creating: {error}", warning=True)
            raise
        await self.event(daemon_set, "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")

    async def _delete(self, daemon_set: Object, pod: Object, reason: str, message: str) -> None:
        namespace, name = objects.key_of(pod)
        try:
            await self.store.delete("pods", name, namespace=namespace, uid=objects.uid_of(pod))
        except NotFound:
            return
        await self.event(daemon_set, reason, message)

    async def _update(self, daemon_set: Object, digest: str) -> None:
        """Replace pods of old templates within the budget; `_place` fills nodes that have none."""
        if (daemon_set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") != "RollingUpdate":
            return
        pods = {node: self._on_node(daemon_set, here, digest) for node, here in self._pods(daemon_set).items()}
        step = daemon_updates.step(pods, self._nodes(daemon_set), self._budget(daemon_set))
        for pod in step.delete:
            await self._delete(daemon_set, pod, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
        for node in step.create:
            await self._create(daemon_set, node, digest)

    def _budget(self, daemon_set: Object) -> daemon_updates.Budget:
        rolling = (daemon_set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
        return daemon_updates.budget_of(daemon_set, len(self._nodes(daemon_set)) if rolling else 0)

    def _on_node(self, daemon_set: Object, pods: Iterable[Object], digest: str) -> OnNode:
        active = sorted((pod for pod in pods if objects.is_active(pod)), key=_age)
        return OnNode(
            old=[pod for pod in active if objects.labels_of(pod).get(HASH_LABEL) != digest],
            new=[pod for pod in active if objects.labels_of(pod).get(HASH_LABEL) == digest],
            available=[pod for pod in active if self._available(daemon_set, pod) == 0],
        )

    def _available(self, daemon_set: Object, pod: Object) -> float | None:
        return objects.available_in(pod, daemon_set["spec"].get("minReadySeconds", 0), self.now())

    def _nodes(self, daemon_set: Object) -> list[str]:
        spec = daemon_set["spec"]["template"].get("spec") or {}
        return [node["metadata"]["name"] for node in self.store.peek_all("nodes") if runs_on(spec, node)]

    async def _report(self, daemon_set: Object, digest: str) -> float | None:
        """Of two pods on a node, as a surge makes them, the older counts."""
        wanted = set(self._nodes(daemon_set))
        active = {
            node: [pod for pod in here if objects.is_active(pod)] for node, here in self._pods(daemon_set).items()
        }
        first = {node: min(here, key=_age) for node, here in active.items() if here}
        counted = [pod for node, pod in first.items() if node in wanted]
        waits = [self._available(daemon_set, pod) for here in active.values() for pod in here]
        available = sum(self._available(daemon_set, pod) == 0 for pod in counted)
        status = {
            "currentNumberScheduled": len(counted),
            "numberMisscheduled": len(first) - len(counted),
            "desiredNumberScheduled": len(wanted),
            "numberReady": sum(objects.is_ready(pod) for pod in counted),
            "updatedNumberScheduled": sum(objects.labels_of(pod).get(HASH_LABEL) == digest for pod in counted),
            "numberAvailable": available,
            "numberUnavailable": len(wanted) - available,
            "observedGeneration": daemon_set["metadata"].get("generation", 0),
        }
        always = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
        status = {name: count for name, count in status.items() if count or name in always}
        await self.write_status(daemon_set, status)
        return min((wait for wait in waits if wait), default=None)


def _path(pod: Object) -> str:
    return "/".join(objects.key_of(pod))


def _age(pod: Object) -> tuple[str, str]:
    """Oldest first."""
    return pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]
