"""``/stats/summary``: CPU and memory per pod and container, in the form of the kubelet's Summary API.

In: the workers of a kubelet. Out: one object; CPU as nanoseconds since the start and as a rate between two questions.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from kubelab import timestamps
from kubelab.kubelet.config import Object
from kubelab.underlay import cgroups

if TYPE_CHECKING:
    from kubelab.kubelet.worker import PodWorker

ROOT = Path("/sys/fs/cgroup")


class Summaries:
    """Remembers the last question, for rates."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._last: dict[str, tuple[float, int]] = {}  # by container id: when it was asked for, and its CPU then
        self._whole_last: tuple[float, int] | None = None

    async def summary(self, workers: list[PodWorker]) -> Object:
        """The Summary of the node and its pods."""
        pods = [await self._pod(worker) for worker in workers]
        known = {c.state.container_id for worker in workers for c in (*worker.containers, *worker.init)}
        self._last = {key: value for key, value in self._last.items() if key in known}
        return {"node": self._whole(), "pods": pods}

    def _whole(self) -> Object:
        """The node: everything in its cgroup, the kubelet too."""
        stamp, now = timestamps.now(), time.monotonic()
        spent, memory = cgroups.cpu_nanoseconds(ROOT), cgroups.resident_bytes(ROOT)
        then, before = self._whole_last or (now, spent)
        self._whole_last = now, spent
        rate = int((spent - before) / (now - then)) if now > then else 0
        return {
            "nodeName": self._node,
            "cpu": {"time": stamp, "usageNanoCores": rate, "usageCoreNanoSeconds": spent},
            "memory": {"time": stamp, "workingSetBytes": memory, "rssBytes": memory},
        }

    async def _pod(self, worker: PodWorker) -> Object:
        meta = worker.pod["metadata"]
        containers: list[Object] = []
        for container in (*worker.init, *worker.containers):
            if container.process is None or not container.running:
                continue
            used, now = await container.process.stats(), time.monotonic()
            before, spent = self._last.get(container.state.container_id, (now, used.cpu_nanoseconds))
            rate = int((used.cpu_nanoseconds - spent) / (now - before)) if now > before else 0
            self._last[container.state.container_id] = now, used.cpu_nanoseconds
            stamp = timestamps.now()
            containers.append(
                {
                    "name": container.name,
                    "startTime": container.state.started_at,
                    "cpu": {"time": stamp, "usageNanoCores": rate, "usageCoreNanoSeconds": used.cpu_nanoseconds},
                    "memory": {"time": stamp, "workingSetBytes": used.memory_bytes, "rssBytes": used.memory_bytes},
                }
            )
        cpu, memory = _total([c["cpu"] for c in containers], [c["memory"] for c in containers])
        return {
            "podRef": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "startTime": worker.started,
            "containers": containers,
            "cpu": cpu,
            "memory": memory,
        }


def _total(cpus: list[Object], memories: list[Object]) -> tuple[Object, Object]:
    stamp = timestamps.now()
    cpu = {key: sum(part[key] for part in cpus) for key in ("usageNanoCores", "usageCoreNanoSeconds")}
    memory = {key: sum(part[key] for part in memories) for key in ("workingSetBytes", "rssBytes")}
    return {"time": stamp, **cpu}, {"time": stamp, **memory}
