"""Evictions: deletions that ask the PodDisruptionBudgets first.

Owns: the subresource `pods/eviction`. Comes in: the pod and the options. Goes out: a deleted pod, and its budget with
one disruption less; TooManyRequests when the budget has none left.
Source: Kubernetes documentation "API-initiated Eviction".
"""

from datetime import UTC, datetime
from typing import Any

from kubelab.apiserver import selectors
from kubelab.apiserver.errors import Cause, Forbidden, InternalError, TooManyRequests
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.base import labels_of

Object = dict[str, Any]
BUDGETS = "poddisruptionbudgets.policy"
_RETRY_SECONDS = 10


async def evict(
    store: Store,
    namespace: str,
    name: str,
    *,
    grace_seconds: int | None = None,
    uid: str | None = None,
    version: str | None = None,
    dry_run: bool = False,
) -> None:
    """Raises NotFound, Conflict (preconditions), TooManyRequests."""
    pod = await store.get("pods", name, namespace=namespace)
    budgets = [b for b in store.peek_all(BUDGETS, namespace=namespace) if _covers(b, pod)]
    if _ignores_budgets(pod):
        budgets = []
    if len(budgets) > 1:
        why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise InternalError(why)
    if budgets and not _may_go_unhealthy(budgets[0], pod):
        await _take(store, budgets[0], pod, dry_run=dry_run)
    await store.delete(
        "pods", name, namespace=namespace, grace_seconds=grace_seconds, uid=uid, version=version, dry_run=dry_run
    )


def _ignores_budgets(pod: Object) -> bool:
    """Pods that do not run, or are on their way out, disrupt nothing."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _covers(budget: Object, pod: Object) -> bool:
    selector = selectors.from_spec((budget.get("spec") or {}).get("selector"))
    return selector is not None and selector.matches(labels_of(pod))


def _may_go_unhealthy(budget: Object, pod: Object) -> bool:
    """A pod that is not ready may go when the others are enough, or always, as the budget says."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    if any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    return bool(status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0)


async def _take(store: Store, budget: Object, pod: Object, *, dry_run: bool) -> None:
    """Use one of the disruptions that the budget allows."""
    name, status = budget["metadata"]["name"], budget.get("status") or {}
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        why = f"The disruption budget {name} is still being processed by the server."
        raise _too_many(why)
    allowed = status.get("disruptionsAllowed", 0)
    if allowed < 0:
        raise Forbidden(f'{BUDGETS} "{name}" is forbidden: pdb disruptions allowed is negative')
    if allowed == 0:
        healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
        raise _too_many(f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    disrupted = {**(status.get("disruptedPods") or {}), pod["metadata"]["name"]: now}
    changed = {**budget, "status": {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": disrupted}}
    await store.update(BUDGETS, changed, subresource="status", dry_run=dry_run)


def _too_many(cause: str) -> TooManyRequests:
    return TooManyRequests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        causes=[Cause("", "DisruptionBudget", cause)],
        retry_after=_RETRY_SECONDS if "processed" in cause else 0,
    )
