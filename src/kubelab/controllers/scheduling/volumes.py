"""What a pod's claims allow: which nodes its volumes reach, and which volumes its node decides about.

In: a pod, its claims, volumes and classes. Out: reasons in the words of `FailedScheduling`; once a node is chosen, what
must be written so that the binder and the provisioner make the volumes for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kubelab.apiserver.store import Store
from kubelab.controllers import objects
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling.view import NodeInfo
from kubelab.controllers.storage import matching

CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
NOTHING_TO_BIND = "node(s) didn't find available persistent volumes to bind"
MISSING_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
IN_USE = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"


def claim_names(pod: Object) -> Iterator[str]:
    """The names of the claims that a pod mounts, its ephemeral volumes' among them."""
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"]
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}"


@dataclass
class PodVolumes:
    """A pod's claims as they are now. `problem`: why no node will do."""

    bound: list[Object] = field(default_factory=list)
    delayed: list[Object] = field(default_factory=list)
    problem: str = ""

    @property
    def ready(self) -> bool:
        return not self.delayed and not self.problem


def look(store: Store, pod: Object) -> PodVolumes:
    found, namespace = PodVolumes(), pod["metadata"]["namespace"]
    for name in claim_names(pod):
        claim = store.peek(matching.CLAIMS, name, namespace=namespace)
        if claim is None:
            found.problem = found.problem or f'persistentvolumeclaim "{name}" not found'
        elif objects.is_deleting(claim):
            found.problem = found.problem or f'persistentvolumeclaim "{name}" is being deleted'
        elif matching.is_bound(claim):
            found.bound.append(claim)
        elif (claim.get("status") or {}).get("phase") == "Lost":
            text = f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume'
            found.problem = found.problem or f'{text} "{claim["spec"].get("volumeName", "")}"'
        else:
            storage_class = store.peek(matching.CLASSES, matching.class_of(claim))
            if matching.waits_for_consumer(storage_class) and not claim["spec"].get("volumeName"):
                found.delayed.append(claim)
            else:
                found.problem = found.problem or UNBOUND
    return found


def refusal(store: Store, volumes: PodVolumes, info: NodeInfo) -> str | None:
    """What keeps these volumes from the node."""
    for claim in volumes.bound:
        volume = store.peek(matching.VOLUMES, claim["spec"]["volumeName"])
        if volume is None:
            return MISSING_VOLUME
        if not matching.reaches(volume, info.node):
            return CONFLICT
        if "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ()) and _used(store, claim):
            return IN_USE
    for claim in volumes.delayed:
        selected = objects.annotations_of(claim).get(matching.SELECTED_NODE)
        if selected is not None and selected != info.name:
            return NOTHING_TO_BIND
        storage_class = store.peek(matching.CLASSES, matching.class_of(claim))
        made = matching.provisions(storage_class) and _allowed(storage_class or {}, info)
        if not made and matching.best(store.peek_all(matching.VOLUMES), claim, info.node) is None:
            return NOTHING_TO_BIND
    return None


def _allowed(storage_class: Object, info: NodeInfo) -> bool:
    """Whether the class makes volumes for this node."""
    terms = storage_class.get("allowedTopologies") or ()
    return not terms or any(
        all(info.labels.get(entry["key"]) in entry["values"] for entry in term.get("matchLabelExpressions") or ())
        for term in terms
    )


def _used(store: Store, claim: Object) -> bool:
    namespace, name = objects.key_of(claim)
    return any(
        name in claim_names(pod) and pod["spec"].get("nodeName") and not objects.is_finished(pod)
        for pod in store.peek_all("pods", namespace=namespace)
    )


async def reserve(store: Store, volumes: PodVolumes, node: Object) -> None:
    """Tell the binder and the provisioner for which node the claims are."""
    for claim in volumes.delayed:
        namespace, name = objects.key_of(claim)
        volume = matching.best(store.peek_all(matching.VOLUMES), claim, node)
        if volume is not None:
            reference = {
                "kind": "PersistentVolumeClaim",
                "apiVersion": "v1",
                "namespace": namespace,
                "name": name,
                "uid": objects.uid_of(claim),
            }
            if volume["spec"].get("claimRef", {}).get("uid") != reference["uid"]:
                patch = {"spec": {"claimRef": reference}}
                await store.patch(matching.VOLUMES, volume["metadata"]["name"], patch)
        else:
            patch = {"metadata": {"annotations": {matching.SELECTED_NODE: node["metadata"]["name"]}}}
            await store.patch(matching.CLAIMS, name, patch, namespace=namespace)
