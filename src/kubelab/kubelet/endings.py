"""What ends a pod before its time: a deadline, and more local storage than it may have.

In: the pod, where its files are. Out: the first ``Ending``, in the words of a kubelet. Pods without such limits are
never looked at. Source: Kubernetes documentation, "Local ephemeral storage", "Pod Lifecycle".
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from kubelab import timestamps
from kubelab.kubelet.config import Object
from kubelab.kubelet.resources import EPHEMERAL_STORAGE
from kubelab.quantities import quantity_text, whole

ROUND = 2.0
"""Seconds between two looks at a pod's files; a kubelet takes ten."""

EVICTION_GRACE = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    """``grace``: seconds, None for the pod's own; ``evicted``: it is a disruption that the kubelet made."""

    reason: str
    message: str
    event: str
    grace: float | None = None
    evicted: bool = False


@dataclass(frozen=True, slots=True)
class Places:
    """Of a pod's files: emptyDir volumes by name; what each container writes elsewhere, logs too, by its name."""

    volumes: Mapping[str, Path]
    containers: Mapping[str, Path]


async def ending(pod: Object, started: str, places: Places) -> Ending:
    """Returns when there is one."""
    waits = [asyncio.create_task(wait) for wait in (_deadline(pod, started), _overflow(pod, places))]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for wait in waits:
            wait.cancel()


async def _deadline(pod: Object, started: str) -> Ending:
    seconds = pod["spec"].get("activeDeadlineSeconds")
    if seconds is None:
        await asyncio.Event().wait()
    begun = timestamps.parse(started).timestamp()
    await asyncio.sleep(max(0.0, begun + float(seconds) - time.time()))
    return Ending("DeadlineExceeded", "Pod was active on the node longer than the specified deadline", "Normal")


async def _overflow(pod: Object, places: Places) -> Ending:
    volumes, containers = limited(pod)
    if not volumes and not containers:
        await asyncio.Event().wait()
    while True:
        await asyncio.sleep(ROUND)
        if message := await asyncio.to_thread(overflow, volumes, containers, places):
            return Ending("Evicted", message, "Warning", EVICTION_GRACE, evicted=True)


def limited(pod: Object) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes that volumes and containers may have, where that is said. Volumes in memory hold their limit themselves."""
    volumes = {
        volume["name"]: whole(volume["emptyDir"]["sizeLimit"])
        for volume in pod["spec"].get("volumes") or []
        if (volume.get("emptyDir") or {}).get("sizeLimit") and volume["emptyDir"].get("medium") != "Memory"
    }
    every = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    limits = {c["name"]: ((c.get("resources") or {}).get("limits") or {}).get(EPHEMERAL_STORAGE) for c in every}
    return volumes, {name: whole(limit) for name, limit in limits.items() if limit is not None}


def overflow(volumes: Mapping[str, int], containers: Mapping[str, int], places: Places) -> str:
    """What is too much; empty for nothing."""
    for name, limit in volumes.items():
        if name in places.volumes and used(places.volumes[name]) > limit:
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{_text(limit)}". '
    for name, limit in containers.items():
        if name in places.containers and used(places.containers[name]) > limit:
            return f'Container {name} exceeded its local ephemeral storage limit "{_text(limit)}". '
    return ""


def used(directory: Path) -> int:
    """Bytes of a tree, as the file system counts blocks."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def _text(limit: int) -> str:
    return quantity_text(Decimal(limit), binary=True)
