"""A node is emptied before it goes, as `kubectl drain` does it.

In: a node's name. Out: no new pods come, those that others would run elsewhere are evicted and gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from urllib.parse import quote

from kubelab.lab.api import ApiRefusedError, LabApi, Object
from kubelab.lab.errors import LabError

HOSTNAME = "kubernetes.io/hostname"
RETRY = 0.5
"""Seconds until an eviction that a PodDisruptionBudget refused is tried again."""


def cordon(api: LabApi, node: str) -> bool:
    """No new pods for the node; False when the API does not have it."""
    try:
        api.request("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}}, "application/merge-patch+json")
    except ApiRefusedError as error:
        if error.code != 404:
            raise
        return False
    return True


def drain(api: LabApi, node: str, timeout: float) -> None:
    """Evicts all pods but those of DaemonSets and static ones, and waits until they are gone.

    Raises LabError naming the pods that stay.
    """
    deadline = time.monotonic() + timeout
    waiting = {_key(pod): pod for pod in leaving(pods_on(api, node))}
    refusals: dict[str, str] = {}
    while waiting:
        for key, pod in waiting.items():
            refusals.pop(key, None)
            if refused := _evict(api, pod):
                refusals[key] = refused
        left = max(0.0, min(RETRY if refusals else deadline - time.monotonic(), deadline - time.monotonic()))
        waiting = _gone(api, node, set(waiting), left)
        if waiting and time.monotonic() >= deadline:
            why = "; ".join(f"{key}: {refusals.get(key, 'does not end')}" for key in sorted(waiting))
            raise LabError(f"node {node} is not empty after {timeout:.0f} s: {why}")


def pods_on(api: LabApi, node: str) -> list[Object]:
    items: list[Object] = api.get(f"/api/v1/pods?fieldSelector={quote(f'spec.nodeName={node}')}")["items"]
    return items


def volumes_of(api: LabApi, node: str) -> list[str]:
    """Claims whose volumes are directories of this node, and of no other."""
    return sorted(
        f"PersistentVolumeClaim {claim['namespace']}/{claim['name']}"
        for volume in api.get("/api/v1/persistentvolumes")["items"]
        if (claim := volume["spec"].get("claimRef")) and _nodes(volume) == {node}
    )


def _nodes(volume: Object) -> set[str]:
    required = (volume["spec"].get("nodeAffinity") or {}).get("required") or {}
    return {
        value
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
        if expression["key"] == HOSTNAME and expression["operator"] == "In"
        for value in expression["values"]
    }


def leaving(pods: Iterable[Object]) -> list[Object]:
    """Without those that belong to the node: of DaemonSets, and static ones."""
    return [
        pod
        for pod in pods
        if not any(owner["kind"] in ("DaemonSet", "Node") for owner in pod["metadata"].get("ownerReferences") or ())
    ]


def _evict(api: LabApi, pod: Object) -> str:
    """Asks for it; why it was refused, if it may be allowed later. Raises ApiRefusedError."""
    meta = pod["metadata"]
    if meta.get("deletionTimestamp"):
        return ""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
    }
    try:
        api.request("POST", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction", eviction)
    except ApiRefusedError as error:
        if error.code == 429:
            return error.reason
        if error.code != 404:
            raise
    return ""


def _gone(api: LabApi, node: str, keys: set[str], timeout: float) -> dict[str, Object]:
    """Those that are still on the node when all are gone, or `timeout` has passed."""
    path = f"/api/v1/pods?fieldSelector={quote(f'spec.nodeName={node}')}"

    def none(items: list[Object]) -> bool:
        return keys.isdisjoint(map(_key, items))

    try:
        api.wait(path, none, timeout, "the end of the pods")
    except ApiRefusedError:
        raise
    except LabError:
        return {_key(pod): pod for pod in pods_on(api, node) if _key(pod) in keys}
    return {}


def _key(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
