"""Volumes of pods: names, kinds, and the files that they show, none of which lies outside.

Source: Kubernetes API reference, Volume.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies import names
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.strategies.common import duplicate, invalid_value, required

_WITH_ITEMS = ("configMap", "secret", "downwardAPI")


def volume_causes(volume: Object, path: str, known: set[str]) -> Iterator[Cause]:
    """`known`: names of volumes before this one; its own is added."""
    name = volume.get("name") or ""
    if name in known:
        yield duplicate(f"{path}.name", name)
    elif name:
        yield from (invalid_value(f"{path}.name", name, why) for why in names.label(name))
    known.add(name)
    kinds = [kind for kind in volume if kind != "name"]
    for kind in kinds[1:]:
        yield Cause(f"{path}.{kind}", "FieldValueForbidden", "Forbidden: may not specify more than 1 volume type")
    if isinstance(volume.get("hostPath"), dict) and ".." in str(volume["hostPath"].get("path", "")).split("/"):
        yield invalid_value(f"{path}.hostPath.path", volume["hostPath"]["path"], "must not contain '..'")
    for where, file in _files(volume, path):
        yield from _path_causes(file, where)


def _files(volume: Object, path: str) -> Iterator[tuple[str, str]]:
    """The paths of the files that it shows under names which somebody chose, each with its field."""
    sources = [(volume, path)]
    for index, source in enumerate(_dict(volume.get("projected")).get("sources") or ()):
        where = f"{path}.projected.sources[{index}]"
        sources.append((source, where))
        if token := _dict(source.get("serviceAccountToken")):
            yield f"{where}.serviceAccountToken.path", str(token.get("path") or "")
    for source, where in sources:
        for kind in _WITH_ITEMS:
            items: Iterable[Any] = _dict(source.get(kind)).get("items") or ()
            for index, item in enumerate(items):
                yield f"{where}.{kind}.items[{index}].path", str(item.get("path") or "")


def _path_causes(file: str, where: str) -> Iterator[Cause]:
    if not file:
        yield required(where)
    elif file.startswith("/"):
        yield invalid_value(where, file, "must be a relative path")
    elif ".." in file.split("/"):
        yield invalid_value(where, file, "must not contain '..'")
    elif file.startswith(".."):
        yield invalid_value(where, file, "must not start with '..'")


def _dict(value: Any) -> Object:
    return value if isinstance(value, dict) else {}
