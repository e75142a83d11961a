"""Tars of images as people have them: of `docker save`, or of an OCI layout, compressed or not.

In: a file. Out: a plain tar that containerd imports under full names; ArchiveError naming the file, what is wrong with
it, and the way out. Sources: OCI image specification 1.0 (image-layout); Docker image specification 1.2.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kubelab.cri.layout import NAME_ANNOTATION, REF_ANNOTATION, architecture

INDEX, MANIFEST, LAYOUT = "index.json", "manifest.json", "oci-layout"
_LIMIT = 8 << 20
"""Bytes of JSON that are read into memory."""

_NAME = re.compile(r"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?[a-z0-9._/-]+(?::[\w.-]{1,128})?(?:@sha256:[0-9a-f]{64})?")
_SAVE = "write it with docker save NAME, or as an OCI layout (docker buildx build -o type=oci, skopeo, buildah)"


class ArchiveError(Exception):
    """The file is no image that a node could run; the text names it and the way out."""


def normalize(source: Path, target: Path, tag: str | None = None) -> list[str]:
    """Copies the tar with full names in it; the names. `tag`: the name of an image that has none, or another one."""
    try:
        with tarfile.open(source) as tar:
            members = {_clean(member.name): member for member in tar.getmembers()}
            if INDEX in members and LAYOUT in members:
                names = _copy(tar, members, target, *_oci(tar, members, source, tag))
            elif MANIFEST in members:
                names = _copy(tar, members, target, *_docker(tar, members, source, tag))
            else:
                raise ArchiveError(f"{source}: neither {INDEX} nor {MANIFEST} in it, so it is no image: {_SAVE}")
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"{source}: not a tar, or a damaged one: {_SAVE}") from error
    except OSError as error:
        raise ArchiveError(f"{source}: {error.strerror or error}") from error
    return names


def digest(names: Iterable[str]) -> str:
    """A file name for images of these names."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:32]


def full_name(name: str) -> str:
    """As container runtimes complete what people shorten: registry, `library/`, tag. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an image, like registry.example/shop:1")
    head, slash, _ = name.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost"):
        name = f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def repository_of(name: str) -> str:
    """A full name without tag and digest."""
    head, slash, last = name.partition("@")[0].rpartition("/")
    return head + slash + last.partition(":")[0]


def drop(archive: Path, name: str) -> bool:
    """Takes a name out of a tar that `normalize` wrote, and with its last name the tar away; whether it was there."""
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar.getmembers()}
        file = INDEX if INDEX in members else MANIFEST
        content = _json(tar, members, file, archive)
        kept, left = _without(content, name)
        if kept == content:
            return False
        fresh = archive.with_suffix(".part")
        if left:
            _copy(tar, members, fresh, file, kept, [])
    if not left:
        archive.unlink()
        return True
    moment = archive.stat().st_mtime_ns
    fresh.rename(archive)
    os.utime(archive, ns=(moment, moment))  # archives are imported in the order of their times
    return True


def _without(content: Any, name: str) -> tuple[Any, bool]:
    """An index, or a manifest of `docker save`, without one name; whether an image is left in it that has one."""
    if isinstance(content, list):
        kept = [{**entry, "RepoTags": [tag for tag in entry["RepoTags"] if tag != name]} for entry in content]
        kept = [entry for entry in kept if entry["RepoTags"]]
        return kept, bool(kept)
    entries = [entry for entry in content["manifests"] if entry["annotations"][NAME_ANNOTATION] != name]
    tagged = {entry["digest"] for entry in entries if "@" not in entry["annotations"][NAME_ANNOTATION]}
    return {**content, "manifests": [entry for entry in entries if entry["digest"] in tagged]}, bool(tagged)


def _clean(name: str) -> str:
    return name.removeprefix("./").rstrip("/")


def _json(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, source: Path) -> Any:
    if name not in members:
        raise ArchiveError(f"{source}: {name} is missing in it: the file is cut off or was put together wrongly")
    stream = tar.extractfile(members[name])
    if stream is None or members[name].size > _LIMIT:
        raise ArchiveError(f"{source}: {name}: not a file of JSON")
    try:
        return json.loads(stream.read())
    except ValueError as error:
        raise ArchiveError(f"{source}: {name}: not JSON ({error})") from error


def _oci(
    tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], source: Path, tag: str | None
) -> tuple[str, Any, list[str]]:
    """The index with full names, which containerd reads from an annotation of its own."""
    index = _json(tar, members, INDEX, source)
    entries = index.get("manifests") or []
    names = []
    for entry in entries:
        notes = entry.setdefault("annotations", {})
        given = notes.get(NAME_ANNOTATION) or notes.get(REF_ANNOTATION) or ""
        if tag is not None and len(entries) == 1:
            given = tag
        elif "/" not in given and ":" not in given:  # a tag alone, as some tools write it
            raise ArchiveError(
                f"{source}: {INDEX}: the image has no name{f' but a tag, {given}' if given else ''}: "
                "name it with --tag, like cilium lab image load FILE --tag shop:1"
            )
        notes[NAME_ANNOTATION] = _full(given, source)
        notes.pop(REF_ANNOTATION, None)
        names.append(notes[NAME_ANNOTATION])
        _check_manifest(tar, members, source, entry)
    if not names:
        raise ArchiveError(f"{source}: {INDEX}: no image in it: {_SAVE}")
    index["manifests"] = [*entries, *_by_digest(entries)]
    return INDEX, index, names


def _by_digest(entries: list[Any]) -> list[Any]:
    """The same images under the names by which manifests ask for exactly these: registry.test/shop@sha256:…"""
    found = {}
    for entry in entries:
        repository = repository_of(entry["annotations"][NAME_ANNOTATION])
        name = f"{repository}@{entry['digest']}"
        found[name] = {**entry, "annotations": {**entry["annotations"], NAME_ANNOTATION: name}}
    for entry in entries:
        found.pop(entry["annotations"][NAME_ANNOTATION], None)
    return list(found.values())


def _check_manifest(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], source: Path, entry: Any) -> None:
    """Every blob must be there, and one manifest must be for this machine."""
    manifest = _json(tar, members, _blob(entry), source)
    if "manifests" in manifest:
        kinds = [child.get("platform") or {} for child in manifest["manifests"]]
        fit = [
            child
            for child, kind in zip(manifest["manifests"], kinds, strict=True)
            if kind.get("architecture") == architecture() and _blob(child) in members
        ]
        if not fit:
            found = ", ".join(sorted({str(kind.get("architecture")) for kind in kinds})) or "nothing"
            raise ArchiveError(f"{source}: for {found}; this machine needs linux/{architecture()}: build it for that")
        manifest = _json(tar, members, _blob(fit[0]), source)
    for part in [manifest.get("config") or {}, *(manifest.get("layers") or [])]:
        if _blob(part) not in members:
            raise ArchiveError(f"{source}: {_blob(part)} is missing in it: the file is cut off")
    _check_platform(_json(tar, members, _blob(manifest["config"]), source), source)


def _check_platform(config: Any, source: Path) -> None:
    kind = f"{config.get('os', 'linux')}/{config.get('architecture', architecture())}"
    if kind != f"linux/{architecture()}":
        raise ArchiveError(f"{source}: for {kind}; this machine needs linux/{architecture()}: build it for that")


def _blob(entry: Any) -> str:
    return "blobs/" + str(entry.get("digest", "")).replace(":", "/", 1)


def _docker(
    tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], source: Path, tag: str | None
) -> tuple[str, Any, list[str]]:
    entries = _json(tar, members, MANIFEST, source)
    names = []
    for entry in entries:
        if tag is not None and len(entries) == 1:
            entry["RepoTags"] = [tag]
        if not entry.get("RepoTags"):
            raise ArchiveError(
                f"{source}: {MANIFEST}: the image has no name: name it with --tag, or save it by its name"
            )
        entry["RepoTags"] = [_full(name, source) for name in entry["RepoTags"]]
        names += entry["RepoTags"]
        for part in [entry["Config"], *entry["Layers"]]:
            if part not in members:
                raise ArchiveError(f"{source}: {part} is missing in it: the file is cut off")
        _check_platform(_json(tar, members, entry["Config"], source), source)
    return MANIFEST, entries, names


def _full(name: str, source: Path) -> str:
    try:
        return full_name(name)
    except ValueError as error:
        raise ArchiveError(f"{source}: {error}") from error


def _copy(
    tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], target: Path, name: str, content: Any, names: list[str]
) -> list[str]:
    """All members, with `content` in the place of the one called `name`."""
    with tarfile.open(target, "w") as copy:
        for clean, member in members.items():
            member.name = clean
            if clean == name:
                raw = json.dumps(content).encode()
                member.size = len(raw)
                copy.addfile(member, io.BytesIO(raw))
            elif clean:
                copy.addfile(member, tar.extractfile(member) if member.isreg() else None)
    return names
