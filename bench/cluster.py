"""A lab of its own for benchmarks: agents run as on any cluster, but no kubelet, so that the benchmark is the runtime.

In: number of nodes. Out: pods attached by the real plugin without a process inside, the API, the agents' processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench.runtime import Attached, Runtime
from kubelab.lab.api import LabApi
from kubelab.lab.lab import Lab
from kubelab.lab.state import LabPaths
from kubelab.underlay import cgroups

BIN = Path(sys.executable).parent
NAMESPACE = "default"
LABELS = {"bench": "pod"}


class Cluster:
    """A running lab."""

    def __init__(self, name: str, nodes: int) -> None:
        self.name, self.nodes = name, nodes
        self.lab = Lab(name)
        self.api: LabApi = self.lab.api()
        self._runtimes: dict[str, Runtime] = {}
        self._agents: list[subprocess.Popen[bytes]] = []

    def runtime(self, node: str) -> Runtime:
        if node not in self._runtimes:
            self._runtimes[node] = Runtime(self.lab.node_argv(node, []))
        return self._runtimes[node]

    def close(self) -> None:
        for runtime in self._runtimes.values():
            runtime.close()
        for agent in self._agents:
            agent.kill()
            agent.wait()
        self.api.close()

    # -- objects ----------------------------------------------------------------------------------------------------

    def create_pods(self, node: str, names: Sequence[str], **labels: str) -> list[dict[str, Any]]:
        """Pod objects bound to a node."""
        container = {"name": "main", "image": "example/bench:1"}
        return [
            self.api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {**LABELS, **labels}},
                "spec": {"nodeName": node, "containers": [container]},
            })
            for name in names
        ]  # fmt: skip

    def attach(self, node: str, names: Sequence[str], **labels: str) -> list[Attached]:
        """Pods with their network."""
        return self.runtime(node).add(self.create_pods(node, names, **labels), at_once=True)[0]

    def apply_policy(self, name: str, spec: Mapping[str, Any]) -> None:
        metadata = {"name": name, "namespace": NAMESPACE}
        self.api.apply([{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata,
                         "spec": dict(spec)}])  # fmt: skip

    def replace_policy(self, name: str, spec: Mapping[str, Any]) -> None:
        """One request."""
        path = f"/apis/cilium.io/v2/namespaces/{NAMESPACE}/ciliumnetworkpolicies/{name}"
        self.api.request("PATCH", path, {"spec": dict(spec)}, "application/merge-patch+json")

    # -- agents -----------------------------------------------------------------------------------------------------

    def agent_pid(self, node: str) -> int:
        """The agent's process. Raises LookupError."""
        for path in cgroups.node_path(self.name, node).rglob("cgroup.procs"):
            for pid in path.read_text().split():
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if any(word.endswith(b"/cilium-agent") for word in command[:2]):
                    return int(pid)
        raise LookupError(f"no agent runs on {node}")

    def kill_agent(self, node: str) -> None:
        """SIGKILL, and gone."""
        pid = self.agent_pid(node)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not _runs(pid), "the end of the agent", 5)

    def start_agent(self, node: str) -> None:
        """An agent by hand, with the settings of the cluster; it ends with the lab or by `kill_agent`."""
        kubelet = LabPaths(self.name).space(node).kubelet
        config = next(kubelet.glob("pods/*/volumes/cilium-config")).relative_to(kubelet)
        (kubelet / "bench-kubeconfig").write_bytes(LabPaths(self.name).kubeconfig.read_bytes())
        command = ["env", f"K8S_NODE_NAME={node}", str(BIN / "cilium-agent"), f"--config-dir=/var/lib/kubelet/{config}",
                   "--k8s-kubeconfig-path=/var/lib/kubelet/bench-kubeconfig"]  # fmt: skip
        log = LabPaths(self.name).logs / f"agent-{node}.log"
        with log.open("ab") as out:
            self._agents.append(subprocess.Popen(self.lab.node_argv(node, command), stdout=out, stderr=out))

    def ask_agent(self, node: str, resource: str) -> Any:
        """GET on the agent's API. Raises OSError while it does not answer."""
        path = f"/proc/{self.runtime(node).pid}/root/run/cilium/cilium.sock"
        connection = HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        try:
            connection.sock.connect(path)
            connection.request("GET", resource)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def cluster(nodes: int, values: Mapping[str, Any] | None = None, name: str = "") -> Iterator[Cluster]:
    """Up with ready agents, kubelets stopped; taken down whatever happens."""
    name = f"bench-{os.getpid()}{name and '-' + name}"
    made: Cluster | None = None
    try:
        argv = [
            str(BIN / "cilium"),
            "lab",
            "up",
            "--name",
            name,
            "--nodes",
            str(nodes),
            "--node-monitor-grace-period",
            "3600",
        ]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(json.dumps(values or {}))  # JSON is YAML
            file.flush()
            subprocess.run([*argv, "--values", file.name], check=True, stdout=subprocess.DEVNULL)
        made = Cluster(name, nodes)
        for number in range(1, nodes + 1):
            made.lab.stop(f"kubelet-node{number}")
        yield made
    finally:
        if made is not None:
            made.close()
        Lab(name).down()


def until(condition: Callable[[], Any], what: str, seconds: float, *, interval: float = 0.005) -> Any:
    """The first truthy value. Raises TimeoutError naming `what`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(interval)
    return value


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
