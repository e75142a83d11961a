"""Whose pods are whose: controllers adopt what their selector matches and release what it no longer does.

In: an owner and its selector. Out: the pods it controls, after adoptions and releases were written.
"""

from __future__ import annotations

from collections.abc import Callable

from kubelab.apiserver.selectors import LabelSelector, from_spec
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller
from kubelab.controllers.objects import Object


def selector_of(owner: Object) -> LabelSelector | None:
    """The selector of a workload; None for one that selects nothing. ReplicationControllers have plain labels."""
    spec = owner["spec"].get("selector")
    if owner["kind"] == "ReplicationController":
        spec = {"matchLabels": spec or {}}
    selector = from_spec(spec)
    return selector if selector is not None and selector.requirements else None


def selects(owner: Object, obj: Object) -> bool:
    selector = selector_of(owner)
    return selector is not None and selector.matches(objects.labels_of(obj))


async def claim(
    controller: Controller, owner: Object, may_own: Callable[[Object], bool] = lambda _: True
) -> list[Object]:
    """The owner's pods. `may_own`: what else must hold of a pod without a controller, besides the selector."""
    uid, claimed, selector = objects.uid_of(owner), [], selector_of(owner)
    for pod in controller.pods.of(owner):
        if (selector is not None and selector.matches(objects.labels_of(pod))) or objects.is_deleting(pod):
            claimed.append(pod)
        else:
            await _set_owners(controller, pod, [entry for entry in objects.owners_of(pod) if entry["uid"] != uid])
    if objects.is_deleting(owner):
        return claimed
    for pod in controller.pods.orphans(owner["metadata"]["namespace"]):
        if objects.is_active(pod) and selects(owner, pod) and may_own(pod):
            owners = [*objects.owners_of(pod), objects.owner_reference(owner)]
            claimed.append(await _set_owners(controller, pod, owners))
    return claimed


async def _set_owners(controller: Controller, pod: Object, owners: list[Object]) -> Object:
    metadata = pod["metadata"]
    patch = {"metadata": {"ownerReferences": owners or None, "uid": metadata["uid"]}}
    return await controller.store.patch("pods", metadata["name"], patch, namespace=metadata["namespace"])
