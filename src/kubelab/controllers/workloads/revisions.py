"""ControllerRevisions: the history of StatefulSets and DaemonSets, for `kubectl rollout history` and `undo`.

In: an owner with a template. Out: one revision per template, of which the one in use has the highest number.
Source: Kubernetes documentation, "Perform a Rollback on a DaemonSet"; `apps/v1 ControllerRevision`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.store import Store
from kubelab.controllers import objects
from kubelab.controllers.objects import Object

RESOURCE = "controllerrevisions.apps"
HASH_LABEL = "controller-revision-hash"
_NOT_INHERITED = ("kubectl.kubernetes.io/last-applied-configuration",)


def content_of(owner: Object) -> Object:
    """What `kubectl rollout undo` merges into the owner: its template, as a whole."""
    return {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}


def history_of(store: Store, owner: Object) -> list[Object]:
    """The owner's revisions, oldest first."""
    uid = objects.uid_of(owner)
    mine = [
        entry
        for entry in store.peek_all(RESOURCE, namespace=owner["metadata"]["namespace"])
        if (objects.controller_of(entry) or {}).get("uid") == uid
    ]
    return sorted(mine, key=lambda entry: (int(entry["revision"]), entry["metadata"]["name"]))


async def record(store: Store, owner: Object, labels: Mapping[str, str], *, digest: str) -> Object:
    """The revision of the owner's present template, made or raised to the highest number. `labels`: it bears these."""
    namespace, name = objects.key_of(owner)
    history, content = history_of(store, owner), content_of(owner)
    newest = int(history[-1]["revision"]) if history else 0
    annotations = {k: v for k, v in objects.annotations_of(owner).items() if k not in _NOT_INHERITED}
    present = next((entry for entry in reversed(history) if entry.get("data") == content), None)
    if present is not None:
        change: Object = {"revision": newest + 1} if int(present["revision"]) < newest else {}
        cause = annotations.get("kubernetes.io/change-cause")
        if change and cause is not None:
            change["metadata"] = {"annotations": {"kubernetes.io/change-cause": cause}}
        if not change:
            return present
        return await store.patch(RESOURCE, present["metadata"]["name"], change, namespace=namespace)
    revision = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{name}-{digest}",
            "namespace": namespace,
            "labels": {**((owner["spec"]["template"].get("metadata") or {}).get("labels") or {}), **labels},
            **({"annotations": annotations} if annotations else {}),
            "ownerReferences": [objects.owner_reference(owner)],
        },
        "data": content,
        "revision": newest + 1,
    }
    return await store.create(RESOURCE, revision, namespace=namespace)


async def forget(store: Store, owner: Object, live: Collection[str]) -> None:
    """Keep as many revisions as the history limit asks for, besides those of `live` names."""
    namespace, limit = owner["metadata"]["namespace"], owner["spec"].get("revisionHistoryLimit", 10)
    stale = [entry for entry in history_of(store, owner) if entry["metadata"]["name"] not in live]
    for entry in stale[: max(0, len(stale) - limit)]:
        try:
            await store.delete(RESOURCE, entry["metadata"]["name"], namespace=namespace)
        except NotFound:
            continue
