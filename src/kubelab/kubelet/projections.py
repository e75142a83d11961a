"""Files that volumes show of the API's objects: which, with which mode, written so that readers see old or new.

In: data of ConfigMaps and Secrets, items. Out: files in a directory that holds nothing else.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from kubelab.kubelet.config import Object
from kubelab.kubelet.environment import MissingReferenceError

DATA = "..data"


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
    """Makes the directory show these files and no others; ``group`` may read them.

    All change in one step, as programs expect that watch such volumes: the files lie in a directory to which the link
    ``..data`` points, and are links through that one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / DATA
    if group is not None:
        os.chown(directory, -1, group)
        files = {name: replace(file, mode=file.mode | 0o040) for name, file in files.items()}
    if _shown(data) == files:
        return
    fresh = directory / f"..{datetime.now(UTC):%Y_%m_%d_%H_%M_%S}.{random.randrange(10**9):09}"
    for name, file in files.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
        if group is not None:
            os.chown(path, -1, group)
    fresh.mkdir(exist_ok=True)
    _link(data, fresh.name)
    names = {Path(name).parts[0] for name in files}
    for name in names:
        if not (directory / name).is_symlink():
            _link(directory / name, f"{DATA}/{name}")
    for path in list(directory.iterdir()):
        if path.is_symlink() and path.name not in {DATA, *names}:
            path.unlink()
        elif path.name.startswith("..") and path.name not in (DATA, fresh.name):
            shutil.rmtree(path)


def shows(directory: Path) -> bool:
    """Whether it was written."""
    return (directory / DATA).exists()


def _shown(data: Path) -> dict[str, File] | None:
    """What the directory shows now; None before it shows anything."""
    if not data.exists():
        return None
    paths = [path for path in data.resolve().rglob("*") if path.is_file()]
    return {
        str(path.relative_to(data.resolve())): File(path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in paths
    }


def _link(path: Path, target: str) -> None:
    fresh = path.with_name("..link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(path)
