"""What a plugin is: a link of the chain that answers, changes answers, or watches.

In: its directive. Out: answers to queries, itself or by asking the next one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import dns.name

from kubelab.dns.corefile import Directive, zone_name
from kubelab.dns.wire import Query, Response

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class ServerFailure(Exception):  # noqa: N818 - the name of the RCODE
    """A plugin has no answer and says why; the asker gets SERVFAIL."""


@dataclass(slots=True)
class Context:
    """What the plugins of one server block know of their surroundings."""

    zones: tuple[dns.name.Name, ...]
    path: Path
    """Of the Corefile."""
    resolve: Callable[[Query], Awaitable[Response]]
    """Asks the whole server anew: how an alias out of a zone is followed."""
    shared: dict[str, object] = field(default_factory=dict)
    """What plugins of all blocks hold together, such as counters."""


class Plugin:
    """One link. Without anything of its own it hands every query on."""

    name: ClassVar[str]

    def __init__(self, directive: Directive, context: Context) -> None:
        """Raises CorefileError."""
        self.directive, self.context = directive, context
        self.next: Plugin | None = None

    async def start(self) -> None:
        """Before the first query."""

    async def stop(self) -> None:
        """After the last one, at a reload or at the end."""

    async def lame(self) -> None:
        """The process was told to end: what still has to happen while queries are answered."""

    def ready(self) -> bool:
        return True

    async def serve(self, query: Query) -> Response:
        """Raises ServerFailure, OSError."""
        return await self.onward(query)

    def observe(self, zone: dns.name.Name, query: Query, response: Response, size: int, seconds: float) -> None:
        """An answer was given, whoever had it; ``size`` is its bytes."""

    def failed(self, query: Query, error: Exception) -> None:
        """There was no answer, and why."""

    async def onward(self, query: Query) -> Response:
        """What the rest of the chain says."""
        if self.next is None:
            raise ServerFailure("no next plugin found")
        return await self.next.serve(query)


class Zones:
    """The zones that a plugin is about: those it names, otherwise those of its server block."""

    def __init__(self, names: Sequence[dns.name.Name]) -> None:
        self.names = sorted(names, key=lambda name: -len(name.labels))

    @classmethod
    def of(cls, directive: Directive, words: Sequence[str], context: Context) -> Zones:
        """Raises CorefileError."""
        try:
            return cls([name for word in words for name in zone_name(word)] or context.zones)
        except ValueError as error:
            raise directive.error(str(error)) from error

    def match(self, name: dns.name.Name) -> dns.name.Name | None:
        """The longest zone that holds the name."""
        return next((zone for zone in self.names if name.is_subdomain(zone)), None)


@dataclass(frozen=True, slots=True)
class Fallthrough:
    """For which names a plugin without an answer asks the next one."""

    zones: Zones | None = None

    @classmethod
    def of(cls, directive: Directive, line: Directive) -> Fallthrough:
        root = Context((dns.name.root,), Path(), _nobody)
        return cls(Zones.of(directive, line.arguments, root))

    def through(self, name: dns.name.Name) -> bool:
        return self.zones is not None and self.zones.match(name) is not None


async def _nobody(query: Query) -> Response:
    raise ServerFailure("nobody to ask")


def seconds(directive: Directive, text: str) -> float:
    """Go's durations: `5s`, `1m30s`, `500ms`. Raises CorefileError."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise directive.error(f"invalid duration {text!r}: write 5s, 1m30s or 500ms")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def number(directive: Directive, text: str, low: int, high: int) -> int:
    """Raises CorefileError."""
    if not text.isdecimal() or not low <= int(text) <= high:
        raise directive.error(f"{text!r} is not a number from {low} to {high}")
    return int(text)


def words(directive: Directive, line: Directive, least: int, most: int | None = None) -> tuple[str, ...]:
    """A line's arguments, whose number is right. Raises CorefileError."""
    most = least if most is None else most
    if not least <= len(line.arguments) <= most:
        raise directive.error(f"{line.name}: wrong argument count or unexpected line ending")
    return line.arguments


def unknown(directive: Directive, line: Directive) -> Exception:
    """For a property that a plugin does not have."""
    return Directive(directive.name, (), line.line).error(f"unknown property {line.name!r}")
