"""Certificates of a lab's clients, issued by the CA that its API server uses.

In: the control plane's data directory. Out: files for kubelets and the administrator, and the kubeconfig.
"""

from __future__ import annotations

import os
from pathlib import Path

from kubelab.apiserver.kubeconfig import kubeconfig, write_kubeconfig
from kubelab.apiserver.tls import Authority, KeyPair


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

    def _write(self, directory: Path, name: str, client: KeyPair) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "ca.crt").write_bytes(self._authority.certificate)
        (directory / f"{name}.crt").write_bytes(client.certificate)
        fd = os.open(directory / f"{name}.key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(client.key)
