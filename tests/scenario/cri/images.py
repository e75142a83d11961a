"""Images for tests, made of this machine's programs: no registry, no docker.

In: programs, a command. Out: tars as people have them, an OCI layout or what `docker save` writes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubelab.cri import layout

APPLETS = ["sh", "cat", "echo", "env", "httpd", "id", "kill", "ls", "nc", "sleep", "stty", "tar", "tee", "true"]


def machine_files(*programs: str) -> dict[str, bytes]:
    """Programs with the libraries that they load, each where it lies on this machine."""
    files = {}
    for program in programs:
        path = shutil.which(program)
        assert path is not None, f"{program} is not on this machine: make setup"
        files[path] = Path(path).read_bytes()
        linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        files |= {library: Path(library).read_bytes() for library in re.findall(r"(/\S+) \(0x", linked)}
    return {path.lstrip("/"): content for path, content in files.items()}


def shell(archive: Path, name: str, command: Sequence[str], *, files: dict[str, bytes] | None = None,
          programs: Sequence[str] = (), **more: Any) -> None:  # fmt: skip
    """An image with a shell, an HTTP server and these programs; `more`: what else `layout.Contents` takes."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox is not on this machine: make setup"
    accounts = {"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n",
                "etc/group": b"root:x:0:\nweb:x:1000:\n"}  # fmt: skip
    contents = layout.Contents(
        files={**machine_files("busybox", *programs), **accounts, **(files or {})},
        links={f"applets/{applet}": busybox for applet in APPLETS},
        command=command,
        **{**more, "environment": ["PATH=/applets:/usr/bin:/bin", *more.get("environment", ())]},
    )
    layout.write(contents, name, archive)


def as_docker_save(source: Path, archive: Path, name: str) -> None:
    """The image of an OCI layout, written the way `docker save` wrote images for years."""
    with tarfile.open(source) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]  # regular files have content
    manifest = json.loads(content[_blob(json.loads(content["index.json"])["manifests"][0])])
    config, layers = content[_blob(manifest["config"])], [content[_blob(layer)] for layer in manifest["layers"]]
    files = {f"{hashlib.sha256(config).hexdigest()}.json": config}
    files |= {f"{number}/layer.tar": layer for number, layer in enumerate(layers)}
    entry = {"Config": next(iter(files)), "RepoTags": [name], "Layers": list(files)[1:]}
    files["manifest.json"] = json.dumps([entry]).encode()
    with tarfile.open(archive, "w:gz") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def as_index(source: Path, archive: Path, name: str) -> None:
    """The image as one of several platforms, of which the others are not in the tar, as buildx and skopeo write it."""
    with tarfile.open(source) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]  # regular files have content
    ours = json.loads(content["index.json"])["manifests"][0]
    entries = [
        {"mediaType": ours["mediaType"], "digest": f"sha256:{'1' * 64}", "size": 500,
         "platform": {"os": "linux", "architecture": "s390x"}},
        {key: ours[key] for key in ("mediaType", "digest", "size")}
        | {"platform": {"os": "linux", "architecture": layout.architecture()}},
        {"mediaType": ours["mediaType"], "digest": f"sha256:{'2' * 64}", "size": 500,
         "platform": {"os": "unknown", "architecture": "unknown"}},
    ]  # fmt: skip
    kind = "application/vnd.oci.image.index.v1+json"
    inner = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    digest = hashlib.sha256(inner).hexdigest()
    outer = {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(inner),
             "annotations": {layout.REF_ANNOTATION: name}}  # fmt: skip
    content |= {f"blobs/sha256/{digest}": inner,
                "index.json": json.dumps({"schemaVersion": 2, "manifests": [outer]}).encode()}  # fmt: skip
    with tarfile.open(archive, "w") as tar:
        for path, data in content.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _blob(entry: dict[str, str]) -> str:
    return "blobs/" + entry["digest"].replace(":", "/")
