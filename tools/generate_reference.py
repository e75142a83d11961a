"""Generate docs/reference/ from the code it describes: settings, custom resources, command lines, events, metrics.

In: the settings' schema, the CRDs' YAML, the click commands, the enums generated from BTF and the comments beside their
C definitions, the declared metrics. Out: Markdown pages. `--check` writes nothing and fails when a committed page
differs.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

TARGET = ROOT / "docs/reference"
NOTICE = "Generated from {} by `tools/generate_reference.py`; do not edit, run `make reference`."


def cell(text: str) -> str:
    """Text as one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return [*lines, *(f"| {' | '.join(map(cell, row))} |" for row in rows), ""]


# -- settings ---------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    from cilium.settings.reference import reference

    return reference()


# -- custom resources -------------------------------------------------------------------------------------------------


def crds_page() -> str:
    """Every CRD with its fields. Shared schemas are described once, at the end."""
    from cilium.api import crds

    fragments = crds.fragments()
    lines = ["# Custom resources", "", NOTICE.format("`src/cilium/api/crds`"), ""]
    lines += ["What of a policy is parsed but not enforced yet: [Network policy](../policy.md).", ""]
    for document in crds.documents():
        lines += crd_section(document["spec"])
    lines += ["## Shared types", ""]
    for name, schema in sorted(fragments.items()):
        lines += [f"### {name}", "", *paragraph(schema), *fields_table(schema)]
    return "\n".join(lines).rstrip() + "\n"


def crd_section(spec: Mapping[str, Any]) -> list[str]:
    names, version = spec["names"], spec["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    facts = [f"`{names['plural']}.{spec['group']}`", f"version `{version['name']}`", spec["scope"].lower()]
    if names.get("shortNames"):
        facts.append("short " + ", ".join(f"`{name}`" for name in names["shortNames"]))
    return [f"## {names['kind']}", "", *paragraph(schema), " · ".join(facts), "", *fields_table(schema, crd=True)]


def paragraph(schema: Mapping[str, Any]) -> list[str]:
    return [schema["description"], ""] if "description" in schema else []


def fields_table(schema: Mapping[str, Any], *, crd: bool = False) -> list[str]:
    """Fields below `properties`, nested ones by their path; an alias or a scalar says so in one line."""
    if "properties" not in schema:
        return [f"Type: {type_of(schema)}. {limits(schema)}".strip(), ""]
    lines = [f"Everything of {link(schema['$ref'])}, and:", ""] if "$ref" in schema else []
    skip = ("apiVersion", "kind", "metadata") if crd else ()
    rows = [row for name in schema["properties"] if name not in skip for row in field(name, schema, name)]
    return [*lines, *table(("field", "type", "meaning"), rows)]


def field(name: str, owner: Mapping[str, Any], path: str) -> Iterator[tuple[str, ...]]:
    schema = owner["properties"][name]
    needed = "required. " if name in owner.get("required", ()) else ""
    inner, path_inside = schema, path
    while inner.get("type") == "array":
        inner, path_inside = inner["items"], f"{path_inside}[]"
    yield f"`{path}`", type_of(schema), needed + " ".join(filter(None, (schema.get("description", ""), limits(schema))))
    for child in inner.get("properties", {}) if "$ref" not in inner else ():
        yield from field(child, inner, f"{path_inside}.{child}")


def link(fragment: str) -> str:
    return f"[{fragment}](#{fragment.lower()})"


def type_of(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return link(schema["$ref"])
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map to {type_of(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def limits(schema: Mapping[str, Any]) -> str:
    """What a value must be, besides its type."""
    said = []
    inner = schema.get("items", schema)
    if "enum" in inner:
        said.append("One of " + ", ".join(f"`{value}`" for value in inner["enum"]) + ".")
    if "minimum" in schema or "maximum" in schema:
        said.append(f"From {schema.get('minimum', 'any')} to {schema.get('maximum', 'any')}.")
    if "maxItems" in schema:
        said.append(f"At most {schema['maxItems']} items." if schema["maxItems"] else "Must be empty.")
    if "oneOf" in schema and all("required" in choice for choice in schema["oneOf"]):
        said.append("Exactly one of " + ", ".join(f"`{choice['required'][0]}`" for choice in schema["oneOf"]) + ".")
    return " ".join(said)


# -- command lines ----------------------------------------------------------------------------------------------------


def cli_page() -> str:
    from cilium.cli.cluster.main import main as cluster
    from cilium.cli.dbg.health import main as health
    from cilium.cli.dbg.main import main as dbg
    from cilium.cli.hubble.main import hubble

    lines = ["# Command lines", "", NOTICE.format("the click commands in `src/cilium/cli`"), ""]
    lines += [
        "`cilium` speaks with a cluster and makes labs. `cilium-dbg`, `cilium-health` and `hubble` ask the agent of",
        "the node they run on: `kubectl -n kube-system exec ds/cilium -- cilium-dbg …`. Every command has `--help`.",
        "",
    ]
    for name, command in (("cilium", cluster), ("cilium-dbg", dbg), ("cilium-health", health), ("hubble", hubble)):
        lines += [f"## {name}", ""]
        for path, found in commands(name, command):
            lines += command_section(path, found)
    return "\n".join(lines).rstrip() + "\n"


def commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """The command itself, then what does something: groups below it only lend their names."""
    if " " not in path or not isinstance(command, click.Group):
        yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from commands(f"{path} {name}", command.commands[name])


def command_section(path: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    records = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
    rows = [(f"`{names}`", text) for names, text in filter(None, records)]
    lines = [] if " " not in path else [f"### {path}", ""]
    lines += [" ".join(command.help.split()), ""] if command.help else []
    lines += [f"    {usage}", ""]
    return lines + (table(("option", "meaning"), rows) if rows else [])


# -- events -----------------------------------------------------------------------------------------------------------

MEMBER = re.compile(r"^\s*([A-Z][A-Z0-9_]*) = [^,\n]+,[ \t]*(?:/\*\s*(.*?)\s*\*/)?", re.MULTILINE)


def events_page() -> str:
    from cilium.api.proto.flow import flow_pb2
    from cilium.datapath.generated import enums

    drops, events = (ROOT / "bpf/lib/drop.h").read_text(), (ROOT / "bpf/maps/events.h").read_text()
    programs = "".join(path.read_text() for path in sorted((ROOT / "bpf").rglob("*.[ch]")) if path.name != "drop.h")
    lines = ["# Events and drop reasons", "", NOTICE.format("`cilium.datapath.generated` and `bpf/`"), ""]
    lines += [
        "The datapath writes one record per packet worth telling into the ring `cilium_events`; `hubble observe` and",
        "`cilium-dbg monitor` show them. Packets and bytes per reason are counted exactly, whatever happens to events:",
        "`cilium-dbg bpf metrics list`.",
        "",
        "## Drop reasons",
        "",
        "The number is that of `flow.DropReason`; filter with `hubble observe --drop-reason-desc NAME`.",
        "",
    ]
    meanings = dict(MEMBER.findall(drops))
    used = [reason for reason in enums.DropReason if re.search(rf"\bDROP_{reason.name}\b", programs)]
    used = [reason for reason in used if reason]
    lines += table(
        ("number", "name", "meaning"),
        [
            (str(int(reason)), f"`{flow_pb2.DropReason.Name(reason)}`", meanings.get(f"DROP_{reason.name}", ""))
            for reason in used
        ],
    )
    rest = [f"`{flow_pb2.DropReason.Name(reason)}`" for reason in enums.DropReason if reason and reason not in used]
    lines += [f"Known by number, used by no program of this version: {', '.join(rest)}.", ""]
    for title, kind, meaning in (
        ("Event types", enums.EventType, "What a record tells; filter with `hubble observe --type`."),
        ("Verdicts", enums.FlowVerdict, "Filter with `hubble observe --verdict`; `AUDITED` is `AUDIT` there."),
        ("Observation points", enums.ObservationPoint, "Where a packet was seen: `hubble observe --type trace:POINT`."),
        ("Trace reasons", enums.TraceReason, "What the packet is to its connection."),
        ("Flags", enums.EventFlags, "What else a record knows."),
    ):
        lines += [f"## {title}", "", meaning, "", *enum_table(kind, events)]
    return "\n".join(lines).rstrip() + "\n"


def enum_table(kind: type[IntEnum | IntFlag], header: str) -> list[str]:
    """Members with the comments that stand beside them in the header."""
    prefix = {"TraceReason": "TRACE_", "FlowVerdict": "VERDICT_", "ObservationPoint": ""}.get(kind.__name__, "EVENT_")
    meanings = dict(MEMBER.findall(header))
    rows = [(str(int(member)), f"`{member.name}`", meanings.get(f"{prefix}{member.name}", "")) for member in kind]
    if any(row[2] for row in rows):
        return table(("number", "name", "meaning"), rows)
    return table(("number", "name"), [row[:2] for row in rows])


# -- metrics ----------------------------------------------------------------------------------------------------------


def metrics_page() -> str:
    from cilium.app.metric_families import FAST, families

    lines = ["# Metrics", "", NOTICE.format("`cilium.app.metric_families`"), ""]
    lines += [
        "With `prometheus.enabled: true` every agent serves them in Prometheus' text format under `/metrics` on",
        "`prometheus.port` (9962). Most are read when somebody asks; a scrape costs some milliseconds.",
        "",
        f"Buckets of histograms, in seconds: {', '.join(f'{bound:g}' for bound in FAST)}.",
        "",
    ]
    rows = [
        (f"`{f.exposed}`", f.kind, ", ".join(f"`{label}`" for label in f.labels) or "-", f.meaning) for f in families()
    ]
    return "\n".join([*lines, *table(("name", "type", "labels", "meaning"), rows)]).rstrip() + "\n"


# -- stand-ins --------------------------------------------------------------------------------------------------------


def images_page() -> str:
    from kubelab.images import registry

    lines = ["# Images", "", NOTICE.format("`kubelab/images/registry.yaml`"), ""]
    lines += [
        "What runs in a lab for which image, in the order in which entries are asked. How to add entries:",
        "[Choose what runs for an image](../tasks/images.md).",
        "",
    ]
    rows = [
        (
            ", ".join(f"`{pattern}`" for pattern in entry.images),
            entry.about,
            f"stand-in `{entry.standin}`" if entry.standin else f"`{(entry.entrypoint or entry.cmd)[0]}`",
            ", ".join(entry.ports) or "-",
            f"`{entry.needs.package}`" if entry.needs else "-",
        )
        for entry in registry.load().entries
    ]
    header = ("image", "what it is here", "program", "ports", "package")
    return "\n".join([*lines, *table(header, rows)]).rstrip() + "\n"


PAGES: tuple[tuple[str, Callable[[], str]], ...] = (
    ("settings.md", settings_page), ("crds.md", crds_page), ("cli.md", cli_page), ("events.md", events_page),
    ("metrics.md", metrics_page), ("images.md", images_page),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a page differs")
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES:
        path, text = TARGET / name, page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run `make reference`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
