"""Filter flags, in the order they were given, become the whitelist and blacklist of a request.

Owns: `build`. Flags of different kinds are ANDed, values of one kind ORed; a flag without a side (`--pod`) means
source or destination, each such flag on its own. `--not` turns the flag after it into a filter of the blacklist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import click

from cilium.cli.hubble.flags import Flag

SOURCE, DESTINATION, EITHER = 0, 1, -1
_QUALIFIED = ("pod", "service")
Fields = dict[str, list[Any]]
"""A FlowFilter as field name to values."""


@dataclass(frozen=True, slots=True)
class Given:
    """One flag of the command line. `side` is EITHER also for flags without sides."""

    flag: Flag
    value: str
    side: int = EITHER
    negated: bool = False

    @property
    def option(self) -> str:
        return {SOURCE: "--from-", DESTINATION: "--to-", EITHER: "--"}[self.side] + self.flag.name


@dataclass(frozen=True, slots=True)
class Filters:
    whitelist: list[Fields]
    blacklist: list[Fields]


def build(given: Sequence[Given], *, all_namespaces: frozenset[int] = frozenset()) -> Filters:
    """`all_namespaces`: the sides of `-A` and its relatives. Raises click.UsageError or click.BadParameter."""
    wanted = _qualify([one for one in given if not one.negated], all_namespaces)
    unwanted = _qualify([one for one in given if one.negated], all_namespaces)
    blacklist = [fields for one in unwanted for fields in _combine([one])]
    return Filters(_combine(wanted), blacklist)


def _qualify(given: Sequence[Given], all_namespaces: frozenset[int]) -> list[Given]:
    """Give names without a namespace the one of `-n` on their side; `-n` is used up by that."""
    used: set[int] = set()
    result: list[Given] = []
    spaces = [(at, one) for at, one in enumerate(given) if one.flag.name == "namespace"]
    for one in given:
        if one.flag.name not in _QUALIFIED or "/" in one.value:
            result.append(one)
            continue
        near = [(at, space.value) for at, space in spaces if space.side in (one.side, EITHER)]
        names = [namespace for _, namespace in near]
        if not names:
            everywhere = all_namespaces & {one.side, EITHER}
            names = [""] if everywhere else ["default"]
        used.update(at for at, _ in near)
        result += [Given(one.flag, f"{name}/{one.value}", one.side, one.negated) for name in names]
    used_up = {id(given[at]) for at in used}
    return [one for one in result if id(one) not in used_up]


def _combine(given: Iterable[Given]) -> list[Fields]:
    fixed: Fields = {}
    either: dict[tuple[str, ...], list[Any]] = {}
    origin: dict[str, Given] = {}
    for one in given:
        values = _values(one)
        if one.side == EITHER and one.flag.sided:
            either.setdefault(one.flag.fields, []).extend(values)
            names = one.flag.fields
        else:
            names = (one.flag.fields[max(one.side, 0)],)
            fixed.setdefault(names[0], []).extend(values)
        for name in names:
            other = origin.setdefault(name, one)
            if (other.side == EITHER) != (one.side == EITHER):
                raise click.UsageError(f"{other.option} and {one.option} cannot be combined: give a side to both")
    if not fixed and not either:
        return []
    choices = product(*[[(name, values) for name in names] for names, values in either.items()])
    return [{**fixed, **dict(choice)} for choice in choices]


def _values(one: Given) -> list[Any]:
    texts = one.value.split(",") if one.flag.split else [one.value]
    try:
        return [one.flag.parse(text) for text in texts]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=one.option) from None
