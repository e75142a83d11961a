"""Certificates of a lab's clients and of its world's web servers, issued by the CA that its API server uses.

In: the control plane's data directory. Out: files for kubelets, the administrator and the world, and the kubeconfig.
"""

from __future__ import annotations

import os
from pathlib import Path

from kubelab.apiserver.kubeconfig import kubeconfig, write_kubeconfig
from kubelab.apiserver.tls import Authority, KeyPair
from kubelab.external.names import certified


class Credentials:
    """Issues client certificates; makes the CA when there is none."""

    def __init__(self, data_directory: Path) -> None:
        self._directory = data_directory
        self._authority = Authority(data_directory / "pki")

    def write_admin(self, path: Path, server: str, *, cluster: str) -> None:
        """The administrator's kubeconfig, and the same certificate as files below ``admin/``."""
        user = "kubernetes-admin"
        client = self._authority.client(user, groups=["system:masters"])
        authority = self._authority.certificate
        write_kubeconfig(
            path, kubeconfig(server=server, authority=authority, client=client, cluster=cluster, user=user)
        )
        self._write(self._directory / "admin", "admin", client)

    def write_kubelet(self, directory: Path, node: str) -> None:
        client = self._authority.client(f"system:node:{node}", groups=["system:nodes"])
        self._write(directory, "kubelet", client)

    def write_world(self, path: Path) -> None:
        """Certificate and key of the web servers outside, in one file."""
        server = self._authority.server(certified())
        _write_secret(path, server.certificate + server.key)

    def _write(self, directory: Path, name: str, client: KeyPair) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "ca.crt").write_bytes(self._authority.certificate)
        (directory / f"{name}.crt").write_bytes(client.certificate)
        _write_secret(directory / f"{name}.key", client.key)


def _write_secret(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
