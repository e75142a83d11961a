"""Watch requests.

Owns: the HTTP side of a watch: one JSON event per line until the client goes, the time is up or the window is lost.
Comes in: a `Watch` of the store. Goes out: a chunked response; an ERROR event carries a Status (410 when the asked
version is too old). A bookmark goes out once a minute at most, and only if versions moved.
"""

import asyncio
import random
from collections.abc import Mapping

import msgspec
from aiohttp import web

from kubelab.apiserver.conversion import fields_to_stored
from kubelab.apiserver.custom_conversion import Conversions
from kubelab.apiserver.errors import ApiError, BadRequest, too_large
from kubelab.apiserver.options import WatchOptions, number, watch_options
from kubelab.apiserver.requests import Negotiation, Target
from kubelab.apiserver.responses import Renderer
from kubelab.apiserver.store import Store
from kubelab.apiserver.tables import partial
from kubelab.apiserver.watch import Event, Watch

_BOOKMARK_SECONDS = 60.0


class Watcher:
    """Serves watches of one store."""

    def __init__(self, store: Store, renderer: Renderer, conversions: Conversions) -> None:
        self._store = store
        self._renderer = renderer
        self._conversions = conversions

    async def serve(self, request: web.Request, target: Target, negotiation: Negotiation) -> web.StreamResponse:
        query = request.query
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        deadline, options = _timeout(query), watch_options(query)
        if options.initial and (wanted := number(query.get("resourceVersion", ""))) > self._store.version:
            raise too_large(wanted, self._store.version)
        try:
            watch = self._open(options, target)
        except ApiError as error:
            if error.code != 410:
                raise
            await response.prepare(request)
            await response.write(_error_line(error))
            return response
        with watch:
            await response.prepare(request)
            stream = _Stream(self._store, self._renderer, self._conversions, target, negotiation, options, query)
            try:
                async with asyncio.timeout(deadline):
                    await stream.pump(watch, response)
            except TimeoutError:
                pass
            except ApiError as error:
                await response.write(_error_line(error))
        return response

    def _open(self, options: WatchOptions, target: Target) -> Watch:
        fields = fields_to_stored(options.fields, target)
        if target.name:
            fields = f"{fields},metadata.name={target.name}".strip(",")
        return self._store.watch(
            target.resource.stored,
            namespace=target.namespace or None,
            labels=options.labels,
            fields=fields,
            since=self._store.version if options.since == -1 else options.since,
        )


class _Stream:
    """The events of one watch, in the form its client wants."""

    def __init__(
        self,
        store: Store,
        renderer: Renderer,
        conversions: Conversions,
        target: Target,
        negotiation: Negotiation,
        options: WatchOptions,
        query: Mapping[str, str],
    ) -> None:
        self._store = store
        self._renderer = renderer
        self._conversions = conversions
        self._target = target
        self._form = negotiation.form
        self._include = query.get("includeObject", "Metadata")
        self._bookmarks = options.bookmarks
        self._initial_end = options.initial and options.bookmarks
        self._headers = True
        self._sent = 0

    async def pump(self, watch: Watch, response: web.StreamResponse) -> None:
        while True:
            try:
                async with asyncio.timeout(_BOOKMARK_SECONDS if self._bookmarks else None):
                    events = await watch.wait()
            except TimeoutError:
                # Everything up to the store's version was delivered: nothing was ready.
                if self._store.version > self._sent:
                    bookmark = self._store.bookmark(self._target.resource.stored)
                    for event in await self._conversions.events([bookmark], self._target):
                        await response.write(self._line(event))
                    self._sent = self._store.version
                continue
            if not events:
                return
            wanted = [e for e in events if e.type != "BOOKMARK" or self._initial_end]
            lines = [self._line(e) for e in await self._conversions.events(wanted, self._target)]
            if lines:
                await response.write(b"".join(lines))
                self._sent = max(self._sent, events[-1].version)

    def _line(self, event: Event) -> bytes:
        if self._form == "object" and event.raw:
            return b'{"type":"' + event.type.encode() + b'","object":' + event.raw + b"}\n"
        obj = event.object
        if self._form == "Table":
            rows = [] if event.type == "BOOKMARK" else [obj]
            obj = self._renderer.table(
                rows,
                self._target,
                metadata={**event.object["metadata"]}
                if not rows
                else {"resourceVersion": obj["metadata"]["resourceVersion"]},
                include=self._include,
                headers=self._headers,
            )
            self._headers = False
        elif self._form == "PartialObjectMetadata":
            obj = partial(obj)
        return msgspec.json.encode({"type": event.type, "object": obj}) + b"\n"


def _timeout(query: Mapping[str, str]) -> float:
    text = query.get("timeoutSeconds", "")
    if text and not text.isdigit():
        raise BadRequest(f"timeoutSeconds: Invalid value: {text!r}: want a number of seconds")
    # Without a wish the real server ends a watch after 30 to 60 minutes, so that clients spread anew.
    return float(text) if text and text != "0" else random.uniform(1800, 3600)


def _error_line(error: ApiError) -> bytes:
    return msgspec.json.encode({"type": "ERROR", "object": error.status()}) + b"\n"
