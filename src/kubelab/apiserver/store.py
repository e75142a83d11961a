"""The store: every object, every watch (`objects.py`), and every rule of a write.

Owns: the steps of a write. The HTTP layer and in-process controllers use the same methods. Comes in: plain dicts as in
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
- Errors are `errors.ApiError` subclasses. All methods finish in one step of the event loop.
"""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

from kubelab.apiserver import errors, metadata
from kubelab.apiserver.admission.base import Admission, Chain, Write
from kubelab.apiserver.copies import clone
from kubelab.apiserver.errors import BadRequest
from kubelab.apiserver.objects import Objects
from kubelab.apiserver.ownership import managers
from kubelab.apiserver.ownership.apply import Applier, apply
from kubelab.apiserver.patches import merge_patch
from kubelab.apiserver.persistence import Database
from kubelab.apiserver.resources import Registry, Resource
from kubelab.apiserver.strategies.base import Object, Strategies, Strategy, plain
from kubelab.apiserver.watch import Entry

Propagation = Literal["Background", "Foreground", "Orphan"]

CONTROLLERS = "kube-controller-manager"
"Who writes when nobody is named: in-process callers are controllers."


class Store(Objects):
    """See the module docstring."""

    def __init__(
        self,
        registry: Registry,
        *,
        strategies: Strategies = plain,
        database: Database | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._strategies = strategies
        self.admission: Admission = Chain()
        """What may change or refuse writes; the server puts its plugins here."""
        self._now = now
        super().__init__(registry, database or Database(None))

    # ---- writing -------------------------------------------------------------------------------------------------

    async def create(
        self, resource: str, obj: Object, *, namespace: str = "", manager: str = CONTROLLERS, dry_run: bool = False
    ) -> Object:
        return self.create_now(resource, obj, namespace=namespace, manager=manager, dry_run=dry_run)

    def create_now(
        self, resource: str, obj: Object, *, namespace: str = "", manager: str = CONTROLLERS, dry_run: bool = False
    ) -> Object:
        """`create` for commit listeners, which cannot wait."""
        known = self._resource(resource)
        obj = clone(obj)
        metadata.identify(known, obj, namespace)
        return self._create(known, obj, manager=manager, dry_run=dry_run)

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
        obj = clone(obj)
        metadata.identify(known, obj, namespace)
        entry = self._entry_for(known, obj)
        return self._write(known, obj, entry, subresource=subresource, manager=manager, dry_run=dry_run)

    async def patch(
        self,
        resource: str,
        name: str,
        patch: Object | Callable[[Object], Object],
        *,
        namespace: str = "",
        subresource: str = "",
        manager: str = CONTROLLERS,
        through: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Apply a JSON merge patch, or a function from the (shared) old object to a new one. `through` names the
        subresource that the caller used where it writes the object itself (scale)."""
        known = self._resource(resource)
        entry = self.entry(resource, name, namespace=namespace)
        patched = patch(entry.object) if callable(patch) else merge_patch(entry.object, patch)
        obj = clone(patched)
        metadata.identify(known, obj, namespace)
        if obj["metadata"].get("name") != name:
            raise BadRequest(f"metadata.name: the patch changes the name {name!r} to {obj['metadata'].get('name')!r}")
        self._entry_for(known, obj)
        return self._write(
            known, obj, entry, subresource=subresource, manager=manager, through=through, dry_run=dry_run
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
        known = self._resource(resource)
        strategy = self._strategies(known)
        wanted = clone(configuration)
        metadata.identify(known, wanted, namespace)
        if wanted["metadata"].setdefault("name", name) != name:
            raise BadRequest(
                f"the name of the object ({wanted['metadata']['name']}) does not match the name on the URL ({name})"
            )
        if wanted["metadata"].pop("managedFields", None):
            raise BadRequest("metadata.managedFields must be nil")
        if known.has_status:
            wanted.pop("spec" if applier.subresource == "status" else "status", None)
        writes_itself = applier.subresource != "status"
        entry = self._objects.get(resource, {}).get((wanted["metadata"].get("namespace", ""), name))
        if entry is None:
            if applier.subresource:
                raise errors.not_found(group=known.group, plural=known.plural, name=name)
            merged = apply(None, wanted, strategy.node, applier, builtin=not known.custom)
            return self._create(known, clone(merged), manager=None, dry_run=dry_run), True
        self._entry_for(known, wanted)
        merged = clone(apply(entry.object, wanted, strategy.node, applier, builtin=not known.custom))
        subresource = "" if writes_itself else "status"
        return self._write(known, merged, entry, subresource=subresource, manager=None, dry_run=dry_run), False

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
        """`delete` for commit listeners, which cannot wait."""
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
        return self._write(known, clone(obj), entry, subresource="server", manager=None, dry_run=False)

    # ---- the steps of a write ------------------------------------------------------------------------------------

    def _entry_for(self, known: Resource, obj: Object) -> Entry:
        """The stored version of `obj`. Raises NotFound, Conflict when it is not the one that `obj` came from."""
        own = obj["metadata"]
        entry = self.entry(known.key, own.get("name", ""), namespace=own.get("namespace", ""))
        metadata.check_preconditions(known, entry.object, uid=own.get("uid"), version=own.get("resourceVersion"))
        return entry

    def _create(self, known: Resource, obj: Object, *, manager: str | None, dry_run: bool) -> Object:
        """`manager` None: the fields of `obj` have their managers already."""
        strategy, own = self._strategies(known), obj["metadata"]
        space, taken = own.get("namespace", ""), self._objects.get(known.key, {})
        if known.namespaced:
            metadata.check_namespace(known, own, self.peek("namespaces", space))
        if not own.get("name"):
            own["name"] = metadata.generate_name(known, own, lambda name: (space, name) in taken)
        metadata.stamp_creation(known, own, uid=str(uuid.uuid4()), now=self._now())
        if (space, own["name"]) in taken:
            raise errors.already_exists(group=known.group, plural=known.plural, name=own["name"])
        if known.has_status and not strategy.creates_status:
            obj.pop("status", None)
        strategy.default(obj)
        if manager is not None:
            own.pop("managedFields", None)
            self._track(known, None, obj, strategy, manager=manager, subresource="")
        write = Write(known, obj, None, self)
        self.admission.mutate(write)
        strategy.prepare_create(obj, self)
        self._refuse_if(known, obj, strategy.validate(obj, None))
        self.admission.validate(write)
        if dry_run:
            return obj
        return self._commit("ADDED", known, obj, None).object

    def _write(
        self,
        known: Resource,
        obj: Object,
        entry: Entry,
        *,
        subresource: str,
        manager: str | None,
        dry_run: bool,
        through: str = "",
    ) -> Object:
        old, strategy = entry.object, self._strategies(known)
        settled = obj["metadata"].get("managedFields") if manager is None else None
        if subresource == "status":
            obj = strategy.status_update(obj, old)
        else:
            if subresource == "":
                strategy.default(obj)
                if known.has_status:
                    obj.pop("status", None)
                    if "status" in old:
                        obj["status"] = old["status"]
            metadata.keep(obj, old)
        if settled is not None:
            obj["metadata"]["managedFields"] = settled
        elif manager is not None and subresource in ("", "status"):
            self._track(known, old, obj, strategy, manager=manager, subresource=through or subresource)
        if subresource == "status":
            self._refuse_if(known, obj, strategy.validate_status(obj, old))
        elif subresource == "":
            self.admission.mutate(Write(known, obj, old, self))
            strategy.prepare_update(obj, old, self)
            self._refuse_if(known, obj, strategy.validate(obj, old))
        if subresource != "server":
            self.admission.validate(Write(known, obj, old, self, subresource))
        return self._finish(known, obj, entry, strategy, dry_run=dry_run)

    def _finish(self, known: Resource, obj: Object, entry: Entry, strategy: Strategy, *, dry_run: bool) -> Object:
        """Commit what changed; let go what only this write still held."""
        old, own = entry.object, obj["metadata"]
        own["resourceVersion"] = old["metadata"]["resourceVersion"]
        own.pop("generation", None)
        if "generation" in old["metadata"]:
            own["generation"] = old["metadata"]["generation"] + strategy.spec_changed(obj, old)
        if dry_run or obj == old:
            return obj
        held = bool(own.get("finalizers")) or strategy.holds_deletion(obj)
        # A pod within its grace period still waits for its kubelet to delete it.
        waits = own.get("deletionGracePeriodSeconds", 0) > 0
        if "deletionTimestamp" in own and not held and not waits:
            return self._remove(known, entry, last=obj).object
        return self._commit("MODIFIED", known, obj, entry).object

    def _track(
        self,
        known: Resource,
        old: Object | None,
        obj: Object,
        strategy: Strategy,
        *,
        manager: str,
        subresource: str,
    ) -> None:
        managers.update(old, obj, strategy.node, manager=manager, subresource=subresource, builtin=not known.custom)

    def _refuse_if(self, known: Resource, obj: Object, causes: Sequence[errors.Cause]) -> None:
        if causes:
            name = obj["metadata"].get("name", "")
            raise errors.invalid(group=known.group, kind=known.kind, name=name, causes=causes)
