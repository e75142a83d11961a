"""The store: every object, every watch (`objects.py`), and every rule of a write (`steps.py`).

Owns: the ways of a write. The HTTP layer and in-process controllers use the same methods. Comes in: plain dicts as in
JSON. Goes out: plain dicts, but for the field sets of metadata.managedFields, which stay encoded.

    resource keys     "pods", "nodes", "deployments.apps", "endpointslices.discovery.k8s.io", "ciliumnodes.cilium.io"

    pod = await store.get("pods", "web-0", namespace="default")               raises NotFound
    listing = await store.list("pods", namespace="default", labels="app=web", fields="spec.nodeName=n1")
    listing.items, listing.version                                            namespace=None: all namespaces
    obj = await store.create("pods", {...}, namespace="default")              raises AlreadyExists, Invalid, Forbidden
    obj = await store.update("deployments.apps", obj)                         raises Conflict, NotFound, Invalid
    obj = await store.update("deployments.apps", obj, subresource="status")
    obj = await store.patch("pods", "web-0", {"metadata": {...}}, namespace="default", subresource="")
                                                                              JSON merge patch; no Conflict
    obj, created = await store.apply("pods", "web-0", {...}, Applier("me"), namespace="default")
                                                                              server-side apply; raises Conflict
    obj = await store.delete("pods", "web-0", namespace="default", grace_seconds=0, propagation="Background", uid=None)
    with store.watch("pods", namespace=None, labels="", fields="", since=listing.version) as events:
        async for event in events: event.type, event.object                   ADDED MODIFIED DELETED BOOKMARK
        await events.wait() -> list[Event]                                    or batches; [] at the end
    since=None: first an ADDED for every present object, then one BOOKMARK with initial_end, then changes.
    since too old: raises Expired, list again.

Rules for callers:
- Objects handed out are the stored ones and shared: read them, never change them. `copy.deepcopy` first.
- `update` with metadata.resourceVersion is refused with Conflict when the object moved on; without it, it is
  unconditional. Updates that change nothing commit nothing.
- Deletion: an object with finalizers (or a scheduled pod with a grace period) stays, with deletionTimestamp; it goes
  when an update removes the last finalizer, a pod when it is deleted with grace_seconds=0. propagation "Foreground" and
  "Orphan" add the finalizers "foregroundDeletion" and "orphan" for the garbage collector to act upon and remove;
  "Background" removes at once, dependents are the garbage collector's. Namespaces stay until spec.finalizers is
  emptied through subresource="finalize".
- Each write names its `manager`, which metadata.managedFields then shows; without one it is a controller's.
- Errors are `errors.ApiError` subclasses. All methods finish in one step of the event loop, unless webhooks are asked
  about the write: then an update without resourceVersion, a patch and an apply start anew when the object has changed.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Literal

from kubelab.apiserver import errors, metadata
from kubelab.apiserver.admission.base import DELETE, Write
from kubelab.apiserver.copies import clone
from kubelab.apiserver.errors import BadRequest
from kubelab.apiserver.ownership.apply import Applier, apply
from kubelab.apiserver.patches import merge_patch
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.steps import Steps
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.watch import Entry

Propagation = Literal["Background", "Foreground", "Orphan"]
Change = Callable[[Object], Object | Awaitable[Object]]

CONTROLLERS = "kube-controller-manager"
"Who writes when nobody is named: in-process callers are controllers."
_ATTEMPTS = 5
"""How often a write starts anew because its object changed while webhooks were asked."""


class Store(Steps):
    """See the module docstring."""

    # ---- writing -------------------------------------------------------------------------------------------------

    async def create(
        self, resource: str, obj: Object, *, namespace: str = "", manager: str = CONTROLLERS, dry_run: bool = False
    ) -> Object:
        known, obj = self._identified(resource, obj, namespace)
        return await self._created(known, obj, manager=manager, dry_run=dry_run)

    def create_now(
        self, resource: str, obj: Object, *, namespace: str = "", manager: str = CONTROLLERS, dry_run: bool = False
    ) -> Object:
        """`create` for commit listeners, which cannot wait: no webhook is asked."""
        known, obj = self._identified(resource, obj, namespace)
        write = self._draft_create(known, obj, manager=manager, dry_run=dry_run)
        self._settle_create(write)
        return self._finish_create(write)

    async def update(
        self,
        resource: str,
        obj: Object,
        *,
        namespace: str = "",
        subresource: str = "",
        manager: str = CONTROLLERS,
        dry_run: bool = False,
    ) -> Object:
        known = self._resource(resource)
        obj = {**obj, "metadata": {**(obj.get("metadata") or {})}}
        metadata.identify(known, obj, namespace)

        async def same(entry: Entry) -> Object:
            self._entry_for(known, obj)
            return clone(obj)

        key = obj["metadata"].get("namespace", ""), obj["metadata"].get("name", "")
        return await self._rewritten(known, key, same, subresource=subresource, manager=manager, dry_run=dry_run)

    async def patch(
        self,
        resource: str,
        name: str,
        patch: Object | Change,
        *,
        namespace: str = "",
        subresource: str = "",
        manager: str = CONTROLLERS,
        through: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Apply a JSON merge patch, or a function from the (shared) old object to a new one, which may take its time.
        `through` names the subresource that the caller used where it writes the object itself (scale)."""
        known = self._resource(resource)

        async def patched(entry: Entry) -> Object:
            made = patch(entry.object) if callable(patch) else merge_patch(entry.object, patch)
            obj = clone(await made if inspect.isawaitable(made) else made)
            metadata.identify(known, obj, namespace)
            if obj["metadata"].get("name") != name:
                raise BadRequest(
                    f"metadata.name: the patch changes the name {name!r} to {obj['metadata'].get('name')!r}"
                )
            self._entry_for(known, obj)
            return obj

        key = (namespace if known.namespaced else "", name)
        return await self._rewritten(
            known, key, patched, subresource=subresource, manager=manager, through=through, dry_run=dry_run
        )

    async def apply(
        self,
        resource: str,
        name: str,
        configuration: Object,
        applier: Applier,
        *,
        namespace: str = "",
        dry_run: bool = False,
    ) -> tuple[Object, bool]:
        """Server-side apply. Goes out: the object, and whether it was created. Raises Conflict naming the fields that
        belong to other managers."""
        known, wanted = self._identified(resource, configuration, namespace)
        node = self._strategies(known).node
        if wanted["metadata"].setdefault("name", name) != name:
            raise BadRequest(
                f"the name of the object ({wanted['metadata']['name']}) does not match the name on the URL ({name})"
            )
        if wanted["metadata"].pop("managedFields", None):
            raise BadRequest("metadata.managedFields must be nil")
        if known.has_status:
            wanted.pop("spec" if applier.subresource == "status" else "status", None)
        key = (wanted["metadata"].get("namespace", ""), name)
        if key not in self._objects.get(resource, {}):
            if applier.subresource:
                raise errors.not_found(group=known.group, plural=known.plural, name=name)
            merged = apply(None, wanted, node, applier, builtin=not known.custom)
            return await self._created(known, clone(merged), manager=None, dry_run=dry_run), True

        async def applied(entry: Entry) -> Object:
            self._entry_for(known, wanted)
            return clone(apply(entry.object, clone(wanted), node, applier, builtin=not known.custom))

        subresource = "status" if applier.subresource == "status" else ""
        made = await self._rewritten(
            known, key, applied, subresource=subresource, manager=None, through=applier.subresource, dry_run=dry_run
        )
        return made, False

    async def delete(
        self,
        resource: str,
        name: str,
        *,
        namespace: str = "",
        grace_seconds: int | None = None,
        propagation: Propagation | None = None,
        uid: str | None = None,
        version: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Delete, or mark for deletion. Returns the object as it was left (or as it went)."""
        entry = self.entry(resource, name, namespace=namespace)
        known = self._resource(resource)
        write = Write(known, entry.object, entry.object, self, operation=DELETE, dry_run=dry_run)
        metadata.check_preconditions(known, entry.object, uid=uid, version=version, deletes=True)
        self.admission.validate_other(write)
        if self.webhooks.concern(write):
            await self.webhooks.mutate(write)
            await self.webhooks.validate(write)
        return self.delete_now(
            resource,
            name,
            namespace=namespace,
            grace_seconds=grace_seconds,
            propagation=propagation,
            uid=uid,
            version=version,
            dry_run=dry_run,
        )

    def delete_now(
        self,
        resource: str,
        name: str,
        *,
        namespace: str = "",
        grace_seconds: int | None = None,
        propagation: Propagation | None = None,
        uid: str | None = None,
        version: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """`delete` for commit listeners, which cannot wait: no webhook is asked."""
        known = self._resource(resource)
        strategy = self._strategies(known)
        entry = self.entry(resource, name, namespace=namespace)
        metadata.check_preconditions(known, entry.object, uid=uid, version=version, deletes=True)
        strategy.may_delete(entry.object)
        obj = clone(entry.object)
        own = obj["metadata"]
        grace = strategy.grace_seconds(obj, grace_seconds)
        finalizer = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation or "")
        if finalizer and "deletionTimestamp" not in own and finalizer not in own.get("finalizers", ()):
            own["finalizers"] = [*own.get("finalizers", ()), finalizer]
        if dry_run:
            return obj
        stays = bool(own.get("finalizers")) or strategy.holds_deletion(obj)
        if not stays and grace == 0:
            return self._remove(known, entry).object
        if "deletionTimestamp" not in own or grace < own.get("deletionGracePeriodSeconds", 0):
            metadata.mark_deleted(known, obj, grace=grace, now=self._now())
        if obj == entry.object:
            return obj  # Deleted before: nothing moves.
        return self._commit("MODIFIED", known, obj, entry).object

    def replace(self, resource: str, obj: Object) -> Object:
        """Store `obj` as it is, by the server itself: no defaults, no validation. For commit listeners."""
        known = self._resource(resource)
        entry = self._entry_for(known, {**obj, "metadata": {**obj["metadata"], "resourceVersion": ""}})
        write = self._draft_update(known, clone(obj), entry, subresource="server", manager=None, dry_run=False)
        self._settle_update(write)
        return self._finish_update(write, entry)

    async def review(
        self,
        resource: str,
        name: str,
        obj: Object,
        *,
        namespace: str,
        subresource: str,
        operation: str,
        dry_run: bool = False,
        old: Object | None = None,
    ) -> None:
        """Ask admission about what is no write of the store: evictions, bindings, scales, `exec`. `obj` is what was
        sent, and may be changed in place. Raises ApiError for a refusal."""
        known = self._resource(resource)
        if namespace:
            obj.setdefault("metadata", {}).setdefault("namespace", namespace)
        write = Write(known, obj, old, self, subresource, operation, dry_run, name)
        self.admission.validate_other(write)
        if self.webhooks.concern(write):
            await self.webhooks.mutate(write)
            await self.webhooks.validate(write)

    # ---- the ways of a write -------------------------------------------------------------------------------------

    def _identified(self, resource: str, obj: Object, namespace: str) -> tuple[Resource, Object]:
        """A private copy of what a caller gives, under its names."""
        known, obj = self._resource(resource), clone(obj)
        metadata.identify(known, obj, namespace)
        return known, obj

    async def _created(self, known: Resource, obj: Object, *, manager: str | None, dry_run: bool) -> Object:
        write = self._draft_create(known, obj, manager=manager, dry_run=dry_run)
        if self.webhooks.concern(write):
            await self._review(write, self._settle_create)
        else:
            self._settle_create(write)
        return self._finish_create(write)

    async def _rewritten(
        self,
        known: Resource,
        key: tuple[str, str],
        make: Callable[[Entry], Awaitable[Object]],
        *,
        subresource: str,
        manager: str | None,
        dry_run: bool,
        through: str = "",
    ) -> Object:
        """`make` gives the new object, from the stored one; it is asked again when that changed while others were."""
        for _ in range(_ATTEMPTS):
            entry = self.entry(known.key, key[1], namespace=key[0])
            write = self._draft_update(
                known,
                await make(entry),
                entry,
                subresource=subresource,
                manager=manager,
                dry_run=dry_run,
                through=through,
            )
            if write.asked or not self.webhooks.concern(write):
                self._settle_update(write)
            else:
                await self._review(write, self._settle_update)
            if self._objects.get(known.key, {}).get(key) is entry:
                return self._finish_update(write, entry)
        raise errors.conflict(group=known.group, plural=known.plural, name=key[1])
