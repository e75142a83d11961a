"""Flags of a command line as Go programs take them: -name=value, --name value, --name.

In: arguments. Out: values by name, and what is no flag. Everything is accepted: a stand-in has but a part of the flags.
"""

from __future__ import annotations


class Flags:
    """`switches` take no value from the next word."""

    def __init__(self, arguments: list[str], switches: tuple[str, ...] = ()) -> None:
        self._values: dict[str, str] = {}
        self.rest: list[str] = []
        words = list(arguments)
        while words:
            word = words.pop(0)
            if not word.startswith("-") or word in ("-", "--"):
                self.rest.append(word)
                continue
            name, separator, value = word.lstrip("-").partition("=")
            if not separator and name not in switches and words and not words[0].startswith("-"):
                value = words.pop(0)
            self._values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, *names: str) -> str:
        """The value of the first that was given; empty without."""
        return next((self._values[name] for name in names if name in self._values), "")

    def on(self, name: str, *, default: bool = False) -> bool:
        """A switch."""
        return self._values[name] not in ("false", "0") if name in self._values else default


def port_of(place: str, default: str) -> str:
    """The port of `:8080`, `0.0.0.0:8080` or `8080`."""
    number = place.rpartition(":")[2]
    return number if number.isdecimal() else default
