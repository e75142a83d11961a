"""What all controllers have in common: watched resources become keys, keys are reconciled one by one.

In: commits of the store. Out: calls of `reconcile(key)`, retried with back-off. Reconciling reads the store itself
(it is in this process and never stale) and writes through it, so a controller needs no cache of its own.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar

import structlog

from kubelab.apiserver.errors import ApiError, Conflict
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change
from kubelab.controllers import events
from kubelab.controllers.index import PodIndex
from kubelab.controllers.queue import WorkQueue

log = structlog.get_logger(__name__)

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace ("" for cluster-wide objects) and name."""
Mapper = Callable[[Object], Iterable[Key]]
REST, LONGEST_REST, NO_REST = 9.0, 0.5, 0.001
"""A key rests so many times as long as its turn took, at most so many seconds, and not at all after so short a turn:
a Service of many pods must not be written anew for each of them."""


class Controller(ABC):
    """One control loop. Subclasses name what they watch and bring one key at a time to what it should be."""

    name: ClassVar[str]

    def __init__(self, store: Store, *, pods: PodIndex, now: Callable[[], datetime]) -> None:
        self.store = store
        self.pods = pods
        self.now = now
        self.queue: WorkQueue[Key] = WorkQueue()
        self._watches = self.watches()

    @abstractmethod
    def watches(self) -> Mapping[str, Mapper]:
        """Resource -> the keys that a change of one of its objects concerns. Called with the old object as well."""

    @abstractmethod
    async def reconcile(self, key: Key) -> float | None:
        """Bring `key` to what it should be. Returns seconds after which to look again, if any. May raise ApiError."""

    def observe(self, resource: Resource, change: Change) -> None:
        """Called in every commit; must not block."""
        mapper = self._watches.get(resource.key)
        if mapper is None:
            return
        for key in mapper(change.entry.object):
            self.queue.add(key)
        if change.previous is not None and change.previous is not change.entry:
            for key in mapper(change.previous.object):
                self.queue.add(key)

    def resync(self) -> None:
        """Look at everything that is there: at start."""
        for resource, mapper in self._watches.items():
            for obj in self.store.peek_all(resource):
                for key in mapper(obj):
                    self.queue.add(key)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                await self._work(await self.queue.get(), rests=True)
                # The store never suspends, so without this a busy controller would starve the server.
                await asyncio.sleep(0)
        finally:
            self.queue.close()

    async def drain(self) -> None:
        """Work until there is nothing to do now: for tests and for orderly starts."""
        while not self.queue.idle:
            await self._work(await self.queue.get())

    async def event(self, obj: Object, reason: str, message: str, *, warning: bool = False) -> None:
        """Say what happened to `obj`."""
        await events.record(
            self.store,
            obj,
            kind="Warning" if warning else "Normal",
            reason=reason,
            message=message,
            component=self.name,
            now=self.now(),
        )

    async def write_status(self, obj: Object, status: Object) -> Object | None:
        """Write `status` to the object as it is stored now, if it is still the same and says something else."""
        resource = self.store.registry.find_kind(obj["apiVersion"].rpartition("/")[0], obj["kind"])
        namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
        current = self.store.peek(resource.key, name, namespace=namespace) if resource is not None else None
        if resource is None or current is None or current["metadata"]["uid"] != obj["metadata"]["uid"]:
            return None
        if (current.get("status") or {}) == status:
            return current
        return await self.store.update(resource.key, {**current, "status": status}, subresource="status")

    async def _work(self, key: Key, *, rests: bool = False) -> None:
        started = time.perf_counter()
        try:
            delay = await self.reconcile(key)
        except Conflict:
            self.queue.retry(key)
        except ApiError as error:
            again = self.queue.retry(key)
            log.warning("reconcile refused", controller=self.name, key="/".join(key), error=str(error), retry_in=again)
        except Exception:
            # A defect in one object's reconciliation must not end the loop for all others.
            again = self.queue.retry(key)
            log.exception("reconcile failed", controller=self.name, key="/".join(key), retry_in=again)
        else:
            self.queue.forget(key)
            if delay is not None:
                self.queue.add_after(key, delay)
        finally:
            took = time.perf_counter() - started
            self.queue.done(key, rest=min(REST * took, LONGEST_REST) if rests and took > NO_REST else 0.0)
