"""Events are news: they go an hour after they were last true.

In: core/v1 Events. Out: deletions. One timer per event; nothing polls.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper

LIFETIME = 3600.0
"""Seconds, as in other clusters."""


class EventExpiryController(Controller):
    name = "event-expiry-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {"events": objects.own_key}

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        event = self.store.peek("events", name, namespace=namespace)
        if event is None:
            return None
        last = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
        since = objects.parse_time(last) or self.now()
        left = LIFETIME - (self.now() - since).total_seconds()
        if left > 0:
            return left
        await self.store.delete("events", name, namespace=namespace, uid=objects.uid_of(event))
        return None
