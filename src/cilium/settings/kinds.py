"""Kinds of values: how text or YAML becomes a typed value, and how a value is written into a ConfigMap.

In: what YAML, a flag, an environment variable or a file holds. Out: typed values, or `ValueError`, whose text says
what is wrong beyond not being what `expects` says; it may be empty. `format` and `parse` are inverse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    NetmaskValueError,
    ip_address,
    ip_network,
)
from typing import Generic, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
N = TypeVar("N", IPv4Network, IPv6Network)
A = TypeVar("A", IPv4Address, IPv6Address)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """One type of value. `expects` completes the sentence "expected …" in an error."""

    name: str
    expects: str
    parse: Callable[[object], T]
    format: Callable[[T], str]
    empty_is_default: bool = True
    """An empty string stands for the default, as in Helm charts; false where an empty text is a value."""


def boolean() -> Kind[bool]:
    words = {"true": True, "false": False}

    def parse(raw: object) -> bool:
        if isinstance(raw, bool):
            return raw
        if isinstance(raw, str) and raw.lower() in words:
            return words[raw.lower()]
        raise ValueError

    return Kind("bool", "true or false", parse, lambda value: "true" if value else "false")


_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)


def integer(low: int, high: int, *, extra: tuple[int, ...] = ()) -> Kind[int]:
    """A whole number in low..high, or one of `extra` (values with a meaning of their own, such as 0 for
    automatic).
    """
    expects = " or ".join([*(str(number) for number in extra), f"a whole number from {low} to {high}"])

    def parse(raw: object) -> int:
        if isinstance(raw, bool) or not _INTEGER.fullmatch(str(raw)):
            raise ValueError
        number = int(str(raw))
        if not low <= number <= high and number not in extra:
            raise ValueError
        return number

    return Kind("int", expects, parse, str)


def one_of(numbers: tuple[int, ...]) -> Kind[int]:
    """A whole number out of a list."""

    def parse(raw: object) -> int:
        if isinstance(raw, bool) or not _INTEGER.fullmatch(str(raw)) or int(str(raw)) not in numbers:
            raise ValueError
        return int(str(raw))

    return Kind("int", "one of " + ", ".join(str(number) for number in numbers), parse, str)


def text(pattern: str = r".*", expects: str = "a text", *, empty_is_default: bool = False) -> Kind[str]:
    compiled = re.compile(pattern)

    def parse(raw: object) -> str:
        if isinstance(raw, bool | list | dict) or not compiled.fullmatch(str(raw)):
            raise ValueError
        return str(raw)

    return Kind("string", expects, parse, str, empty_is_default=empty_is_default)


def choice(enum: type[E]) -> Kind[E]:
    expects = "one of " + ", ".join(member.value for member in enum)

    members = {member.value: member for member in enum}

    def parse(raw: object) -> E:
        member = members.get(str(raw))
        if member is None:
            raise ValueError
        return member

    return Kind("choice", expects, parse, lambda value: value.value)


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|h|m|s))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|h|m|s)")


def duration(low: float = 0.0) -> Kind[float]:
    """Seconds; written as in Go (`1h30m`, `500ms`). `0` needs no unit."""

    def parse(raw: object) -> float:
        words = str(raw)
        if isinstance(raw, bool) or (words != "0" and not _DURATION.fullmatch(words)):
            raise ValueError
        seconds = sum((float(amount) * _UNITS[unit] for amount, unit in _DURATION_PART.findall(words)), 0.0)
        if seconds < low:
            raise ValueError
        return seconds

    return Kind("duration", f"a duration such as 5s, 500ms or 1h30m, at least {low:g}s", parse, format_duration)


def format_duration(seconds: float) -> str:
    """The shortest form that parses back: whole hours, minutes and seconds, else milliseconds or seconds."""
    if seconds == int(seconds):
        whole = int(seconds)
        hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
        parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{rest}s" if rest else ""]
        return "".join(parts) or "0s"
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds / 1000 == seconds else f"{seconds:.9f}s"


def _network(raw: object, family: type[N]) -> N:
    try:
        return family(str(raw), strict=True)
    except (AddressValueError, NetmaskValueError):
        raise ValueError(f"{raw!r} is no CIDR of this family") from None
    except ValueError:
        raise ValueError(f"{raw} has host bits set, write {family(str(raw), strict=False)}") from None


def _words(raw: object) -> list[str]:
    """A YAML list, or a text with members separated by commas or white space."""
    if isinstance(raw, str):
        return raw.replace(",", " ").split()
    if isinstance(raw, list) and all(isinstance(member, str) for member in raw):
        return list(raw)
    raise ValueError


def _family_name(family: type[IPv4Network] | type[IPv6Network]) -> str:
    return "IPv4" if family is IPv4Network else "IPv6"


def optional_cidr(family: type[N]) -> Kind[N | None]:
    example = "10.0.0.0/8" if family is IPv4Network else "fd00::/104"

    def parse(raw: object) -> N | None:
        return None if raw == "" else _network(raw, family)

    return Kind(
        "CIDR",
        f"an {_family_name(family)} CIDR such as {example}",
        parse,
        lambda value: "" if value is None else str(value),
        empty_is_default=False,
    )


def cidrs(family: type[N]) -> Kind[tuple[N, ...]]:
    example = "10.0.0.0/8" if family is IPv4Network else "fd00::/104"

    def parse(raw: object) -> tuple[N, ...]:
        return tuple(_network(word, family) for word in _words(raw))

    return Kind(
        "CIDR list",
        f"a list of {_family_name(family)} CIDRs such as {example}",
        parse,
        lambda value: " ".join(str(network) for network in value),
    )


def networks() -> Kind[tuple[IPv4Network | IPv6Network, ...]]:
    """CIDRs of both families; an address alone is a CIDR of its own."""

    def parse(raw: object) -> tuple[IPv4Network | IPv6Network, ...]:
        found: list[IPv4Network | IPv6Network] = []
        for word in _words(raw):
            try:
                found.append(ip_network(word, strict=False))
            except ValueError:
                raise ValueError(f"'{word}' is no CIDR") from None
            if found[-1].network_address != ip_network(word.partition("/")[0]).network_address:
                raise ValueError(f"{word} has host bits set, write {found[-1]}")
        return tuple(found)

    return Kind(
        "CIDR list",
        "a list of CIDRs such as 10.0.0.0/8 or fd00::/104",
        parse,
        lambda value: " ".join(str(network) for network in value),
    )


def address(family: type[A]) -> Kind[A]:
    """One address of a family, which a host may have."""

    def parse(raw: object) -> A:
        try:
            found = family(str(raw))
        except ValueError:
            raise ValueError from None
        if found.is_unspecified or found.is_multicast:
            raise ValueError("no host has this address")
        return found

    name = "IPv4" if family is IPv4Address else "IPv6"
    return Kind("address", f"an {name} address", parse, str)


def names(pattern: str = r"\S+", expects: str = "a list of names") -> Kind[tuple[str, ...]]:
    compiled = re.compile(pattern)

    def parse(raw: object) -> tuple[str, ...]:
        words = tuple(_words(raw))
        for word in words:
            if not compiled.fullmatch(word):
                raise ValueError(f"'{word}' does not fit")
        return words

    return Kind("list", expects, parse, " ".join, empty_is_default=False)


def listen_address() -> Kind[str]:
    """`host:port`, `[v6]:port` or `:port` for every address; empty: do not listen."""

    def parse(raw: object) -> str:
        if not isinstance(raw, str):
            raise ValueError
        if raw == "":
            return raw
        host, separator, port = raw.rpartition(":")
        if not separator or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError
        if host.startswith("[") and host.endswith("]"):
            ip_address(host[1:-1])
        elif ":" in host:
            raise ValueError("an IPv6 address needs brackets")
        return raw

    return Kind("address", "host:port, [IPv6]:port, :port or nothing", parse, str, empty_is_default=False)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of what `listen_address` accepted; an empty host means every address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
