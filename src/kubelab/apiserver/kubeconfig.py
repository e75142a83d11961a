"""Kubeconfig files.

Owns: their making. Comes in: the server's URL, the CA, a client certificate. Goes out: a file of mode 0600.
"""

import base64
import os
from pathlib import Path
from typing import Any

import yaml

from kubelab.apiserver.tls import KeyPair


def kubeconfig(*, server: str, authority: bytes, client: KeyPair, cluster: str, user: str) -> dict[str, Any]:
    """The content, self-contained: certificates are embedded."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": cluster,
        "clusters": [
            {"name": cluster, "cluster": {"server": server, "certificate-authority-data": _base64(authority)}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(client.certificate),
                    "client-key-data": _base64(client.key),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
    }


def write_kubeconfig(path: Path, content: dict[str, Any]) -> None:
    """Replace `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(content, file, sort_keys=False)
    temporary.replace(path)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
