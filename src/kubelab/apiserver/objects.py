"""What is stored: every object, its history, every watch.

Owns: objects by (resource key, namespace, name), the global resourceVersion, the change windows. Comes in: commits of
`store.py`, which decides what may be written. Goes out: objects, lists (also as they were at an earlier version), watch
streams; each commit to the database and to listeners.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from kubelab.apiserver import errors, selectors
from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.ownership import managers
from kubelab.apiserver.persistence import Database
from kubelab.apiserver.resources import Registry, Resource
from kubelab.apiserver.selectors import Selector
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.watch import Change, Channel, Entry, Event, EventType, Watch

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Listing:
    """A consistent view: `items` sorted by namespace and name, `version` to watch from."""

    items: list[Object]
    version: int
    entries: list[Entry]


class Objects:
    """See the module docstring."""

    def __init__(self, registry: Registry, database: Database) -> None:
        self.registry = registry
        self._database = database
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

    def encoded(self, resource: str, obj: Object) -> bytes | None:
        """The JSON of an object that is the stored one; None for any other (dry runs, what was just removed)."""
        own = obj["metadata"]
        entry = self._objects.get(resource, {}).get((own.get("namespace", ""), own.get("name", "")))
        return entry.raw if entry is not None and entry.object is obj else None

    def entry(self, resource: str, name: str, *, namespace: str = "") -> Entry:
        """The stored version with its JSON. Raises NotFound."""
        known = self._resource(resource)
        entry = self._objects.get(resource, {}).get((namespace if known.namespaced else "", name))
        if entry is None:
            raise errors.not_found(group=known.group, plural=known.plural, name=name)
        return entry

    async def list(self, resource: str, *, namespace: str | None = None, labels: str = "", fields: str = "") -> Listing:
        return self.select(resource, namespace=namespace, selector=self.selector(resource, labels, fields))

    def select(self, resource: str, *, namespace: str | None, selector: Selector, at: int | None = None) -> Listing:
        """What matches, now or `at` an earlier version. Raises Expired when that is forgotten."""
        self._resource(resource)
        known = self._objects.get(resource, {})
        if at is not None and at < self._version:
            known = self._channel(resource).undo(known, at)
        version = self._version if at is None else at
        entries = [
            entry
            for (ns, _), entry in sorted(known.items())
            if (namespace is None or ns == namespace) and selector.matches(entry.object)
        ]
        return Listing([e.object for e in entries], version, entries)

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
        own: Object = {"resourceVersion": str(self._version), "creationTimestamp": None}
        if initial_end:
            own["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj = {"kind": known.kind, "apiVersion": known.api_version(), "metadata": own}
        return Event("BOOKMARK", obj, initial_end=initial_end)

    def on_commit(self, listener: Callable[[Resource, Change], None]) -> None:
        """Call `listener` inside every commit, in order. It must not block and may commit further changes."""
        self._listeners.append(listener)

    # ---- commits -------------------------------------------------------------------------------------------------

    def _commit(self, change: EventType, known: Resource, obj: Object, previous: Entry | None) -> Entry:
        own = obj["metadata"]
        version = self._version + 1
        own["resourceVersion"] = str(version)
        entry = Entry(obj, msgspec.json.encode(obj), version)
        namespace, name = own.get("namespace", ""), own["name"]
        self._database.put(known.key, namespace, name, version, entry.raw)
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
            obj = msgspec.json.decode(stored.body)
            managers.compact(obj["metadata"])
            entry = Entry(obj, stored.body, stored.version)
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

    async def written(self) -> None:
        """Waits until what was committed is on disk. Raises RuntimeError when it cannot be."""
        await self._database.written()

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
