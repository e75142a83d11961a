"""What a container may use, by the kubelet's arithmetic: CPU, memory, and whom the kernel kills first.

In: requests and limits of a container or of a whole pod, the pod's class. Out: ``Limits`` for whatever runtime holds
them. Source: Kubernetes documentation, "Resource Management for Pods and Containers", "Node-pressure Eviction".
"""

from __future__ import annotations

from dataclasses import dataclass

from kubelab.kubelet.config import Object
from kubelab.kubelet.resources import of_node
from kubelab.quantities import quantity, thousandths, whole

PERIOD = 100_000
"""Microseconds, of which a limit of CPU is a share."""

_QUOTA_MIN, _SHARES_MIN, _SHARES_MAX, _SHARES = 1000, 2, 262144, 1024
_GUARANTEED, _BEST_EFFORT = -997, 1000
"""OOM scores: whom the kernel kills last, and first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``quota`` and ``memory`` are 0 where nothing limits them."""

    shares: int = _SHARES_MIN  # of CPU, among others; 1024 for each that was requested
    quota: int = 0  # microseconds of CPU per PERIOD
    memory: int = 0  # bytes
    score: int = _BEST_EFFORT  # oom_score_adj

    @property
    def controllers(self) -> frozenset[str]:
        """Those that it takes to hold them."""
        return frozenset(name for name, value in (("cpu", self.quota), ("memory", self.memory)) if value)

    @property
    def weight(self) -> int:
        """``shares`` as cgroup2 counts: 1 to 10000."""
        return 1 + (self.shares - _SHARES_MIN) * 9999 // (_SHARES_MAX - _SHARES_MIN)


def of_container(pod: Object, container: Object) -> Limits:
    return _limits(container.get("resources") or {}, (pod.get("status") or {}).get("qosClass"))


def of_pod(pod: Object) -> Limits:
    """What its containers may use together (``spec.resources``)."""
    return _limits(pod["spec"].get("resources") or {}, None)


def _limits(resources: Object, quality: str | None) -> Limits:
    limits = resources.get("limits") or {}
    requests = {**limits, **(resources.get("requests") or {})}
    cpu, most = (thousandths(amounts.get("cpu") or 0) for amounts in (requests, limits))
    return Limits(
        shares=min(max(cpu * _SHARES // 1000, _SHARES_MIN), _SHARES_MAX),
        quota=max(_QUOTA_MIN, most * PERIOD // 1000) if most else 0,
        memory=whole(limits.get("memory") or 0),
        score=_score(quality, whole(requests.get("memory") or 0)),
    )


def _score(quality: str | None, memory: int) -> int:
    if quality == "Guaranteed":
        return _GUARANTEED
    if quality != "Burstable":
        return _BEST_EFFORT
    share = memory / quantity(of_node()["memory"])
    return min(max(1000 - int(1000 * share), 1000 + _GUARANTEED), _BEST_EFFORT - 1)
