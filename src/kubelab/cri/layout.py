"""Images made here: files in one layer, written as a tar of an OCI layout.

In: files, a command, a name. Out: a tar that container runtimes import; the same input gives the same bytes.
Source: OCI image specification 1.0, image-layout, manifest and config.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NAME_ANNOTATION = "io.containerd.image.name"
REF_ANNOTATION = "org.opencontainers.image.ref.name"
_TYPE = "application/vnd.oci.image"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an image consists of; a path without leading slash -> its bytes, or what a link points at."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Sequence[str] = ()  # NAME=VALUE
    working_directory: str = ""
    user: str = ""
    stop_signal: str = ""


def architecture() -> str:
    """This machine's, as images name it."""
    return _MACHINES.get(platform.machine(), platform.machine())


def write(contents: Contents, name: str, archive: Path) -> None:
    """Writes the image `name` to `archive`."""
    layer = _tar(contents.files, contents.links)
    blobs: dict[str, bytes] = {}

    def add(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"{_TYPE}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    config = {
        "architecture": architecture(),
        "os": "linux",
        "config": _settings(contents),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}.manifest.v1+json",
        "config": add(json.dumps(config).encode(), "config.v1+json"),
        "layers": [add(gzip.compress(layer, mtime=0), "layer.v1.tar+gzip")],
    }
    named = add(json.dumps(manifest).encode(), "manifest.v1+json") | {"annotations": {NAME_ANNOTATION: name}}
    index = {"schemaVersion": 2, "manifests": [named]}
    head = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode()}
    archive.write_bytes(_tar({**head, **blobs}, {}))


def _settings(contents: Contents) -> dict[str, object]:
    settings = {
        "Entrypoint": list(contents.entrypoint),
        "Cmd": list(contents.command),
        "Env": list(contents.environment),
        "WorkingDir": contents.working_directory,
        "User": contents.user,
        "StopSignal": contents.stop_signal,
    }
    return {key: value for key, value in settings.items() if value}


def _tar(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        made: set[str] = set()
        for name in (*files, *links):
            for directory in reversed(Path(name).parents[:-1]):
                if str(directory) not in made:
                    made.add(str(directory))
                    entry = tarfile.TarInfo(str(directory))
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if name in links:
                entry.type, entry.linkname = tarfile.SYMTYPE, links[name]
                tar.addfile(entry)
            else:
                entry.size = len(files[name])
                tar.addfile(entry, io.BytesIO(files[name]))
    return stream.getvalue()
