"""How to follow a collection: list it, watch from there, resume, and start anew when the server has forgotten.

In: answers, stream bytes, failures, and `now` (seconds of any clock that only grows). Out: what to do next (`action`)
and what happened to objects (`Event`). Nothing here waits or talks.

                 complete                    stream ends, fails
    LISTING -----------------> WATCHING ------------------------> WATCHING, after a pause if it failed
       ^  a page: go on           |
       +--------------------------+  410 Gone: the version is too old for the server; or refused again and again
    failed: LISTING again after a pause

Source: Kubernetes API concepts, "Efficient detection of changes".
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from cilium.protocols.kubernetes.lines import LineSplitter
from cilium.protocols.kubernetes.messages import parse_event, parse_meta, parse_page, parse_status

GONE = 410
UNRELATED = frozenset({401, 403, 429})
"""Refusals that say nothing about the version watched from."""
REFUSALS = 3
"""Refused watches in a row after which the version is given up: a server whose store was replaced by a younger one
does not say 410, it says that the version is too large.
"""
LASTING = 1.0
"""Seconds after which a stream counts as one that worked."""


class Stage(enum.Enum):
    LISTING = "listing"
    WATCHING = "watching"


@dataclass(frozen=True, slots=True)
class List:
    """GET the collection with these parameters; then `listed` or `failed`."""

    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class Watch:
    """GET the stream with these parameters; then `opened`, `receive` for its bytes, and `ended` or `failed`."""

    parameters: dict[str, str]
    timeout: float
    """Seconds after which the server ends the stream by itself."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until then."""

    until: float


Action = List | Watch | Wait


@dataclass(frozen=True, slots=True)
class Event:
    """An object that is there (`raw`) or no longer (`deleted`: as it was last)."""

    raw: msgspec.Raw
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects of one page. `first` page: forget what an abandoned list delivered; `last`: that was everything."""

    objects: list[msgspec.Raw]
    first: bool
    last: bool


class Backoff:
    """Pauses in seconds that double from `minimum` to `maximum`, each shortened by up to a third at random, so that
    a thousand nodes do not return at once. `random` yields numbers from 0 to 1.
    """

    def __init__(self, *, minimum: float, maximum: float, random: Callable[[], float]) -> None:
        self._minimum, self._maximum, self._random = minimum, maximum, random
        self._failures = 0

    def next(self) -> float:
        pause = min(self._maximum, self._minimum * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return pause * (1.0 - self._random() / 3.0)

    def reset(self) -> None:
        self._failures = 0


class Watcher:
    """One collection. `selectors` are the API's `fieldSelector` and `labelSelector` parameters."""

    def __init__(
        self,
        *,
        backoff: Backoff,
        selectors: dict[str, str] | None = None,
        page_size: int = 500,
        watch_timeout: float = 300.0,
    ) -> None:
        self.stage = Stage.LISTING
        self.resource_version = ""
        """Up to which everything was received; empty before the first complete list."""
        self._backoff = backoff
        self._selectors = dict(selectors or {})
        self._page_size = page_size
        self._watch_timeout = watch_timeout
        self._continue = ""
        self._pause_until = 0.0
        self._lines = LineSplitter()
        self._opened_at = 0.0
        self._proven = False
        """The watch has worked since the last list."""
        self._refusals = 0

    def action(self, now: float) -> Action:
        if now < self._pause_until:
            return Wait(self._pause_until)
        if self.stage is Stage.LISTING:
            parameters = self._selectors | {"limit": str(self._page_size)}
            return List(parameters | {"continue": self._continue} if self._continue else parameters)
        return Watch(
            self._selectors
            | {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": self.resource_version,
                "timeoutSeconds": str(int(self._watch_timeout)),
            },
            self._watch_timeout,
        )

    def listed(self, body: bytes) -> Listing:
        """A page arrived. Raises msgspec.DecodeError if it is none: then call `failed`."""
        page = parse_page(body)
        first = not self._continue
        self._continue = page.metadata.continue_
        last = not self._continue
        if last:
            self.stage = Stage.WATCHING
            self.resource_version = page.metadata.resource_version
            self._proven = False
        return Listing(page.items or [], first, last)

    def opened(self, now: float) -> None:
        """The stream is open."""
        self._lines = LineSplitter()
        self._opened_at = now

    def receive(self, chunk: bytes) -> list[Event]:
        """Bytes of the stream arrived. Raises WatchError: then call `failed`.

        Events before the offending one are lost to the caller but not to the collection: the version stays behind
        them. A stream that is not made of events cannot be resumed with confidence: it leads to a new list.
        """
        events = []
        version = self.resource_version
        for line in self._lines.feed(chunk):
            try:
                event = parse_event(line)
            except msgspec.DecodeError as error:
                raise WatchError(GONE, f"the watch delivered what is no event: {error}") from error
            if event.type == "ERROR":
                status = parse_status(event.object)
                raise WatchError(status.code, status.message or "the server ended the watch without a reason")
            version = _version(event.object) or version
            if event.type in {"ADDED", "MODIFIED", "DELETED"}:
                events.append(Event(event.object, event.type == "DELETED"))
        self.resource_version = version
        self._worked()
        return events

    def ended(self, now: float) -> None:
        """The server closed the stream in good order. A stream that ended at once would, resumed at once, spin."""
        if now - self._opened_at < LASTING:
            self._pause_until = now + self._backoff.next()
        else:
            self._worked()

    def failed(self, now: float, code: int = 0) -> None:
        """A list, or a watch, failed; `code` is the HTTP status or that of the error event, 0 without one."""
        self._continue = ""
        watching = self.stage is Stage.WATCHING
        gone = code == GONE and watching
        if watching and code and code not in UNRELATED:
            self._refusals += 1
        if gone or self._refusals >= REFUSALS:
            self._refusals = 0
            self.stage = Stage.LISTING
        if not (gone and self._proven):  # the way out of 410 is a list, at once, unless lists do not help
            self._pause_until = now + self._backoff.next()

    def _worked(self) -> None:
        self._proven = True
        self._refusals = 0
        self._backoff.reset()


def _version(raw: msgspec.Raw) -> str:
    """Of an object whatever it is: what cannot be read is for the decoder to refuse."""
    try:
        return parse_meta(raw).resource_version
    except msgspec.DecodeError:
        return ""


class WatchError(Exception):
    """An event of type ERROR."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
