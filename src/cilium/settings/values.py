"""Values files: what users write for the chart, as YAML.

In: a file, or its content as a mapping. Out: checked `Settings`. Unknown keys, features of later versions and
contradictions are errors with their path and a way out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cilium.settings import later
from cilium.settings.assemble import Given, assemble
from cilium.settings.errors import Problem, SettingsError, did_you_mean
from cilium.settings.model import Settings, by_key, schema
from cilium.settings.schema import Entry


@dataclass(frozen=True)
class Shorthand:
    """Several values of a chart that make one setting. `combine` gets them in order, None where absent."""

    key: str
    paths: tuple[str, ...]
    combine: Callable[..., object]


def _server(host: object, port: object) -> object:
    if host is None:
        return None
    bracketed = f"[{host}]" if ":" in str(host) else host
    return f"https://{bracketed}:{port or 6443}"


def _metrics(default_port: int) -> Callable[[object, object], object]:
    return lambda enabled, port: f":{port or default_port}" if enabled in (True, "true") else None


SHORTHANDS = (
    Shorthand("k8s-api-server", ("k8sServiceHost", "k8sServicePort"), _server),
    Shorthand("prometheus-serve-addr", ("prometheus.enabled", "prometheus.port"), _metrics(9962)),
    Shorthand(
        "operator-prometheus-serve-addr",
        ("operator.prometheus.enabled", "operator.prometheus.port"),
        _metrics(9963),
    ),
)


def load_values(path: Path | str) -> Settings:
    """Settings of a values file. Raises SettingsError, also for a file that cannot be read or is no YAML
    mapping.
    """
    return from_values(read_values(path), source=str(path))


def read_values(path: Path | str) -> dict[str, object]:
    """The mapping that a values file holds, not yet looked into. Raises SettingsError."""
    import yaml  # here, because agents never read YAML

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            str(path), [Problem(str(path), error.strerror or "cannot be read", "check path and rights")]
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise SettingsError(str(path), [Problem(str(path), f"no valid YAML{line}", "correct the syntax")]) from error
    if not isinstance(content, dict | None):
        raise SettingsError(str(path), [Problem(str(path), "holds no mapping", "write `key: value` lines")])
    return content or {}


def from_values(values: Mapping[str, object], *, source: str = "values") -> Settings:
    """Settings of a values file's content. Raises SettingsError."""
    aliases = {path: entry for entry in schema() for path in entry.setting.helm}
    short_paths = {path for shorthand in SHORTHANDS for path in shorthand.paths}
    stops = {*aliases, *short_paths, *(switch for feature in later.LATER for switch in feature.switches)}
    problems: list[Problem] = []
    leaves = dict(_leaves(values, "", stops))
    given: dict[Entry, Given] = {}
    for path, value in leaves.items():
        if path in aliases:
            _give(given, aliases[path], Given(value, path), problems)
        elif path not in short_paths and later.feature_of(path) is None:
            problems.append(Problem(path, "unknown setting", _nearest(path, stops)))
    for path, feature in later.enabled(leaves):
        problems.append(
            Problem(path, f"{feature.feature} is not available in this version", "set it to false or remove it")
        )
    for shorthand in SHORTHANDS:
        present = [path for path in shorthand.paths if path in leaves]
        combined = shorthand.combine(*(leaves.get(path) for path in shorthand.paths)) if present else None
        if combined is not None:
            _give(given, by_key()[shorthand.key], Given(combined, present[0]), problems)
    return assemble(source, given, lambda entry: entry.name, problems)


def _leaves(node: Mapping[str, object], prefix: str, stops: set[str]) -> Iterator[tuple[str, object]]:
    """Every value with its dotted path. A mapping at the path of a setting is a value, too: its kind refuses
    it.
    """
    for key, value in node.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value and path not in stops:
            yield from _leaves(value, f"{path}.", stops)
        elif isinstance(value, dict) and path not in stops:
            continue  # an empty section says nothing
        elif value is None and any(stop.startswith(f"{path}.") for stop in stops):
            continue  # a section whose lines are all commented out
        else:
            yield path, value


def _give(given: dict[Entry, Given], entry: Entry, value: Given, problems: list[Problem]) -> None:
    earlier = given.setdefault(entry, value)
    if earlier is not value and earlier.raw != value.raw:
        problems.append(
            Problem(
                value.where,
                f"contradicts {earlier.where}, another name of the same setting",
                "keep one of the two",
            )
        )


def _nearest(path: str, known: set[str]) -> str:
    """Compares whole paths first, then last words: people forget the section more often than the name."""
    whole = did_you_mean(path, known)
    if whole:
        return whole
    word = path.rpartition(".")[2].lower()
    same = sorted(candidate for candidate in known if candidate.rpartition(".")[2].lower() == word)
    if same and word != "enabled":
        return "did you mean " + " or ".join(f"'{candidate}'" for candidate in same[:2]) + "?"
    return "remove it; docs/reference/settings.md lists every setting"
