"""Owner garbage collection: dependents follow their owners, in the way the deletion asked for.

In: owner references of every object of every resource. Out: Background: dependents whose owners are all gone are
deleted. Foreground (finalizer foregroundDeletion): dependents first, the owner when those that block it are gone.
Orphan (finalizer orphan): references are cut, then the owner goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Propagation, Store
from kubelab.apiserver.watch import Change
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
Place = tuple[str, str, str]
"""Resource, namespace, name."""


class GarbageCollector(Controller):
    """Keys are ("", uid): of a dependent to examine, or of an owner that waits to go."""

    name = "garbage-collector"

    def __init__(self, store: Store, *, pods: PodIndex, now: Callable[[], datetime]) -> None:
        self._places: dict[str, Place] = {}
        self._dependents: dict[str, set[str]] = {}
        self._owners: dict[str, tuple[str, ...]] = {}
        super().__init__(store, pods=pods, now=now)

    def watches(self) -> Mapping[str, Mapper]:
        return {}

    def observe(self, resource: Resource, change: Change) -> None:
        obj = change.entry.object
        if change.type == "DELETED":
            self._forget(objects.uid_of(obj))
        else:
            self._learn(resource.key, obj)

    def resync(self) -> None:
        for resource in self.store.registry:
            for obj in self.store.peek_all(resource.key):
                self._learn(resource.key, obj)

    def _learn(self, resource: str, obj: Object) -> None:
        uid, owners = objects.uid_of(obj), tuple(str(owner["uid"]) for owner in objects.owners_of(obj))
        if uid not in self._places:
            self._places[uid] = (resource, *objects.key_of(obj))
        known = self._owners.get(uid, ())
        if owners != known:
            self._link(uid, known, owners)
            self.queue.add(("", uid))
        if objects.is_deleting(obj) and {FOREGROUND, ORPHAN} & set(obj["metadata"].get("finalizers") or ()):
            self.queue.add(("", uid))

    def _link(self, uid: str, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        for owner in before:
            self._dependents.get(owner, set()).discard(uid)
            if not self._dependents.get(owner):
                self._dependents.pop(owner, None)
            self.queue.add(("", owner))  # one that waits for its dependents may go now
        for owner in after:
            self._dependents.setdefault(owner, set()).add(uid)
        self._owners[uid] = after
        if not after:
            self._owners.pop(uid, None)

    def _forget(self, uid: str) -> None:
        self._places.pop(uid, None)
        self._link(uid, self._owners.get(uid, ()), ())
        for dependent in self._dependents.get(uid, ()):
            self.queue.add(("", dependent))

    async def reconcile(self, key: Key) -> float | None:
        uid = key[1]
        obj = self._peek(uid)
        if obj is None:
            return None
        finalizers = obj["metadata"].get("finalizers") or ()
        if objects.is_deleting(obj) and ORPHAN in finalizers:
            await self._orphan(uid)
        elif objects.is_deleting(obj) and FOREGROUND in finalizers:
            await self._delete_dependents(uid)
        elif objects.owners_of(obj) and not objects.is_deleting(obj):
            await self._examine(uid, obj)
        return None

    def _peek(self, uid: str) -> Object | None:
        place = self._places.get(uid)
        if place is None:
            return None
        obj = self.store.peek(place[0], place[2], namespace=place[1])
        return obj if obj is not None and objects.uid_of(obj) == uid else None

    async def _examine(self, uid: str, obj: Object) -> None:
        """Delete an object when none of its owners is there; cut references to those that are gone."""
        alive, gone, foreground = [], [], False
        for reference in objects.owners_of(obj):
            exists = self._exists(obj, reference)
            if exists is None or exists:
                alive.append(reference)
                owner = self._peek(str(reference["uid"]))
                foreground |= owner is not None and FOREGROUND in (owner["metadata"].get("finalizers") or ())
            else:
                gone.append(reference)
        if not alive:
            await self._delete(uid, "Background")
        elif gone:
            await self._set_owners(uid, alive)
        elif foreground and len(alive) == 1:
            await self._delete(uid, self._manner(uid))

    def _exists(self, obj: Object, reference: Object) -> bool | None:
        """None when the owner's kind is not served: then nobody can tell, and nothing is deleted."""
        group = reference["apiVersion"].rpartition("/")[0]
        resource = self.store.registry.find_kind(group, reference["kind"])
        if resource is None:
            return None
        namespace = obj["metadata"].get("namespace", "") if resource.namespaced else ""
        owner = self.store.peek(resource.key, reference["name"], namespace=namespace)
        return owner is not None and objects.uid_of(owner) == reference["uid"]

    def _manner(self, uid: str) -> Propagation:
        """Foreground goes down the tree; leaves are simply deleted."""
        return "Foreground" if self._dependents.get(uid) else "Background"

    async def _delete_dependents(self, uid: str) -> None:
        blocked = False
        for dependent in tuple(self._dependents.get(uid, ())):
            obj = self._peek(dependent)
            if obj is None:
                continue
            others = [owner for owner in objects.owners_of(obj) if owner["uid"] != uid]
            if others:
                await self._set_owners(dependent, others)
                continue
            if not objects.is_deleting(obj):
                await self._delete(dependent, self._manner(dependent))
            left = self._peek(dependent)
            blocked |= left is not None and any(
                owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in objects.owners_of(left)
            )
        if not blocked:
            await self._remove_finalizer(uid, FOREGROUND)

    async def _orphan(self, uid: str) -> None:
        for dependent in tuple(self._dependents.get(uid, ())):
            obj = self._peek(dependent)
            if obj is not None:
                others = [owner for owner in objects.owners_of(obj) if owner["uid"] != uid]
                await self._set_owners(dependent, others)
        await self._remove_finalizer(uid, ORPHAN)

    async def _delete(self, uid: str, propagation: Propagation) -> None:
        resource, namespace, name = self._places[uid]
        try:
            await self.store.delete(resource, name, namespace=namespace, propagation=propagation, uid=uid)
        except NotFound:
            return

    async def _set_owners(self, uid: str, owners: list[Object]) -> None:
        resource, namespace, name = self._places[uid]
        patch = {"metadata": {"ownerReferences": owners or None, "uid": uid}}
        await self.store.patch(resource, name, patch, namespace=namespace)

    async def _remove_finalizer(self, uid: str, finalizer: str) -> None:
        obj = self._peek(uid)
        if obj is None:
            return
        resource, namespace, name = self._places[uid]
        kept = [entry for entry in obj["metadata"].get("finalizers") or () if entry != finalizer]
        patch = {"metadata": {"finalizers": kept or None, "uid": uid}}
        await self.store.patch(resource, name, patch, namespace=namespace)
