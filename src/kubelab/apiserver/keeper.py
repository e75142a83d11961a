"""What a cluster has at any time: the Service `kubernetes` and where it leads. Deleted, it is there again at once.

Comes in: deletions (`kubectl delete service --all`). Goes out: a call of who makes it.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from kubelab.apiserver.bootstrap import ENDPOINT_SLICES, SLICES
from kubelab.apiserver.errors import ApiError
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change

log = structlog.get_logger(__name__)
RETRY = 1.0
_KEPT = {"services": ("kubernetes",), "endpoints": ("kubernetes",), ENDPOINT_SLICES: tuple(SLICES.values())}


class Keeper:
    """`run` until cancelled."""

    def __init__(self, store: Store, restore: Callable[[], Awaitable[None]]) -> None:
        self._restore = restore
        self._lost = asyncio.Event()
        store.on_commit(self._observe)

    async def run(self) -> None:
        while True:
            await self._lost.wait()
            self._lost.clear()
            try:
                await self._restore()
            except ApiError as error:
                log.warning("the Service kubernetes is missing", error=str(error), retry_in=RETRY)
                self._lost.set()
                await asyncio.sleep(RETRY)

    def _observe(self, resource: Resource, change: Change) -> None:
        if change.type != "DELETED" or change.namespace != "default":
            return
        if change.entry.object["metadata"]["name"] in _KEPT.get(resource.key, ()):
            self._lost.set()
