"""One node of a lab from below the API: its agent's processes, its datapath rows, its kubelet.

For what must be seen or done while a component is away: nothing here goes through the API server or the kubelet.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scenario.cluster import BIN, Cluster

from kubelab.lab import Lab, state
from kubelab.underlay import cgroups

AGENT, OPERATOR = "cilium-agent", "cilium-operator"


class LabNode:
    """A node by name."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.lab = Lab(cluster.name)
        self.cgroup = cgroups.node_path(cluster.name, name)
        self._space = state.paths(cluster.name).space(name)

    # -- views ----------------------------------------------------------------------------------------------------

    def dbg(self, *words: object, **options: Any) -> str:
        return self.cluster.node(self.name, BIN / "cilium-dbg", *words, **options)

    def rows(self) -> dict[str, dict[str, str]]:
        """The datapath's endpoints by address."""
        return {row["ip"]: row for row in json.loads(self.dbg("bpf", "endpoint", "list", "-o", "json"))}

    def endpoints(self) -> list[dict[str, Any]]:
        """Pods' endpoints as they lie on disk: readable without an agent."""
        script = "cat /var/run/cilium/state/*/ep.json 2>/dev/null | sed 's/}{/}\\n{/g'"
        found = self.cluster.node(self.name, "sh", "-c", script, check=False)
        read = [json.loads(line) for line in found.splitlines() if line.strip()]
        return [endpoint for endpoint in read if endpoint["kind"] == "pod"]

    def queued_deletes(self) -> list[str]:
        return self.cluster.node(self.name, "sh", "-c", "ls /var/run/cilium/deleteQueue 2>/dev/null || true").split()

    def ready(self) -> bool:
        """Whether the agent answers and says that it serves; asked on its own socket."""
        return "curl" not in self.cluster.node(
            self.name, "curl", "-fsS", "-m", "2", "-o", "/dev/null", "http://127.0.0.1:9879/healthz", check=False
        )

    # -- processes ------------------------------------------------------------------------------------------------

    def pids(self, program: str) -> list[int]:
        """Processes of this node that run a program of ours, by its name on the command line."""
        found = []
        for directory, _, _ in os.walk(self.cgroup):
            for pid in cgroups.members(Path(directory)):
                with suppress(OSError):
                    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                    if any(os.path.basename(word) == program for word in words):
                        found.append(pid)
        return found

    def signal(self, program: str, number: signal.Signals) -> list[int]:
        """Signals every process of a program; there must be one."""
        pids = self.pids(program)
        assert pids, f"no {program} runs on {self.name}"
        for pid in pids:
            os.kill(pid, number)
        return pids

    def kill_agent(self) -> None:
        """SIGKILL, as a crash; returns when the process is gone. The kubelet, if it runs, starts another at once."""
        before = self.signal(AGENT, signal.SIGKILL)
        self.cluster.eventually(lambda: not set(before) & set(self.pids(AGENT)), "the killed agent is gone")

    def await_agent(self) -> None:
        self.cluster.eventually(self.ready, f"the agent of {self.name} serves again", 40)

    def start_agent(self) -> subprocess.Popen[bytes]:
        """An agent outside any pod, with the cluster's configuration: for a node whose kubelet is away."""
        inside, outside = "/var/lib/kubelet/agent", self._space.kubelet / "agent"
        (outside / "config").mkdir(parents=True, exist_ok=True)
        for key, value in self.cluster.get("-n", "kube-system", "configmap", "cilium-config")["data"].items():
            (outside / "config" / key).write_text(value)
        shutil.copy(self.cluster.environment["KUBECONFIG"], outside / "kubeconfig")
        argv = [str(BIN / AGENT), f"--config-dir={inside}/config", f"--k8s-kubeconfig-path={inside}/kubeconfig"]
        with (outside / "log").open("ab") as log:
            process = subprocess.Popen(self._space.argv(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.await_agent()
        return process

    @contextmanager
    def without_kubelet(self) -> Iterator[None]:
        """Nobody starts, adopts or restarts pods of this node meanwhile; those that run go on."""
        self.lab.stop(f"kubelet-{self.name}", kill=True)
        try:
            yield
        finally:
            self.lab.start_kubelet(self.name)

    def forget_back_off(self) -> None:
        """A kubelet that starts anew starts a container that died often without waiting. Until it has the agent."""
        with self.without_kubelet():
            pass
        asked = ("kube-system", self.cluster.agent(self.name), "true")
        self.cluster.eventually(lambda: self.cluster.exec(*asked) == "", "the new kubelet has the agent")

    @contextmanager
    def without_agent(self) -> Iterator[None]:
        """The agent is killed and stays away, with the kubelet at work: its DaemonSet has no place on this node."""
        label = "kubernetes.io/os"
        before = self.pids(AGENT)
        self.signal(AGENT, signal.SIGKILL)
        self.cluster.kubectl("label", "node", self.name, f"{label}=away", "--overwrite")
        try:
            self.cluster.eventually(lambda: before and not self.pids(AGENT), f"no agent on {self.name}")
            yield
        finally:
            self.cluster.kubectl("label", "node", self.name, f"{label}=linux", "--overwrite")
            self.await_agent()
