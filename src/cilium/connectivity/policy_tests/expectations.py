"""The expectations file: who reaches whom, or does not.

In: the text of a YAML file. Out: `Expectation`s, or WrongTestError with every problem of the file, each with line and
path. The format is documented in docs/tasks/test-policies-in-ci.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cilium.connectivity.policy_tests.errors import WrongTestError
from cilium.connectivity.policy_tests.places import Place, parse_place

FIELDS = ("from", "to", "ports", "path", "expect", "families", "deniedBy", "allowedBy")
PROTOCOLS = ("TCP", "UDP", "ICMP")
FAMILIES = {"IPv4": 4, "IPv6": 6}
KINDS = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy", "ClusterNetworkPolicy")


@dataclass(frozen=True, slots=True)
class Port:
    """A number or a name; ICMP has neither."""

    protocol: str
    number: int = 0
    name: str = ""

    def __str__(self) -> str:
        if self.protocol == "ICMP":
            return "ICMP"
        return f"{self.name or self.number}/{self.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One entry of the file."""

    line: int
    sources: tuple[Place, ...]
    targets: tuple[Place, ...]
    allowed: bool
    ports: tuple[Port, ...] = ()  # none: all that the target declares
    path: str = ""
    families: tuple[int, ...] = ()  # none: those that both ends have
    decided_by: tuple[str, ...] = ()  # policies that must be among those that decided


def parse(file: Path, text: str) -> tuple[Expectation, ...]:
    """Raises WrongTestError."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WrongTestError(f"{file}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, list) or not isinstance(node, yaml.SequenceNode):
        raise WrongTestError(f"{file}: expectations are a list: begin each with `- from: NAMESPACE/NAME`")
    problems: list[str] = []
    found = []
    for index, (entry, at) in enumerate(zip(content, node.value, strict=True)):
        line = at.start_mark.line + 1
        reader = _Entry(f"{file}:{line}: [{index}]", entry, problems)
        if (expectation := reader.read(line)) is not None:
            found.append(expectation)
    if problems:
        raise WrongTestError("\n".join(problems))
    return tuple(found)


class _Entry:
    """Reads one entry; what is wrong goes to `problems`."""

    def __init__(self, where: str, entry: Any, problems: list[str]) -> None:
        self._where, self._entry, self._problems = where, entry, problems

    def _wrong(self, path: str, reason: str) -> None:
        self._problems.append(f"{self._where}{path}: {reason}")

    def read(self, line: int) -> Expectation | None:
        before = len(self._problems)
        if not isinstance(self._entry, dict):
            self._wrong("", "an expectation has from, to and expect")
            return None
        for field in self._entry:
            if field not in FIELDS:
                self._wrong(f".{field}", f"unknown field; there are {', '.join(FIELDS)}")
        allowed = self._verdict()
        expectation = Expectation(
            line=line,
            sources=self._places("from"),
            targets=self._places("to"),
            allowed=allowed,
            ports=tuple(filter(None, (self._port(*item) for item in self._list("ports")))),
            path=self._path(),
            families=self._families(),
            decided_by=self._policies("allowedBy" if allowed else "deniedBy"),
        )
        other = "deniedBy" if allowed else "allowedBy"
        if other in self._entry:
            self._wrong(f".{other}", f"does not go with expect: {'allowed' if allowed else 'denied'}")
        if expectation.path and any(port.protocol != "TCP" for port in expectation.ports):
            self._wrong(".path", "is asked by HTTP, over TCP ports only")
        return expectation if len(self._problems) == before else None

    def _verdict(self) -> bool:
        said = self._entry.get("expect")
        if said not in ("allowed", "denied"):
            self._wrong(".expect", f"{'is missing' if said is None else repr(said)}: write allowed or denied")
        return bool(said == "allowed")

    def _list(self, field: str) -> list[tuple[str, Any]]:
        """(path, item); a single item may stand for a list of one."""
        value = self._entry.get(field)
        if value is None:
            return []
        if isinstance(value, list):
            if not value:
                self._wrong(f".{field}", "is empty: leave it out, or say something")
            return [(f".{field}[{index}]", item) for index, item in enumerate(value)]
        return [(f".{field}", value)]

    def _places(self, field: str) -> tuple[Place, ...]:
        if field not in self._entry:
            self._wrong(f".{field}", "is missing")
        places = []
        for path, item in self._list(field):
            try:
                places.append(parse_place(item))
            except ValueError as error:
                self._wrong(path, str(error))
        return tuple(places)

    def _port(self, path: str, item: Any) -> Port | None:
        text = str(item)
        if text.upper() in ("ICMP", "ICMPV6"):
            return Port("ICMP")
        name, _, protocol = text.partition("/")
        protocol = protocol.upper() or "TCP"
        if protocol not in PROTOCOLS[:2]:
            self._wrong(path, f"{text!r}: the protocol is TCP or UDP (SCTP cannot be probed)")
        elif name.isdecimal() and 1 <= int(name) <= 65535:
            return Port(protocol, int(name))
        elif name and not name.isdecimal() and name.replace("-", "").isalnum():
            return Port(protocol, 0, name)
        else:
            self._wrong(path, f"{text!r}: write PORT/TCP, PORT/UDP, NAME/TCP or ICMP, with a port of 1 to 65535")
        return None

    def _path(self) -> str:
        path = self._entry.get("path") or ""
        if path and (not isinstance(path, str) or not path.startswith("/") or not path.isprintable() or " " in path):
            self._wrong(".path", f"{path!r}: a path begins with / and has no blanks")
        return str(path)

    def _families(self) -> tuple[int, ...]:
        found = []
        for path, item in self._list("families"):
            if item in FAMILIES:
                found.append(FAMILIES[item])
            else:
                self._wrong(path, f"{item!r}: write IPv4 or IPv6")
        return tuple(dict.fromkeys(found))

    def _policies(self, field: str) -> tuple[str, ...]:
        found = []
        for path, item in self._list(field):
            words = str(item).split()
            if len(words) != 2 or words[0] not in KINDS:
                self._wrong(path, f"{item!r}: write KIND NAMESPACE/NAME, or KIND NAME; kinds are {', '.join(KINDS)}")
            else:
                found.append(" ".join(words))
        return tuple(found)
