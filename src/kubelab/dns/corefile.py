"""The Corefile: text to server blocks.

In: a file's text and the environment. Out: blocks with zones and directives, or CorefileError naming file and line.
Source: coredns.io/manual/configuration (the language is Caddy's first one).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network

import dns.exception
import dns.name
import dns.reversename

PORT = 53
_ENVIRONMENT = re.compile(r"\{\$(\w+)\}|\{%(\w+)%\}")
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(#.*)|(\S+)')
_CIDR = re.compile(r"[0-9a-fA-F.:]+/\d+")


class CorefileError(ValueError):
    """What is wrong in a Corefile, as `FILE:LINE - what`."""

    def __init__(self, line: int, text: str, path: str = "Corefile") -> None:
        super().__init__(f"{path}:{line} - Error during parsing: {text}")
        self.line, self.text = line, text


@dataclass(frozen=True, slots=True)
class Directive:
    """A plugin with its arguments and what stands in its braces."""

    name: str
    arguments: tuple[str, ...]
    line: int
    block: tuple[Directive, ...] = ()

    def error(self, text: str) -> CorefileError:
        return CorefileError(self.line, f"plugin/{self.name}: {text}")


@dataclass(frozen=True, slots=True)
class ServerBlock:
    """The zones and ports that one chain of plugins serves."""

    zones: tuple[tuple[dns.name.Name, int], ...]
    directives: tuple[Directive, ...]
    line: int


@dataclass(frozen=True, slots=True)
class _Line:
    words: tuple[str, ...]
    number: int


def parse(text: str, environment: Mapping[str, str], path: str = "Corefile") -> list[ServerBlock]:
    """All blocks. Raises CorefileError."""
    try:
        return list(_blocks(list(_lines(text, environment))))
    except CorefileError as error:
        raise CorefileError(error.line, error.text, path) from None


def zone_name(text: str) -> list[dns.name.Name]:
    """The zone that a label names: a domain, or a network whose reverse zones are meant. Raises ValueError."""
    if not _CIDR.fullmatch(text):
        try:
            return [dns.name.from_text(text.lower())]
        except dns.exception.DNSException as error:
            raise ValueError(f"{text!r} is no domain name: {error}") from error
    network = ip_network(text, strict=False)
    step = 8 if network.version == 4 else 4
    whole = -(-network.prefixlen // step) * step  # names end at full labels: a network between them is several
    names = []
    for part in network.subnets(new_prefix=whole):
        labels = dns.reversename.from_address(str(part.network_address)).labels
        names.append(dns.name.Name(labels[(part.max_prefixlen - whole) // step :]))
    return names


def _lines(text: str, environment: Mapping[str, str]) -> Iterator[_Line]:
    text = _ENVIRONMENT.sub(lambda match: environment.get(match[1] or match[2], ""), text)
    for number, line in enumerate(text.splitlines(), start=1):
        words = []
        for match in _TOKEN.finditer(line):
            if match[2] is not None:
                break
            words.append(match[3] if match[1] is None else re.sub(r"\\(.)", r"\1", match[1]))
        if words:
            yield _Line(tuple(words), number)


def _blocks(lines: list[_Line]) -> Iterator[ServerBlock]:
    snippets: dict[str, tuple[Directive, ...]] = {}
    labels: list[str] = []
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        opens = line.words[-1] == "{"
        labels += [part for word in (line.words[:-1] if opens else line.words) for part in word.split(",") if part]
        if not opens:
            if not line.words[-1].endswith(","):
                raise CorefileError(line.number, f"'{{' expected after {' '.join(labels)}")
            continue
        if not labels:
            raise CorefileError(line.number, "a server block needs a zone before its '{'")
        directives, position = _directives(lines, position, line.number)
        if labels[0].startswith("("):
            snippets[labels[0].strip("()")] = directives
        else:
            zones = tuple(zone for label in labels for zone in _zone(label, line.number))
            yield ServerBlock(zones, tuple(_imported(directives, snippets)), line.number)
        labels = []
    if labels:
        raise CorefileError(lines[-1].number, f"'{{' expected after {' '.join(labels)}")


def _directives(lines: list[_Line], position: int, opened: int) -> tuple[tuple[Directive, ...], int]:
    """What stands until the closing brace, and the position behind it."""
    found: list[Directive] = []
    while position < len(lines):
        line = lines[position]
        position += 1
        if line.words == ("}",):
            return tuple(found), position
        words = line.words
        block: tuple[Directive, ...] = ()
        if words[-1] == "{":
            block, position = _directives(lines, position, line.number)
            words = words[:-1]
        elif "{" in words[1:] and words[-1] == "}":  # health { lameduck 5s }
            start = words.index("{")
            block = (Directive(words[start + 1], words[start + 2 : -1], line.number),) if words[start + 1 : -1] else ()
            words = words[:start]
        if not words or "}" in words or "{" in words:
            raise CorefileError(line.number, f"unexpected {line.words[-1]!r}: braces stand alone or end a line")
        found.append(Directive(words[0], words[1:], line.number, block))
    raise CorefileError(opened, "the '{' of this line is never closed")


def _imported(directives: tuple[Directive, ...], snippets: Mapping[str, tuple[Directive, ...]]) -> Iterator[Directive]:
    for directive in directives:
        if directive.name != "import":
            yield directive
        elif len(directive.arguments) != 1 or directive.arguments[0] not in snippets:
            raise CorefileError(directive.line, f"import {' '.join(directive.arguments)}: only snippets are imported")
        else:
            for piece in snippets[directive.arguments[0]]:
                yield replace(piece, line=directive.line)


def _zone(label: str, line: int) -> list[tuple[dns.name.Name, int]]:
    scheme, separator, rest = label.rpartition("://")
    if separator and scheme != "dns":
        raise CorefileError(line, f"{label}: only dns:// is served here")
    name, port = rest, PORT
    if match := re.fullmatch(r"(.*?):(\d+)", rest):
        name, port = match[1] or ".", int(match[2])
    try:
        return [(zone, port) for zone in zone_name(name)]
    except ValueError as error:
        raise CorefileError(line, str(error)) from error
