"""What a container may use, in the words of the Container Runtime Interface.

In: a container's requests and limits, its pod's class. Out: LinuxContainerResources, by the kubelet's arithmetic.
Whether they do anything is up to the machine's controllers (``kubelab.underlay.controllers``).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from kubelab.cri.proto import runtime_pb2 as cri
from kubelab.kubelet.config import Object
from kubelab.kubelet.resources import of_node
from kubelab.quantities import quantity

PERIOD = 100_000
"""Microseconds, of which a limit of CPU is a share."""

_QUOTA_MIN, _SHARES_MIN, _SHARES_MAX, _SHARES = 1000, 2, 262144, 1024
_GUARANTEED, _BEST_EFFORT = -997, 1000
"""OOM scores: whom the kernel kills last, and first."""


def resources(pod: Object, container: Object) -> Any:
    wanted = container.get("resources") or {}
    limits = wanted.get("limits") or {}
    requests = {**limits, **(wanted.get("requests") or {})}
    result = cri.LinuxContainerResources(
        cpu_shares=_shares(_amount(requests, "cpu")),
        memory_limit_in_bytes=int(_amount(limits, "memory")),
        oom_score_adj=_score((pod.get("status") or {}).get("qosClass"), _amount(requests, "memory")),
    )
    if cpu := _amount(limits, "cpu"):
        result.cpu_period, result.cpu_quota = PERIOD, max(_QUOTA_MIN, int(cpu * PERIOD))
    return result


def _amount(amounts: Object, name: str) -> Decimal:
    return quantity(amounts.get(name) or 0)


def _shares(cpu: Decimal) -> int:
    return min(max(int(cpu * _SHARES), _SHARES_MIN), _SHARES_MAX)


def _score(quality: str | None, memory: Decimal) -> int:
    if quality == "Guaranteed":
        return _GUARANTEED
    if quality != "Burstable":
        return _BEST_EFFORT
    share = memory / quantity(of_node()["memory"])
    return min(max(1000 - int(1000 * share), 1000 + _GUARANTEED), _BEST_EFFORT - 1)
