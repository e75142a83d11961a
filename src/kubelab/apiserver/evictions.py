"""Evictions: deletions that ask the pods' disruption budget first.

In: a pod's name and an Eviction. Out: the pod marked for deletion and the budget lowered by one, in one step of the
event loop; or TooManyRequests, which clients such as `kubectl drain` answer by trying again.
Source: Kubernetes documentation, "API-initiated Eviction", "Specifying a Disruption Budget".
"""

from typing import Any

from kubelab import timestamps
from kubelab.apiserver.admission.base import CREATE
from kubelab.apiserver.errors import Cause, InternalError, TooManyRequests
from kubelab.apiserver.selectors import from_spec
from kubelab.apiserver.store import Store

Object = dict[str, Any]
BUDGETS = "poddisruptionbudgets.policy"
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
RETRY_AFTER = 10
"""Seconds to wait while a budget's status is not yet of its spec."""


async def evict(
    store: Store, namespace: str, name: str, options: Object | None = None, *, dry_run: bool = False
) -> None:
    """Raises NotFound, Conflict (preconditions), TooManyRequests (the budget forbids it), InternalError."""
    options = options or {}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options}
    await store.review(
        "pods", name, eviction, namespace=namespace, subresource="eviction", operation=CREATE, dry_run=dry_run
    )
    pod = await store.get("pods", name, namespace=namespace)
    preconditions = options.get("preconditions") or {}
    uid, version = preconditions.get("uid"), preconditions.get("resourceVersion")
    store.delete_now("pods", name, namespace=namespace, uid=uid, version=version, dry_run=True)
    budget = None if _free(pod) else _budget_of(store, pod)
    lowered = _lowered(pod, budget) if budget is not None else None
    if dry_run:
        return
    if budget is not None and lowered is not None:
        await store.update(BUDGETS, {**budget, "status": lowered}, subresource="status")
    if "deletionTimestamp" not in pod["metadata"]:
        await _mark(store, pod)
    store.delete_now(
        "pods",
        name,
        namespace=namespace,
        grace_seconds=options.get("gracePeriodSeconds"),
        propagation=options.get("propagationPolicy"),
    )


def _free(pod: Object) -> bool:
    """Whether the pod serves nobody, so that no budget is touched."""
    return "deletionTimestamp" in pod["metadata"] or (pod.get("status") or {}).get("phase") in (
        "Succeeded",
        "Failed",
        "Pending",
    )


def _budget_of(store: Store, pod: Object) -> Object | None:
    found = []
    for budget in store.peek_all(BUDGETS, namespace=pod["metadata"]["namespace"]):
        selector = from_spec(budget["spec"].get("selector"))
        if selector is not None and selector.matches(pod["metadata"].get("labels")):
            found.append(budget)
    if len(found) > 1:
        raise InternalError(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    return found[0] if found else None


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _lowered(pod: Object, budget: Object) -> Object | None:
    """The budget's status after this eviction, None if it costs nothing. Raises TooManyRequests."""
    name, status = budget["metadata"]["name"], budget.get("status") or {}
    if not _ready(pod):
        healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
        if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow" or (healthy >= desired and desired > 0):
            return None
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise TooManyRequests(
            REFUSED,
            causes=[
                Cause("", "DisruptionBudget", f"The disruption budget {name} is still being processed by the server.")
            ],
            retry_after=RETRY_AFTER,
        )
    if status.get("disruptionsAllowed", 0) <= 0:
        needs, has = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        text = f"The disruption budget {name} needs {needs} healthy pods and has {has} currently"
        raise TooManyRequests(REFUSED, causes=[Cause("", "DisruptionBudget", text)])
    moment = timestamps.now()
    conditions = [
        {**entry, "status": "False", "reason": "InsufficientPods"}
        if entry["type"] == "DisruptionAllowed" and status["disruptionsAllowed"] == 1
        else entry
        for entry in status.get("conditions") or ()
    ]
    return {
        **status,
        "conditions": conditions,
        "disruptionsAllowed": status["disruptionsAllowed"] - 1,
        "disruptedPods": {**(status.get("disruptedPods") or {}), pod["metadata"]["name"]: moment},
    }


async def _mark(store: Store, pod: Object) -> None:
    """Say on the pod why it goes."""
    moment = timestamps.now()
    new = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": moment,
    }
    status = pod.get("status") or {}
    others = [entry for entry in status.get("conditions") or () if entry["type"] != "DisruptionTarget"]
    await store.update("pods", {**pod, "status": {**status, "conditions": [*others, new]}}, subresource="status")
