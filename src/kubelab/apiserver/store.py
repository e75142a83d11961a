"""The store: every object, every rule of a write, every watch.

Owns: objects by (resource key, namespace, name), the global resourceVersion, the change windows. The HTTP layer and
in-process controllers use the same methods. Comes in: plain dicts as in JSON. Goes out: plain dicts.

    resource keys     "pods", "nodes", "deployments.apps", "endpointslices.discovery.k8s.io", "ciliumnodes.cilium.io"

    pod = await store.get("pods", "web-0", namespace="default")               raises NotFound
    listing = await store.list("pods", namespace="default", labels="app=web", fields="spec.nodeName=n1")
    listing.items, listing.version                                            namespace=None: all namespaces
    obj = await store.create("pods", {...}, namespace="default")              raises AlreadyExists, Invalid, Forbidden
    obj = await store.update("deployments.apps", obj)                         raises Conflict, NotFound, Invalid
    obj = await store.update("deployments.apps", obj, subresource="status")
    obj = await store.patch("pods", "web-0", {"metadata": {...}}, namespace="default", subresource="")
                                                                              JSON merge patch; no Conflict
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
- Errors are `errors.ApiError` subclasses. All methods finish in one step of the event loop.
"""

import copy
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from kubelab.apiserver import errors, selectors
from kubelab.apiserver.admission.base import Admission, Chain, Write
from kubelab.apiserver.errors import BadRequest, Conflict, NotFound
from kubelab.apiserver.patches import merge_patch
from kubelab.apiserver.persistence import Database, StoredObject
from kubelab.apiserver.resources import Registry, Resource
from kubelab.apiserver.selectors import Selector
from kubelab.apiserver.strategies.base import Object, Strategies, plain
from kubelab.apiserver.watch import Change, Channel, Entry, Event, EventType, Watch

Propagation = Literal["Background", "Foreground", "Orphan"]
Key = tuple[str, str]

_CONSONANTS = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Listing:
    """A consistent view: `items` sorted by namespace and name, `version` to watch from."""

    items: list[Object]
    version: int
    entries: list[Entry]


class Store:
    """See the module docstring."""

    def __init__(
        self,
        registry: Registry,
        *,
        strategies: Strategies = plain,
        database: Database | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.registry = registry
        self._strategies = strategies
        self.admission: Admission = Chain()
        """What may change or refuse writes; the server puts its plugins here."""
        self._database = database or Database(None)
        self._now = now
        self._objects: dict[str, dict[Key, Entry]] = {}
        self._channels: dict[str, Channel] = {}
        self._listeners: list[Callable[[Resource, Change], None]] = []
        self._versions = self._database.versions()
        self._version = max(self._versions.values(), default=0)
        self._load()

    # ---- reading -------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The resourceVersion of the last commit."""
        return self._version

    def peek(self, resource: str, name: str, *, namespace: str = "") -> Object | None:
        entry = self._objects.get(resource, {}).get((namespace, name))
        return entry.object if entry else None

    def peek_all(self, resource: str, *, namespace: str | None = None) -> Sequence[Object]:
        entries = self._objects.get(resource, {})
        return [e.object for (ns, _), e in entries.items() if namespace is None or ns == namespace]

    async def get(self, resource: str, name: str, *, namespace: str = "") -> Object:
        return self.entry(resource, name, namespace=namespace).object

    def entry(self, resource: str, name: str, *, namespace: str = "") -> Entry:
        """The stored version with its JSON. Raises NotFound."""
        known = self._resource(resource)
        entry = self._objects.get(resource, {}).get((namespace if known.namespaced else "", name))
        if entry is None:
            raise errors.not_found(group=known.group, plural=known.plural, name=name)
        return entry

    async def list(self, resource: str, *, namespace: str | None = None, labels: str = "", fields: str = "") -> Listing:
        return self.select(resource, namespace=namespace, selector=self.selector(resource, labels, fields))

    def select(self, resource: str, *, namespace: str | None, selector: Selector) -> Listing:
        self._resource(resource)
        entries = [
            entry
            for (ns, _), entry in sorted(self._objects.get(resource, {}).items())
            if (namespace is None or ns == namespace) and selector.matches(entry.object)
        ]
        return Listing([e.object for e in entries], self._version, entries)

    def selector(self, resource: str, labels: str = "", fields: str = "") -> Selector:
        """Parse selector texts. Raises BadRequest."""
        allowed = self._resource(resource).selectable
        return Selector(selectors.parse_labels(labels), selectors.parse_fields(fields, allowed=allowed))

    def watch(
        self,
        resource: str,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        since: int | None = None,
    ) -> Watch:
        selector = self.selector(resource, labels, fields)
        channel = self._channel(resource)
        initial: list[Event] = []
        backlog: list[Change] = []
        if since is None:
            listing = self.select(resource, namespace=namespace, selector=selector)
            initial += [Event("ADDED", entry.object, entry.raw) for entry in listing.entries]
            initial.append(self.bookmark(resource, initial_end=True))
        elif since > self._version:
            raise errors.Expired(f"resource version {since} lies in the future of this server ({self._version})")
        else:
            backlog = channel.since(since)
        return Watch(channel, namespace=namespace, selector=selector, initial=initial, backlog=backlog)

    def bookmark(self, resource: str, *, initial_end: bool = False) -> Event:
        known = self._resource(resource)
        metadata: Object = {"resourceVersion": str(self._version), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj = {"kind": known.kind, "apiVersion": known.api_version(), "metadata": metadata}
        return Event("BOOKMARK", obj, initial_end=initial_end)

    def on_commit(self, listener: Callable[[Resource, Change], None]) -> None:
        """Call `listener` inside every commit, in order. It must not block and may commit further changes."""
        self._listeners.append(listener)

    # ---- writing -------------------------------------------------------------------------------------------------

    async def create(self, resource: str, obj: Object, *, namespace: str = "", dry_run: bool = False) -> Object:
        return self.create_now(resource, obj, namespace=namespace, dry_run=dry_run)

    def create_now(self, resource: str, obj: Object, *, namespace: str = "", dry_run: bool = False) -> Object:
        """`create` for commit listeners, which cannot wait."""
        known = self._resource(resource)
        strategy = self._strategies(known)
        obj = copy.deepcopy(obj)
        self._identify(known, obj, namespace)
        metadata = obj["metadata"]
        if known.namespaced:
            self._check_namespace(known, metadata)
        if not metadata.get("name"):
            metadata["name"] = self._generate_name(known, metadata)
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"):
            metadata.pop(name, None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = self._timestamp()
        metadata.pop("generation", None)
        if known.generation:
            metadata["generation"] = 1
        key = (metadata.get("namespace", ""), metadata["name"])
        if key in self._objects.get(resource, {}):
            raise errors.already_exists(group=known.group, plural=known.plural, name=metadata["name"])
        write = Write(known, obj, None, self)
        strategy.default(obj)
        self.admission.mutate(write)
        strategy.prepare_create(obj, self)
        self._refuse_if(known, obj, strategy.validate(obj, None))
        self.admission.validate(write)
        if dry_run:
            return obj
        return self._commit("ADDED", known, obj, None).object

    async def update(
        self,
        resource: str,
        obj: Object,
        *,
        namespace: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        known = self._resource(resource)
        obj = copy.deepcopy(obj)
        self._identify(known, obj, namespace)
        metadata = obj["metadata"]
        entry = self.entry(resource, metadata["name"], namespace=metadata.get("namespace", ""))
        self._check_preconditions(known, entry.object, uid=metadata.get("uid"), version=metadata.get("resourceVersion"))
        return self._write(known, obj, entry, subresource=subresource, dry_run=dry_run)

    async def patch(
        self,
        resource: str,
        name: str,
        patch: Object | Callable[[Object], Object],
        *,
        namespace: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Apply a JSON merge patch, or a function from the (shared) old object to a new one."""
        known = self._resource(resource)
        entry = self.entry(resource, name, namespace=namespace)
        patched = patch(entry.object) if callable(patch) else merge_patch(entry.object, patch)
        obj = copy.deepcopy(patched)
        self._identify(known, obj, namespace)
        metadata = obj["metadata"]
        if metadata.get("name") != name:
            raise BadRequest(f"metadata.name: the patch changes the name {name!r} to {metadata.get('name')!r}")
        self._check_preconditions(known, entry.object, uid=metadata.get("uid"), version=metadata.get("resourceVersion"))
        return self._write(known, obj, entry, subresource=subresource, dry_run=dry_run)

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
        self._check_preconditions(known, entry.object, uid=uid, version=version)
        strategy.may_delete(entry.object)
        obj = copy.deepcopy(entry.object)
        metadata = obj["metadata"]
        grace = strategy.grace_seconds(obj, grace_seconds)
        finalizer = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation or "")
        if finalizer and "deletionTimestamp" not in metadata and finalizer not in metadata.get("finalizers", ()):
            metadata["finalizers"] = [*metadata.get("finalizers", ()), finalizer]
        if dry_run:
            return obj
        stays = bool(metadata.get("finalizers")) or strategy.holds_deletion(obj)
        if not stays and grace == 0:
            return self._remove(known, entry).object
        if "deletionTimestamp" not in metadata or grace < metadata.get("deletionGracePeriodSeconds", 0):
            self._mark_deleted(known, obj, grace)
        if obj == entry.object:
            return obj  # Deleted before: nothing moves.
        return self._commit("MODIFIED", known, obj, entry).object

    def replace(self, resource: str, obj: Object) -> Object:
        """Store `obj` as it is, by the server itself: no defaults, no validation. For commit listeners."""
        known = self._resource(resource)
        metadata = obj["metadata"]
        entry = self.entry(resource, metadata["name"], namespace=metadata.get("namespace", ""))
        return self._write(known, copy.deepcopy(obj), entry, subresource="server", dry_run=False)

    # ---- the steps of a write ------------------------------------------------------------------------------------

    def _write(self, known: Resource, obj: Object, entry: Entry, *, subresource: str, dry_run: bool) -> Object:
        old, strategy = entry.object, self._strategies(known)
        if subresource == "status":
            obj = strategy.status_update(obj, old)
            self._refuse_if(known, obj, strategy.validate_status(obj, old))
        elif subresource == "":
            strategy.default(obj)
            if known.has_status:
                obj.pop("status", None)
                if "status" in old:
                    obj["status"] = old["status"]
            self._keep_metadata(obj, old)
            self.admission.mutate(Write(known, obj, old, self))
            strategy.prepare_update(obj, old, self)
            self._refuse_if(known, obj, strategy.validate(obj, old))
        else:
            self._keep_metadata(obj, old)
        if subresource != "server":
            self.admission.validate(Write(known, obj, old, self, subresource))
        metadata = obj["metadata"]
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        metadata.pop("generation", None)
        if "generation" in old["metadata"]:
            metadata["generation"] = old["metadata"]["generation"] + strategy.spec_changed(obj, old)
        if dry_run or obj == old:
            return obj
        held = bool(metadata.get("finalizers")) or strategy.holds_deletion(obj)
        # A pod within its grace period still waits for its kubelet to delete it.
        waits = metadata.get("deletionGracePeriodSeconds", 0) > 0
        if "deletionTimestamp" in metadata and not held and not waits:
            return self._remove(known, entry, last=obj).object
        return self._commit("MODIFIED", known, obj, entry).object

    def _identify(self, known: Resource, obj: Object, namespace: str) -> None:
        """Check that the body names the same resource and namespace as the call; fill in what it leaves out."""
        if not isinstance(obj.get("metadata"), dict):
            obj["metadata"] = {}
        kind = obj.setdefault("kind", known.kind)
        group, _, version = obj.setdefault("apiVersion", known.api_version()).rpartition("/")
        if kind != known.kind or group != known.group or version not in known.versions:
            raise BadRequest(
                f"the object is a {obj['apiVersion']} {kind}, "
                f"but this is the place of {known.api_version()} {known.kind}"
            )
        # Objects are kept in one version; what is not converted is only renamed.
        obj["apiVersion"] = known.api_version()
        metadata = obj["metadata"]
        if not known.namespaced:
            metadata.pop("namespace", None)
            return
        namespace = namespace or metadata.get("namespace") or ""
        if metadata.get("namespace") and metadata["namespace"] != namespace:
            raise BadRequest(
                f"the namespace of the provided object does not match the namespace sent on the request: "
                f"{metadata['namespace']!r} is not {namespace!r}"
            )
        if not namespace:
            raise BadRequest(f"{known.kind}: an empty namespace may not be set; name one in metadata.namespace")
        metadata["namespace"] = namespace

    def _check_namespace(self, known: Resource, metadata: Object) -> None:
        name = metadata["namespace"]
        namespace = self.peek("namespaces", name)
        if namespace is None:
            raise errors.not_found(group="", plural="namespaces", name=name)
        if "deletionTimestamp" in namespace["metadata"]:
            why = f"unable to create new content in namespace {name} because it is being terminated"
            cause = errors.Cause("metadata.namespace", "NamespaceTerminating", f"namespace {name} is being terminated")
            raise errors.forbidden(
                group=known.group, plural=known.plural, name=metadata.get("name", ""), why=why, causes=[cause]
            )

    def _generate_name(self, known: Resource, metadata: Object) -> str:
        prefix = metadata.get("generateName")
        if not prefix:
            cause = errors.Cause(
                "metadata.name", "FieldValueRequired", "Required value: name or generateName is required"
            )
            raise errors.invalid(group=known.group, kind=known.kind, name="", causes=[cause])
        taken = self._objects.get(known.key, {})
        while True:
            name = prefix[:58] + "".join(secrets.choice(_CONSONANTS) for _ in range(5))
            if (metadata.get("namespace", ""), name) not in taken:
                return str(name)

    def _check_preconditions(self, known: Resource, old: Object, *, uid: str | None, version: str | None) -> None:
        metadata = old["metadata"]
        if uid and uid != metadata["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}"
            raise self._conflict(known, metadata["name"], why)
        if version and version != "0" and version != metadata["resourceVersion"]:
            raise self._conflict(known, metadata["name"])

    def _keep_metadata(self, obj: Object, old: Object) -> None:
        """What no update may change."""
        for name in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName"):
            obj["metadata"].pop(name, None)
            if name in old["metadata"]:
                obj["metadata"][name] = old["metadata"][name]

    def _mark_deleted(self, known: Resource, obj: Object, grace: int) -> None:
        metadata = obj["metadata"]
        when = datetime.fromtimestamp(self._now().timestamp() + grace, UTC)
        metadata["deletionTimestamp"] = when.strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata["deletionGracePeriodSeconds"] = grace
        if known.generation:
            metadata["generation"] = metadata.get("generation", 0) + 1
        if known.key == "namespaces":
            obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}

    def _refuse_if(self, known: Resource, obj: Object, causes: Sequence[errors.Cause]) -> None:
        if causes:
            name = obj["metadata"].get("name", "")
            raise errors.invalid(group=known.group, kind=known.kind, name=name, causes=causes)

    # ---- commits -------------------------------------------------------------------------------------------------

    def _commit(self, change: EventType, known: Resource, obj: Object, previous: Entry | None) -> Entry:
        metadata = obj["metadata"]
        version = self._version + 1
        metadata["resourceVersion"] = str(version)
        entry = Entry(obj, msgspec.json.encode(obj), version)
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        self._database.put(StoredObject(known.key, namespace, name, version, entry.raw))
        self._version = version
        self._objects.setdefault(known.key, {})[(namespace, name)] = entry
        self._publish(known, Change(change, namespace, entry, previous))
        return entry

    def _remove(self, known: Resource, entry: Entry, *, last: Object | None = None) -> Entry:
        obj = {**(last or entry.object)}
        version = self._version + 1
        obj["metadata"] = {**obj["metadata"], "resourceVersion": str(version)}
        namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
        gone = Entry(obj, msgspec.json.encode(obj), version)
        self._database.delete(resource=known.key, namespace=namespace, name=name, version=version)
        self._version = version
        del self._objects[known.key][(namespace, name)]
        self._publish(known, Change("DELETED", namespace, gone, entry))
        return gone

    def _publish(self, known: Resource, change: Change) -> None:
        self._channel(known.key).publish(change)
        for listener in self._listeners:
            listener(known, change)

    # ---- set-up and end ------------------------------------------------------------------------------------------

    def _load(self) -> None:
        for stored in self._database.load():
            entry = Entry(msgspec.json.decode(stored.body), stored.body, stored.version)
            self._objects.setdefault(stored.resource, {})[(stored.namespace, stored.name)] = entry

    def close_resource(self, resource: str) -> None:
        """End the watches of a resource that is no longer served."""
        channel = self._channels.pop(resource, None)
        if channel is not None:
            self._versions[resource] = self._version
            channel.close()

    def watchers(self, resource: str) -> Sequence[Watch]:
        """The open watches of a resource."""
        return self._channel(resource).watches

    def close_watches(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def close(self) -> None:
        """End all watches and release the file."""
        self.close_watches()
        self._database.close()

    def _channel(self, resource: str) -> Channel:
        channel = self._channels.get(resource)
        if channel is None:
            # Nothing is forgotten since the last change before this start: a watch may resume from there.
            self._resource(resource)
            channel = self._channels[resource] = Channel(floor=self._versions.get(resource, 0))
        return channel

    def _resource(self, key: str) -> Resource:
        resource = self.registry.get(key)
        if resource is None:
            raise NotFound(f"the server could not find the requested resource {key!r}")
        return resource

    def _conflict(self, known: Resource, name: str, why: str = "") -> Conflict:
        return errors.conflict(group=known.group, plural=known.plural, name=name, why=why)

    def _timestamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
