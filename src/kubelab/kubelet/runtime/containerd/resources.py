"""What a container may use, in the words of the Container Runtime Interface.

In: a container and its pod. Out: LinuxContainerResources. Whether they do anything is up to the machine's controllers
(``kubelab.underlay.controllers``).
"""

from __future__ import annotations

from typing import Any

from kubelab.cri.proto import runtime_pb2 as cri
from kubelab.kubelet import limits
from kubelab.kubelet.config import Object


def resources(pod: Object, container: Object) -> Any:
    wanted = limits.of_container(pod, container)
    return cri.LinuxContainerResources(
        cpu_shares=wanted.shares,
        cpu_period=limits.PERIOD if wanted.quota else 0,
        cpu_quota=wanted.quota,
        memory_limit_in_bytes=wanted.memory,
        oom_score_adj=wanted.score,
    )
