"""The registry of stand-ins: which program runs for which image.

In: YAML files, the shipped one last. Out: the entry of an image, or None. A file is checked as a whole when it is read:
RegistryError names file, entry, field and the way out. The first entry that matches wins, a user's before a shipped
one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kubelab.images import reference
from kubelab.images.programs import standins

SHIPPED = Path(__file__).parent / "registry.yaml"
_PORT = re.compile(r"([0-9]{1,5})/(tcp|udp)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = re.compile(r"[a-z_0-9][a-z0-9_-]*(:[a-z_0-9][a-z0-9_-]*)?")


class RegistryError(ValueError):
    """A registry file that cannot be used."""


class Otherwise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What runs on a machine that lacks the program."""

    standin: str
    args: list[str] = []


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program of the machine: its name, or a path that may have wildcards; the Debian package that holds it."""

    program: str
    package: str
    otherwise: Otherwise | None = None


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """One entry; fields mean what they mean in an image's configuration (OCI)."""

    images: list[str]
    about: str
    standin: str = ""  # a stand-in that is shipped and its first arguments, in the place of an entrypoint
    entrypoint: list[str] = []
    cmd: list[str] = []
    env: dict[str, str] = {}
    working_dir: str = ""
    user: str = ""
    ports: list[str] = []
    needs: Needs | None = None


@dataclass(frozen=True, slots=True)
class Registry:
    """Entries in the order in which they are asked."""

    entries: tuple[Entry, ...]

    def find(self, image: str) -> Entry | None:
        wanted = reference.parse(image)
        return next((e for e in self.entries if any(reference.matches(p, wanted) for p in e.images)), None)


def load(extension: Path | None = None) -> Registry:
    """The shipped registry, behind the entries of a user's file. Raises RegistryError."""
    files = [SHIPPED] if extension is None else [extension, SHIPPED]
    return Registry(tuple(entry for file in files for entry in read(file)))


def read(file: Path) -> list[Entry]:
    """The entries of one file. Raises RegistryError."""
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise RegistryError(f"{file}: {error.strerror}: give a file that can be read") from error
    except UnicodeDecodeError:
        raise RegistryError(f"{file}: not text: a registry is YAML in UTF-8") from None
    except yaml.YAMLError as error:
        raise RegistryError(f"{file}: no YAML: {_place(error)}") from None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list) or len(content) > 1:
        raise RegistryError(f'{file}: write a mapping with one key, "images:", and a list of entries below it')
    return [_entry(file, number, raw) for number, raw in enumerate(content["images"])]


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark is not None else problem


def _entry(file: Path, number: int, raw: Any) -> Entry:
    name = raw.get("images", "") if isinstance(raw, dict) else ""
    first = name[0] if isinstance(name, list) and name else name
    where = f"{file}: images[{number}]" + (f" ({first})" if isinstance(first, str) and first else "")
    try:
        entry = msgspec.convert(raw, Entry)
    except msgspec.ValidationError as error:
        raise RegistryError(f"{where}: {_readable(str(error))}") from None
    if problem := next(iter(_problems(entry)), None):
        raise RegistryError(f"{where}: {problem}")
    return entry


def _readable(text: str) -> str:
    """msgspec's words, the field in front."""
    what, separator, path = text.rpartition(" - at `$.")
    if separator:
        return f"{path.rstrip('`')}: {what}"
    if "unknown field" in text:
        return f"{text}: an entry has {', '.join(msgspec.structs.asdict(_SAMPLE)).replace('working_dir', 'workingDir')}"
    return text


_SAMPLE = Entry(images=[], about="")


def _problems(entry: Entry) -> Iterator[str]:
    if not entry.images:
        yield "images: name at least one image, such as docker.io/library/redis"
    for pattern in entry.images:
        if not reference.valid(pattern):
            yield f"images: {pattern!r}: write REGISTRY/REPOSITORY[:TAG], with * or ** as wildcards, without a digest"
    if entry.standin and entry.entrypoint:
        yield "standin, entrypoint: give one of them"
    if not (entry.standin or entry.entrypoint or entry.cmd):
        yield "standin, entrypoint, cmd: give one of them, or nothing would run"
    yield from _unknown("standin", entry.standin.split()[:1])
    for name in entry.env:
        if not _VARIABLE.fullmatch(name) or name in ("PATH", "HOME", "HOSTNAME"):
            yield f"env: {name}: not a name that an image can set here"
    if entry.working_dir and not entry.working_dir.startswith("/"):
        yield f"workingDir: {entry.working_dir!r}: write an absolute path"
    if entry.user and not _USER.fullmatch(entry.user):
        yield f"user: {entry.user!r}: write USER or USER:GROUP, names or numbers"
    for port in entry.ports:
        match = _PORT.fullmatch(port)
        if match is None or not 0 < int(match[1]) < 65536:
            yield f"ports: {port!r}: write PORT/tcp or PORT/udp"
    if entry.needs is not None:
        if not entry.needs.program or not entry.needs.package:
            yield "needs: program and package: name both"
        if entry.needs.otherwise is not None:
            yield from _unknown("needs.otherwise.standin", entry.needs.otherwise.standin.split()[:1] or [""])


def _unknown(field: str, names: Iterable[str]) -> Iterator[str]:
    known = standins()
    for name in names:
        if name not in known:
            yield f"{field}: {name!r}: no such stand-in; there are {', '.join(known)}"
