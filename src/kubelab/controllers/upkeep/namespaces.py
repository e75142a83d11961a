"""The end of a namespace: everything in it goes first, then its finalizer.

In: namespaces that are being deleted, and what is in them. Out: deletions, a status that says what is left, and at
last the namespace without finalizers, which the store removes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.watch import Change
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object

FINALIZER = "kubernetes"
LAST = ("events",)
"""Deleted in the same pass, but never waited for: the deletions themselves make new ones."""
_UNTROUBLED = (
    (
        "NamespaceDeletionDiscoveryFailure",
        "False",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "False",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "False",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
)
_NOT_HELD = (
    "NamespaceFinalizersRemaining",
    "False",
    "ContentHasNoFinalizers",
    "All content-preserving finalizers finished",
)


class NamespaceController(Controller):
    name = "namespace-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {"namespaces": objects.own_key}

    def observe(self, resource: Resource, change: Change) -> None:
        super().observe(resource, change)
        if change.namespace:
            namespace = self.store.peek("namespaces", change.namespace)
            if namespace is not None and objects.is_deleting(namespace):
                self.queue.add(("", change.namespace))

    async def reconcile(self, key: Key) -> float | None:
        namespace = self.store.peek("namespaces", key[1])
        if namespace is None or not objects.is_deleting(namespace):
            return None
        remaining: Counter[str] = Counter()
        finalizers: Counter[str] = Counter()
        for resource in self.store.registry:
            if resource.namespaced:
                await self._empty(resource, key[1], remaining, finalizers)
        if remaining:
            await self._report(namespace, remaining, finalizers)
            return None  # the next deletion in the namespace brings it back
        kept = [entry for entry in (namespace.get("spec") or {}).get("finalizers") or () if entry != FINALIZER]
        current = self.store.peek("namespaces", key[1])
        if current is not None:
            spec = {**(current.get("spec") or {}), "finalizers": kept}
            await self.store.update("namespaces", {**current, "spec": spec}, subresource="finalize")
        return None

    async def _empty(
        self, resource: Resource, namespace: str, remaining: Counter[str], finalizers: Counter[str]
    ) -> None:
        for obj in self.store.peek_all(resource.key, namespace=namespace):
            name = obj["metadata"]["name"]
            if not objects.is_deleting(obj):
                try:
                    await self.store.delete(
                        resource.key, name, namespace=namespace, propagation="Background", uid=objects.uid_of(obj)
                    )
                except NotFound:
                    continue
            left = self.store.peek(resource.key, name, namespace=namespace)
            if left is not None and resource.key not in LAST:
                remaining[f"{resource.plural}.{resource.group}"] += 1
                finalizers.update(left["metadata"].get("finalizers") or ())

    async def _report(self, namespace: Object, remaining: Counter[str], finalizers: Counter[str]) -> None:
        left = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(remaining.items()))
        held = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
        waits = f"Some content in the namespace has finalizers remaining: {held}"
        findings = [
            *_UNTROUBLED,
            ("NamespaceContentRemaining", "True", "SomeResourcesRemain", f"Some resources are remaining: {left}"),
            ("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", waits) if held else _NOT_HELD,
        ]
        current = self.store.peek("namespaces", namespace["metadata"]["name"])
        if current is None:
            return
        status = current.get("status") or {}
        conditions = list(status.get("conditions") or ())
        for kind, state, reason, message in findings:
            new = {"type": kind, "status": state, "reason": reason, "message": message}
            conditions = objects.with_condition(conditions, new, self.now())
        if conditions != status.get("conditions"):
            changed = {**current, "status": {**status, "phase": "Terminating", "conditions": conditions}}
            await self.store.update("namespaces", changed, subresource="status")
