"""A test directory on disk: manifests and expectations, in steps.

In: the directory and further manifests. Out: `Step`s. The directory itself is the first step, each of its
subdirectories, in the order of their names, is one more. WrongTestError names file and reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cilium.connectivity.policy_tests.errors import WrongTestError
from cilium.connectivity.policy_tests.expectations import Expectation, parse

EXPECTATIONS = ("expectations.yaml", "expectations.yml")
VALUES = "values.yaml"
SUFFIXES = (".yaml", ".yml", ".json")
_KUSTOMIZE = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_CHART = "Chart.yaml"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a file."""

    file: Path
    line: int
    content: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.content["kind"])

    @property
    def name(self) -> str:
        return str(self.content["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """As written; kubectl's default where nothing is."""
        return str(self.content["metadata"].get("namespace") or "default")

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.where}: {self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Step:
    """What is applied, and what is expected then."""

    name: str
    directory: Path
    manifests: tuple[Manifest, ...]
    expectations: tuple[Expectation, ...] = ()
    file: Path | None = None  # of the expectations

    @property
    def record(self) -> Path:
        """Where `--record` writes."""
        return self.directory / EXPECTATIONS[0]


@dataclass(frozen=True, slots=True)
class Test:
    """A whole directory."""

    __test__ = False  # for pytest: no test case

    directory: Path
    steps: tuple[Step, ...]
    values: Path | None = None
    left_out: list[Manifest] = field(default_factory=list)


def load(directory: Path, more: Iterable[Path] = ()) -> Test:
    """Raises WrongTestError with the problems of all files."""
    if not directory.is_dir():
        raise WrongTestError(f"{directory}: no such directory")
    problems: list[str] = []
    before = [manifest for path in more for manifest in _read_path(path, problems)]
    steps = []
    for place in [directory, *sorted(path for path in directory.iterdir() if path.is_dir())]:
        if place.name.startswith("."):
            continue
        manifests = [*before, *_read_path(place, problems)]
        before = []
        file = next((place / name for name in EXPECTATIONS if (place / name).exists()), None)
        expectations: tuple[Expectation, ...] = ()
        if file is not None:
            try:
                expectations = parse(file, file.read_text())
            except (WrongTestError, OSError, UnicodeDecodeError) as error:
                problems.append(str(error))
        if manifests or file is not None:
            name = directory.resolve().name if place == directory else place.name
            steps.append(Step(name, place, tuple(manifests), expectations, file))
    if problems:
        raise WrongTestError("\n".join(problems))
    values = directory / VALUES
    return Test(directory, tuple(steps), values if values.exists() else None)


def _read_path(path: Path, problems: list[str]) -> list[Manifest]:
    """All manifests of a file, or of the files of a directory, without those below it, in the order of their names."""
    if not path.exists():
        problems.append(f"{path}: no such file or directory")
        return []
    if path.is_file():
        return list(_read_file(path, problems))
    for name in (*_KUSTOMIZE, _CHART):
        if (path / name).exists():
            tool = "helm template" if name == _CHART else "kubectl kustomize"
            problems.append(f"{path / name}: is not evaluated: give the output of `{tool}`")
            return []
    files = sorted(entry for entry in path.iterdir() if entry.is_file() and entry.suffix in SUFFIXES)
    ours = (*EXPECTATIONS, VALUES)
    return [manifest for file in files if file.name not in ours for manifest in _read_file(file, problems)]


def _read_file(file: Path, problems: list[str]) -> Iterator[Manifest]:
    try:
        text = file.read_text()
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        documents = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problems.append(f"{file}: no YAML: {' '.join(str(error).split())}")
        return
    for node, document in zip(nodes, documents, strict=True):
        if document is None:
            continue
        line = node.start_mark.line + 1
        items = (
            document.get("items") if isinstance(document, dict) and str(document.get("kind")).endswith("List") else None
        )
        for item in items if isinstance(items, list) else [document]:
            reason = _unusable(item)
            if reason:
                problems.append(f"{file}:{line}: {reason}")
            else:
                yield Manifest(file, line, item)


def _items(document: Any) -> list[Any]:
    """The objects of a list, or the one object."""
    if isinstance(document, dict) and str(document.get("kind")).endswith("List"):
        items = document.get("items")
        return items if isinstance(items, list) else [document]
    return [document]


def _unusable(item: Any) -> str:
    if not isinstance(item, dict):
        return "no object of Kubernetes: apiVersion, kind and metadata are missing"
    for field_name in ("apiVersion", "kind"):
        if not isinstance(item.get(field_name), str):
            return f"{field_name} is missing"
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return f"{item['kind']}: metadata.name is missing"
    return ""
