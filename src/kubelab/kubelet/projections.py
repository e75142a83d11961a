"""Files that volumes show of the API's objects: which, with which mode, written so that readers see old or new.

In: data of ConfigMaps and Secrets, items. Out: files in a directory that holds nothing else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kubelab.kubelet.config import Object
from kubelab.kubelet.environment import MissingReferenceError


@dataclass(frozen=True, slots=True)
class File:
    """What a file holds and who may read it."""

    content: bytes
    mode: int


def select(kind: str, reference: Object, data: dict[str, bytes] | None, mode: int) -> dict[str, File]:
    """All keys, or the items. Raises MissingReferenceError for an object or a key that is not optional."""
    name = reference["name"]
    if data is None:
        if reference.get("optional"):
            return {}
        raise MissingReferenceError(f'{kind[:-1]} "{name}" not found')
    if not reference.get("items"):
        return {key: File(value, mode) for key, value in data.items()}
    missing = [item["key"] for item in reference["items"] if item["key"] not in data]
    if missing and not reference.get("optional"):
        raise MissingReferenceError(f"references non-existent {kind[:-1]} key: {missing[0]}")
    return {
        item["path"]: File(data[item["key"]], int(item.get("mode") or mode))
        for item in reference["items"]
        if item["key"] in data
    }


def write(directory: Path, files: dict[str, File], group: int | None) -> None:
    """Makes the directory hold these files and no others; ``group`` may read them."""
    directory.mkdir(parents=True, exist_ok=True)
    if group is not None:
        os.chown(directory, -1, group)
    for name, file in files.items():
        _write(directory / name, file, group)
    wanted = {directory / name for name in files}
    for path in directory.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink(missing_ok=True)


def _write(path: Path, file: File, group: int | None) -> None:
    # Replaced by rename, so that a reader sees the old or the new content; the directory is what is mounted.
    mode = file.mode if group is None else file.mode | 0o040
    if path.exists() and path.read_bytes() == file.content and path.stat().st_mode & 0o7777 == mode:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(file.content)
    fresh.chmod(mode)
    if group is not None:
        os.chown(fresh, -1, group)
    fresh.rename(path)
