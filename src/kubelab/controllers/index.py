"""Pods by controlling owner and by node, so that one pod's change costs what it concerns and not what there is.

In: commits of the store. Out: the stored pods of an owner, of a node, of nobody. One index serves all controllers.
"""

from __future__ import annotations

from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change
from kubelab.controllers import objects
from kubelab.controllers.objects import Key, Object

_Place = tuple[str, str, str]
"""(uid of the owner or "", namespace of pods without one, node)."""


class PodIndex:
    """Register `observe` as the first commit listener: controllers read what it has learnt."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places: dict[Key, _Place] = {}
        self._owned: dict[str, dict[Key, None]] = {}
        self._orphans: dict[str, dict[Key, None]] = {}
        self._nodes: dict[str, dict[Key, None]] = {}
        for pod in store.peek_all("pods"):
            self._learn(pod)

    def observe(self, resource: Resource, change: Change) -> None:
        if resource.key != "pods":
            return
        if change.type == "DELETED":
            self._forget(objects.key_of(change.entry.object))
        else:
            self._learn(change.entry.object)

    def of(self, owner: Object) -> list[Object]:
        """Pods that `owner` controls, oldest first."""
        return self._read(self._owned.get(objects.uid_of(owner), {}))

    def orphans(self, namespace: str) -> list[Object]:
        """Pods of a namespace that nobody controls."""
        return self._read(self._orphans.get(namespace, {}))

    def on(self, node: str) -> list[Object]:
        """Pods bound to a node."""
        return self._read(self._nodes.get(node, {}))

    def _read(self, keys: dict[Key, None]) -> list[Object]:
        found = (self._store.peek("pods", name, namespace=namespace) for namespace, name in keys)
        return [pod for pod in found if pod is not None]

    def _learn(self, pod: Object) -> None:
        key, owner = objects.key_of(pod), objects.controller_of(pod)
        place = (
            str(owner["uid"]) if owner else "",
            "" if owner else key[0],
            (pod.get("spec") or {}).get("nodeName", ""),
        )
        if self._places.get(key) == place:
            return
        self._forget(key)
        self._places[key] = place
        for table, name in zip((self._owned, self._orphans, self._nodes), place, strict=True):
            if name:
                table.setdefault(name, {})[key] = None

    def _forget(self, key: Key) -> None:
        place = self._places.pop(key, None)
        if place is None:
            return
        for table, name in zip((self._owned, self._orphans, self._nodes), place, strict=True):
            if name and (members := table.get(name)) is not None:
                members.pop(key, None)
                if not members:
                    del table[name]
