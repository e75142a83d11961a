"""The reference documentation, generated from the schema.

In: the schema. Out: Markdown for docs/reference/settings.md (`python -m cilium.settings.reference` writes it), and the
text of a process's `--help`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cilium.settings.later import LATER
from cilium.settings.model import by_key, schema
from cilium.settings.schema import Entry
from cilium.settings.values import SHORTHANDS

HEAD = """# Settings

Generated from `cilium.settings`; do not edit (`python -m cilium.settings.reference docs/reference/settings.md`).

A setting has a path in the values file, a key in the ConfigMap `cilium-config`, a flag `--key` and an environment
variable `CILIUM_KEY`. A flag is stronger than a variable, a variable than the ConfigMap, the ConfigMap than the
default. Unknown and contradictory settings are errors.
"""


def reference() -> str:
    """The page as Markdown."""
    lines = [HEAD]
    groups = dict.fromkeys(entry.group for entry in schema())
    for group in groups:
        lines += [f"## {group}", ""]
        for entry in schema():
            if entry.group == group:
                lines += _section(entry)
    lines += ["## Shorthands", "", "| values | write |", "|---|---|"]
    lines += [f"| {_code(*shorthand.paths)} | `{shorthand.key}` |" for shorthand in SHORTHANDS]
    lines += ["", "## Features of later versions", "", "Known by name, an error when switched on.", ""]
    lines += ["| values | feature |", "|---|---|"]
    lines += [f"| {_code(*feature.switches)} | {feature.feature} |" for feature in LATER]
    return "\n".join(lines) + "\n"


def usage(program: str) -> str:
    """What `--help` of a process prints: every setting that is a flag."""
    lines = [
        f"Usage: {program} [--KEY=VALUE]... [--config-dir=DIRECTORY]",
        "",
        "A flag is stronger than the variable CILIUM_KEY, a variable than the file KEY in DIRECTORY.",
    ]
    for group in dict.fromkeys(entry.group for entry in schema()):
        lines += ["", f"{group}:"]
        for entry in schema():
            if entry.group == group and entry.setting.key:
                default = entry.setting.kind.format(entry.default)
                lines.append(f"  --{entry.setting.key} ({entry.setting.kind.name}, default {default or 'empty'})")
                lines.append(f"      {entry.setting.meaning}")
    return "\n".join(lines)


def _section(entry: Entry) -> list[str]:
    setting = entry.setting
    default = setting.kind.format(entry.default)
    facts = [("values", _code(*setting.helm)), ("key, flag", _code(setting.key)), ("type", setting.kind.name)]
    facts += [("default", f"`{default}`" if default else "empty"), ("unit", setting.unit)]
    facts += [("expects", setting.kind.expects), ("variables", _code(*entry.variables))]
    facts += [("only with", ", ".join(f"`{by_key()[key].name}: {wanted}`" for key, wanted in setting.when.items()))]
    rows = [f"| {name} | {text} |" for name, text in facts if text]
    return [f"### {entry.name}", "", setting.meaning, "", "| | |", "|---|---|", *rows, ""]


def _code(*words: str) -> str:
    return ", ".join(f"`{word}`" for word in words if word)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
