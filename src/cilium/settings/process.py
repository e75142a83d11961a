"""What a process reads when it starts: flags, environment, the directory into which `cilium-config` is mounted, and
what CiliumNodeConfigs say of one node.

In: arguments, variables, files, overlays. Out: checked `Settings`. Precedence: flag > CILIUM_* variable > the last
overlay > the first > directory > default; error texts name the place that won. `to_config_map` writes what
`from_config_dir` reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cilium.settings import later
from cilium.settings.assemble import Given, assemble
from cilium.settings.errors import Problem, SettingsError, did_you_mean
from cilium.settings.model import Settings, by_key, schema
from cilium.settings.schema import Entry

CONFIG_DIR = "config-dir"
CONFIG_DIR_VARIABLE = "CILIUM_CONFIG_DIR"


@dataclass(frozen=True)
class Overlay:
    """Data of a CiliumNodeConfig, which one node has over those of `cilium-config`. `source` names it for people."""

    source: str
    data: Mapping[str, str]


def to_config_map(settings: Settings) -> dict[str, str]:
    """Data of the ConfigMap `cilium-config`: every setting that all nodes share, defaults too, so that a new
    version's defaults do not change a running cluster.
    """
    return {
        entry.setting.key: settings.text(entry)
        for entry in schema()
        if entry.setting.key and not entry.setting.per_process
    }


def from_config_map(data: Mapping[str, str], *, source: str = "cilium-config") -> Settings:
    """Settings of a ConfigMap's data. Raises SettingsError."""
    problems: list[Problem] = []
    given = _from_mapping(data, lambda key: f"{source}/{key}", problems)
    return assemble(source, given, lambda entry: f"{source}/{entry.flag}", problems)


def from_config_dir(path: Path | str) -> Settings:
    """Settings of a directory with one file per key. Raises SettingsError."""
    problems: list[Problem] = []
    given = _read_dir(Path(path), problems)
    return assemble(str(path), given, lambda entry: f"{path}/{entry.flag}", problems)


def from_flags(argv: Sequence[str], *, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings of a process: `--key=value`, `--key value` (a lone `--key` is true), variables, `--config-dir`.

    Raises SettingsError that lists every problem of every source.
    """
    shared, own, problems = _from_process(argv, os.environ if environ is None else environ)
    return _together(shared | own, problems)


def with_overlays(
    argv: Sequence[str], overlays: Sequence[Overlay], *, environ: Mapping[str, str] | None = None
) -> tuple[Settings, list[Problem]]:
    """Settings as `from_flags` gives them, with overlays; and what of these was not used.

    Of an overlay, a key that nobody knows and a value that cannot be read are left out. If what is left contradicts
    the rest, all of it is left out: half of it was nobody's wish. Raises SettingsError for what is no overlay's fault.
    """
    shared, own, problems = _from_process(argv, os.environ if environ is None else environ)
    settings = _together(shared | own, problems)
    refused: list[Problem] = []
    for overlay in overlays:
        usable = _usable(overlay, refused)
        try:
            settings = _together(shared | usable | own, [])
        except SettingsError as error:
            refused += [
                Problem(overlay.source, f"nothing of it is used: {problem.where}: {problem.message}", problem.remedy)
                for problem in error.problems
            ]
        else:
            shared |= usable
    return settings, refused


def _usable(overlay: Overlay, refused: list[Problem]) -> dict[Entry, Given]:
    given = _from_mapping(overlay.data, lambda key: f"{overlay.source}: {key}", refused)
    for entry, value in list(given.items()):
        if entry.setting.per_process:
            refused.append(Problem(value.where, "is no setting of cilium-config", "remove it"))
            del given[entry]
            continue
        try:
            assemble(overlay.source, {entry: value}, lambda entry: entry.flag, [], contradictions=False)
        except SettingsError as error:
            refused += error.problems
            del given[entry]
    return given


def _from_process(
    argv: Sequence[str], variables: Mapping[str, str]
) -> tuple[dict[Entry, Given], dict[Entry, Given], list[Problem]]:
    """What all nodes share, what this process alone was given, and what is wrong with either."""
    problems: list[Problem] = []
    flags = _parse_flags(argv, problems)
    directory = flags.pop(CONFIG_DIR, None) or variables.get(CONFIG_DIR_VARIABLE)
    shared = _read_dir(Path(directory), problems) if directory else {}
    own = {
        entry: Given(variables[variable], f"${variable}")
        for entry in schema()
        for variable in reversed(entry.variables)
        if variable in variables
    }
    own |= _from_mapping(flags, lambda key: f"--{key}", problems)
    return shared, own, problems


def _together(given: Mapping[Entry, Given], problems: list[Problem]) -> Settings:
    return assemble("command line", given, lambda entry: f"--{entry.flag}", problems)


def _from_mapping(data: Mapping[str, str], where: Callable[[str], str], problems: list[Problem]) -> dict[Entry, Given]:
    given: dict[Entry, Given] = {}
    for key, text in data.items():
        entry, feature = by_key().get(key), later.feature_of_key(key)
        if entry is not None:
            given[entry] = Given(text, where(key))
        elif feature is None:
            remedy = did_you_mean(key, by_key()) or "remove it; docs/reference/settings.md lists every setting"
            problems.append(Problem(where(key), "unknown setting", remedy))
        elif not later.is_off(text):
            message = f"{feature.feature} is not available in this version"
            problems.append(Problem(where(key), message, "set it to false or remove it"))
    return given


def _read_dir(path: Path, problems: list[Problem]) -> dict[Entry, Given]:
    """A mounted ConfigMap holds links into a hidden directory beside its keys; hidden names are no keys."""
    try:
        files = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
        data = {file.name: file.read_text(encoding="utf-8").removesuffix("\n") for file in files}
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "holds no text"
        remedy = f"mount cilium-config there or name another directory with --{CONFIG_DIR}"
        raise SettingsError(str(path), [Problem(f"--{CONFIG_DIR}={path}", reason, remedy)]) from error
    return _from_mapping(data, lambda key: str(path / key), problems)


def _parse_flags(argv: Sequence[str], problems: list[Problem]) -> dict[str, str]:
    flags: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            problems.append(Problem(word, "is no flag", "flags begin with --"))
            continue
        name, separator, text = word[2:].partition("=")
        if separator:
            flags[name] = text
        elif rest and not rest[0].startswith("--"):
            flags[name] = rest.pop(0)
        elif name in by_key() and by_key()[name].setting.kind.name == "bool":
            flags[name] = "true"
        else:
            remedy = f"write --{name}=VALUE" if name in by_key() else did_you_mean(name, by_key())
            problems.append(Problem(word, "has no value" if name in by_key() else "unknown setting", remedy))
    return flags
