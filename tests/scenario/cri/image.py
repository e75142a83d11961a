"""The sandbox's image, built here: a static program alone in an OCI layout.

In: C source, a name. Out: a tar that `ctr images import` takes. Source: OCI image specification 1.0, layout and config.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

ENTRYPOINT = "sandbox"
_TYPE = "application/vnd.oci.image"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def build(source: Path, name: str, archive: Path) -> None:
    """Compiles `source` and writes the image `name` to `archive`. Raises CalledProcessError."""
    program = archive.with_suffix(".bin")
    subprocess.run(["clang-19", "-static", "-O1", "-Wall", "-Werror", "-o", program, source], check=True)
    layer = _tar({ENTRYPOINT: program.read_bytes()})
    blobs: dict[str, bytes] = {}

    def add(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"{_TYPE}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    config = {
        "architecture": _MACHINES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": [f"/{ENTRYPOINT}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}.manifest.v1+json",
        "config": add(json.dumps(config).encode(), "config.v1+json"),
        "layers": [add(gzip.compress(layer, mtime=0), "layer.v1.tar+gzip")],
    }
    named = add(json.dumps(manifest).encode(), "manifest.v1+json") | {"annotations": {"io.containerd.image.name": name}}
    index = {"schemaVersion": 2, "manifests": [named]}
    archive.write_bytes(
        _tar({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode(), **blobs})
    )


def _tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
