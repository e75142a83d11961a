"""Change history and watch streams.

Owns: one `Channel` per resource with a bounded window of changes, and the `Watch` streams that read it. Comes in: the
store's commits. Goes out: events in commit order, translated for selectors (an object that starts to match is ADDED,
one that stops is DELETED). A reader that falls more than a window behind gets `Expired` and has to list again.
Waiting costs nothing: streams sleep until a commit wakes them.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from kubelab.apiserver.errors import Expired
from kubelab.apiserver.selectors import Selector

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]

WINDOW = 2048
"Changes kept per resource for resumption."


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored version of one object: the dict (never to be changed), its JSON, its resourceVersion."""

    object: dict[str, Any]
    raw: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Change:
    """One commit. For a deletion `entry` is the last state with the resourceVersion of the deletion."""

    type: EventType
    namespace: str
    entry: Entry
    previous: Entry | None


@dataclass(frozen=True, slots=True)
class Event:
    """What a watch yields. `object` is shared: read it, do not change it. `raw` is its JSON."""

    type: EventType
    object: dict[str, Any]
    raw: bytes = b""
    initial_end: bool = False
    "BOOKMARK only: the initial objects are complete."

    @property
    def version(self) -> int:
        return int(self.object["metadata"]["resourceVersion"])


class Channel:
    """The changes of one resource since `floor`, and who listens."""

    def __init__(self, *, floor: int, window: int = WINDOW) -> None:
        self.floor = floor
        self._window = window
        self._changes: deque[Change] = deque()
        self._watches: set[Watch] = set()

    @property
    def watches(self) -> "tuple[Watch, ...]":
        return tuple(self._watches)

    def publish(self, change: Change) -> None:
        if len(self._changes) >= self._window:
            self.floor = self._changes.popleft().entry.version
        self._changes.append(change)
        for watch in tuple(self._watches):
            watch.feed(change)

    def since(self, version: int) -> list[Change]:
        """Changes after `version`. Raises Expired when some of them were forgotten."""
        if version < self.floor:
            raise Expired(f"too old resource version: {version} ({self.floor})")
        return [c for c in self._changes if c.entry.version > version]

    def undo(self, entries: Mapping[tuple[str, str], Entry], version: int) -> dict[tuple[str, str], Entry]:
        """What `entries` were at `version`. Raises Expired when the way back is forgotten."""
        if version < self.floor:
            raise Expired("The resourceVersion for the provided list is too old.")
        before = dict(entries)
        for change in reversed(self._changes):
            if change.entry.version <= version:
                break
            key = (change.namespace, change.entry.object["metadata"]["name"])
            if change.previous is None:
                before.pop(key, None)
            else:
                before[key] = change.previous
        return before

    def attach(self, watch: "Watch") -> None:
        self._watches.add(watch)

    def detach(self, watch: "Watch") -> None:
        self._watches.discard(watch)

    def close(self, error: Exception | None = None) -> None:
        """End all streams: the resource is gone, or the server stops."""
        for watch in tuple(self._watches):
            watch.end(error)


class Watch:
    """A stream of events: `with store.watch("pods") as events: async for event in events: ...`.

    Ends when closed or when the server stops; raises Expired when the reader fell too far behind.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        namespace: str | None,
        selector: Selector,
        initial: list[Event],
        backlog: list[Change],
    ) -> None:
        self._channel = channel
        self._namespace = namespace
        self._selector = selector
        self._ready: deque[Event] = deque(initial)
        self._wake = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None
        for change in backlog:
            self.feed(change)
        channel.attach(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.detach(self)
        self.end(None)

    def end(self, error: Exception | None) -> None:
        self._ended = True
        self._error = self._error or error
        self._wake.set()

    def feed(self, change: Change) -> None:
        event = self._translate(change)
        if event is None or self._ended:
            return
        if len(self._ready) >= WINDOW * 4:
            self._ready.clear()
            self._channel.detach(self)
            self.end(Expired("the reader of this watch is too slow: list again"))
            return
        self._ready.append(event)
        self._wake.set()

    def pop(self) -> list[Event]:
        """Everything that is ready, without waiting."""
        events = list(self._ready)
        self._ready.clear()
        return events

    async def wait(self) -> list[Event]:
        """Everything that is ready; empty only at the end of the stream. Raises Expired when it was too slow."""
        while not self._ready and not self._ended:
            self._wake.clear()
            await self._wake.wait()
        if not self._ready and self._error is not None:
            raise self._error
        return self.pop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._ready.popleft()

    def _translate(self, change: Change) -> Event | None:
        if self._namespace is not None and change.namespace != self._namespace:
            return None
        entry = change.entry
        if self._selector.everything:
            return Event(change.type, entry.object, entry.raw)
        now = change.type != "DELETED" and self._selector.matches(entry.object)
        before = change.previous is not None and self._selector.matches(change.previous.object)
        match (before, now):
            case (True, True):
                return Event("MODIFIED", entry.object, entry.raw)
            case (False, True):
                return Event("ADDED", entry.object, entry.raw)
            case (True, False):
                return Event("DELETED", entry.object, entry.raw)
        return None
