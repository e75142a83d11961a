"""ConfigMaps and Secrets that the pods of this node refer to, as they are now.

In: names that pods' volumes and environments ask for. Out: their data, and a call when one of them changed. Each is
followed by a watch of its own, from the first time that a pod asks until the last pod that refers to it is gone: a
kubelet may read nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from kubelab.kubelet.client import ApiClient
from kubelab.kubelet.config import Object
from kubelab.kubelet.environment import decode

Reference = tuple[str, str, str]
"""``configmaps`` or ``secrets``, namespace, name."""
Changed = Callable[[str, str, str], Awaitable[None]]

_KINDS = {"configMap": "configmaps", "configMapRef": "configmaps", "configMapKeyRef": "configmaps",
          "secret": "secrets", "secretRef": "secrets", "secretKeyRef": "secrets"}  # fmt: skip


class References:
    """``run`` first."""

    def __init__(self, client: ApiClient, changed: Changed) -> None:
        self._client, self._changed = client, changed
        self._followed: dict[Reference, _Followed] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await asyncio.Event().wait()

    async def fetch(self, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
        """The data; None when there is no such object. Waits while nothing is known of it yet."""
        reference = (kind, namespace, name)
        followed = self._followed.get(reference)
        if followed is None:
            assert self._tasks is not None, "nobody runs this"
            followed = self._followed[reference] = _Followed()
            followed.task = self._tasks.create_task(self._follow(reference, followed), name="/".join(reference))
        await followed.known.wait()
        return followed.data

    def keep(self, pods: Iterable[Object]) -> None:
        """Lets go what none of these pods refers to."""
        wanted = {reference for pod in pods for reference in references(pod)}
        for reference in self._followed.keys() - wanted:
            followed = self._followed.pop(reference)
            if followed.task is not None:
                followed.task.cancel()

    async def _follow(self, reference: Reference, followed: _Followed) -> None:
        kind, namespace, name = reference
        path = f"/api/v1/namespaces/{namespace}/{kind}"
        async for event in self._client.list_and_watch(path, fieldSelector=f"metadata.name={name}"):
            found = None if event.kind == "delete" else next(iter(event.objects), None)
            if followed.take(kind, found):
                await self._changed(kind, namespace, name)


class _Followed:
    """One object. Its data is None while there is none."""

    def __init__(self) -> None:
        self.known = asyncio.Event()
        self.data: dict[str, bytes] | None = None
        self.task: asyncio.Task[None] | None = None
        self._version = ""

    def take(self, kind: str, obj: Object | None) -> bool:
        """Whether there is news for those who have asked before."""
        version = obj["metadata"]["resourceVersion"] if obj is not None else ""
        news = self.known.is_set() and obj is not None and version != self._version
        self._version = version
        self.data = None if obj is None else decode({**obj, "kind": "Secret" if kind == "secrets" else "ConfigMap"})
        self.known.set()
        return news


def references(pod: Object) -> Iterator[Reference]:
    """What a pod's volumes and environments refer to."""
    namespace, spec = pod["metadata"]["namespace"], pod["spec"]
    # The volume of the account's token is the kubelet's own where admission made none.
    yield "configmaps", namespace, "kube-root-ca.crt"
    holders: list[Any] = [*(spec.get("volumes") or ())]
    for volume in spec.get("volumes") or ():
        holders += (volume.get("projected") or {}).get("sources") or ()
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        holders += container.get("envFrom") or ()
        holders += [variable.get("valueFrom") or {} for variable in container.get("env") or ()]
    for holder in holders:
        for field, kind in _KINDS.items():
            source = holder.get(field)
            if source:
                yield kind, namespace, source.get("name") or source.get("secretName") or ""
