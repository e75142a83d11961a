"""The steps of a write.

Owns: what happens to an object between a request and its commit. Comes in: private copies of objects. Goes out: commits
of `objects.py`; ApiErrors. Each step is one step of the event loop:

    draft     who writes what: name, namespace, defaults, managers of fields, plugins that change the object
    settle    what the server adds (addresses, what an update may not change), validation, plugins that refuse
    finish    the commit

Between them webhooks may be asked, which takes time. So what they judged is settled once more: an address that was free
may be taken by then, a quota used up.
"""

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from kubelab.apiserver import errors, metadata
from kubelab.apiserver.admission.base import Admission, Chain, NoWebhooks, Object, Webhooks, Write
from kubelab.apiserver.objects import Objects
from kubelab.apiserver.ownership import managers
from kubelab.apiserver.persistence import Database
from kubelab.apiserver.resources import Registry, Resource
from kubelab.apiserver.strategies.base import Strategies, Strategy, plain
from kubelab.apiserver.watch import Entry

_STATUS = ("status", "approval")
"""Subresources that write an object's status and nothing else."""


class Steps(Objects):
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
        self.webhooks: Webhooks = NoWebhooks()
        """Who is asked about writes over the network; likewise."""
        self._now = now
        super().__init__(registry, database or Database(None))

    # ---- creation ------------------------------------------------------------------------------------------------

    def _draft_create(self, known: Resource, obj: Object, *, manager: str | None, dry_run: bool) -> Write:
        """`manager` None: the fields of `obj` have their managers already."""
        strategy, own = self._strategies(known), obj["metadata"]
        space = own.get("namespace", "")
        if known.namespaced:
            metadata.check_namespace(known, own, self.peek("namespaces", space))
        if not own.get("name"):
            taken = self._objects.get(known.key, {})
            own["name"] = metadata.generate_name(known, own, lambda name: (space, name) in taken)
        metadata.stamp_creation(known, own, uid=str(uuid.uuid4()), now=self._now())
        self._refuse_taken(known, own)
        if known.has_status and not strategy.creates_status:
            obj.pop("status", None)
        strategy.default(obj)
        if manager is not None:
            own.pop("managedFields", None)
            self._track(known, None, obj, strategy, manager=manager, subresource="")
        write = Write(known, obj, None, self, dry_run=dry_run, manager=manager or "")
        self.admission.mutate(write)
        return write

    def _settle_create(self, write: Write) -> None:
        known, obj, strategy = write.resource, write.obj, self._strategies(write.resource)
        if known.namespaced:
            metadata.check_namespace(known, obj["metadata"], self.peek("namespaces", write.namespace))
        self._refuse_taken(known, obj["metadata"])
        strategy.prepare_create(obj, self)
        self._refuse_if(known, obj, strategy.validate(obj, None))
        self.admission.validate(write)

    def _finish_create(self, write: Write) -> Object:
        return write.obj if write.dry_run else self._commit("ADDED", write.resource, write.obj, None).object

    def _refuse_taken(self, known: Resource, own: Object) -> None:
        if (own.get("namespace", ""), own["name"]) in self._objects.get(known.key, {}):
            raise errors.already_exists(group=known.group, plural=known.plural, name=own["name"])

    # ---- update --------------------------------------------------------------------------------------------------

    def _entry_for(self, known: Resource, obj: Object) -> Entry:
        """The stored version of `obj`. Raises NotFound, Conflict when it is not the one that `obj` came from."""
        own = obj["metadata"]
        entry = self.entry(known.key, own.get("name", ""), namespace=own.get("namespace", ""))
        metadata.check_preconditions(known, entry.object, uid=own.get("uid"), version=own.get("resourceVersion"))
        return entry

    def _draft_update(
        self,
        known: Resource,
        obj: Object,
        entry: Entry,
        *,
        subresource: str,
        manager: str | None,
        dry_run: bool,
        through: str = "",
    ) -> Write:
        old, strategy = entry.object, self._strategies(known)
        settled = obj["metadata"].get("managedFields") if manager is None else None
        if subresource in _STATUS:
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
        elif manager is not None and subresource in ("", *_STATUS):
            self._track(known, old, obj, strategy, manager=manager, subresource=through or subresource)
        elif manager is not None:
            obj["metadata"]["managedFields"] = old["metadata"].get("managedFields", [])
        asked = subresource == "binding" or through not in ("", "status")
        write = Write(known, obj, old, self, subresource, dry_run=dry_run, manager=manager or "", asked=asked)
        if subresource == "":
            self.admission.mutate(write)
        return write

    def _settle_update(self, write: Write) -> None:
        known, obj, old = write.resource, write.obj, write.old
        assert old is not None, "an update has an old object"
        strategy = self._strategies(known)
        if write.subresource == "status":
            self._refuse_if(known, obj, strategy.validate_status(obj, old))
        elif write.subresource == "":
            strategy.prepare_update(obj, old, self)
            self._refuse_if(known, obj, strategy.validate(obj, old))
        if write.subresource != "server":
            self.admission.validate(write)

    def _finish_update(self, write: Write, entry: Entry) -> Object:
        """Commit what changed; let go what only this write still held."""
        known, obj, old, own = write.resource, write.obj, entry.object, write.obj["metadata"]
        strategy = self._strategies(known)
        own["resourceVersion"] = old["metadata"]["resourceVersion"]
        own.pop("generation", None)
        if "generation" in old["metadata"]:
            own["generation"] = old["metadata"]["generation"] + strategy.spec_changed(obj, old)
        if write.dry_run or obj == old:
            return obj
        held = bool(own.get("finalizers")) or strategy.holds_deletion(obj)
        # A pod within its grace period still waits for its kubelet to delete it.
        waits = own.get("deletionGracePeriodSeconds", 0) > 0
        if "deletionTimestamp" in own and not held and not waits:
            return self._remove(known, entry, last=obj).object
        return self._commit("MODIFIED", known, obj, entry).object

    # ---- webhooks ------------------------------------------------------------------------------------------------

    async def _review(self, write: Write, settle: Callable[[Write], None]) -> None:
        """Ask the webhooks. Goes out: `write` as the mutating ones made it and the validating ones let it pass, settled
        as of now."""
        strategy = self._strategies(write.resource)
        mutation = await self.webhooks.mutate(write)
        if mutation.changed:
            if write.subresource == "":
                strategy.default(write.obj)
                self.admission.mutate(write)
            await mutation.again()
            if write.subresource == "":
                strategy.default(write.obj)
        settle(write)
        await self.webhooks.validate(write)
        settle(write)

    # ---- parts ---------------------------------------------------------------------------------------------------

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
