"""What a kubelet is told at its start; read from the file that the lab writes before it starts the process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as it comes off the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletConfig:
    """Settings of one kubelet; all paths but ``socket_outside`` are seen from inside the node."""

    node: str
    addresses: tuple[str, ...]  # of the node, the primary family first
    server: str  # https://ADDRESS:PORT, with an address and not a name: no resolver threads
    ca: str
    certificate: str
    key: str
    socket: str
    socket_outside: str  # the same socket as the API server sees it
    directory: str = "/var/lib/kubelet"
    cni_config: str = "/etc/cni/net.d"
    cni_bin: str = "/opt/cni/bin"
    cluster_dns: tuple[str, ...] = ()  # cluster IPs of the cluster's name servers; none: pods ask the node's
    cluster_ips: bool = False  # somebody serves them: pods find the API server by that of its Service
    images: str = ""  # a file that extends the registry of stand-ins
    runtime: str = "process"  # or "containerd"
    runtime_socket: str = "/run/containerd/containerd.sock"
    labels: dict[str, str] = field(default_factory=dict)  # of the Node, beside those that every node has
    heartbeat: float = 30.0  # seconds between lease renewals

    @classmethod
    def read(cls, path: Path) -> KubeletConfig:
        """Raises OSError, ValueError with the offending key."""
        raw = json.loads(path.read_text())
        try:
            lists = {name: tuple(raw.get(name, ())) for name in ("addresses", "cluster_dns")}
            return cls(**{**raw, **lists})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2))

    @property
    def api_host(self) -> str:
        return self.server.removeprefix("https://").rpartition(":")[0].strip("[]")

    @property
    def api_port(self) -> str:
        return self.server.rpartition(":")[2]
