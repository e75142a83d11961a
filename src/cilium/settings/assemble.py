"""From raw values to checked settings: shared by values files, the ConfigMap and flags.

In: raw values by setting, each with the place it was given. Out: `Settings`, or one `SettingsError` with
every problem of kind and of contradiction, named as the place names them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cilium.settings.checks import check
from cilium.settings.errors import Problem, SettingsError
from cilium.settings.findings import Finding
from cilium.settings.model import Settings, build, by_key
from cilium.settings.schema import Entry


@dataclass(frozen=True)
class Given:
    """A value as somebody gave it. `where` names the place exactly: a Helm path, a file, a flag, a variable."""

    raw: object
    where: str


def _parse(entry: Entry, given: Given) -> Any:
    kind = entry.setting.kind
    if given.raw is None or (given.raw == "" and kind.empty_is_default):
        return entry.default
    return kind.parse(given.raw)


def _shown(raw: object) -> str:
    text = str(raw).lower() if isinstance(raw, bool) else str(raw)
    return f"'{text}'" if len(text) <= 80 else f"'{text[:77]}...'"


def assemble(
    source: str,
    given: Mapping[Entry, Given],
    name: Callable[[Entry], str],
    problems: list[Problem],
    *,
    contradictions: bool = True,
) -> Settings:
    """Checked settings.

    `name` says what the source calls a setting that was not given; `problems` are those found so far. Raises
    SettingsError if there is any problem. `contradictions`: look for them, too, among well-formed values.
    """
    values: dict[Entry, Any] = {}
    for entry, value in given.items():
        try:
            values[entry] = _parse(entry, value)
        except ValueError as error:
            expected = f"expected {entry.setting.kind.expects}"
            message = f"{_shown(value.raw)} is not valid" + (f": {error}" if error.args else "")
            problems.append(Problem(value.where, message, expected))
    settings = build(values, {entry: given[entry].where for entry in values})
    malformed = {entry.setting.key for entry in given if entry not in values}

    def named(key: str) -> str:
        entry = by_key()[key]
        return given[entry].where if entry in given else name(entry)

    def render(text: str) -> str:
        return re.sub(r"\{([a-z0-9-]+)\}", lambda match: named(match.group(1)), text)

    def concerns_malformed(finding: Finding) -> bool:
        return bool(malformed & {finding.key, *re.findall(r"\{([a-z0-9-]+)\}", finding.message + finding.remedy)})

    problems += [
        Problem(named(finding.key), render(finding.message), render(finding.remedy))
        for finding in (check(settings) if contradictions else ())
        if not concerns_malformed(finding)
    ]
    if problems:
        raise SettingsError(source, problems)
    return settings
