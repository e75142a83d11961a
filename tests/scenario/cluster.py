"""A lab with Cilium for scenario tests: real kubectl, real pods, real packets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubelab.lab import Lab, LabError
from kubelab.underlay import cgroups

BIN = Path(sys.executable).parent


class CommandError(AssertionError):
    """A command that should have succeeded did not; the message has its output."""


class Cluster:
    """One lab by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.environment = dict(os.environ)

    def up(self, *more: str, nodes: int = 3, values: Path | None = None) -> str:
        """`more`: options of `cilium lab up`."""
        arguments = ["lab", "up", "--name", self.name, "--nodes", str(nodes), *more]
        output = self.run(BIN / "cilium", *arguments, *(["--values", values] if values else []), timeout=180)
        exports = self.run(BIN / "cilium", "lab", "env", "--name", self.name)
        for line in exports.splitlines():
            variable, _, value = line.removeprefix("export ").partition("=")
            self.environment[variable] = value.strip("'")
        return output

    def down(self) -> str:
        return self.run(BIN / "cilium", "lab", "down", "--name", self.name)

    # -- commands -------------------------------------------------------------------------------------------------

    def run(self, *argv: object, timeout: float = 60, check: bool = True, stdin: str = "") -> str:
        """stdout and stderr together. Raises CommandError."""
        done = subprocess.run(
            [str(word) for word in argv], env=self.environment, input=stdin, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise CommandError(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}")
        return done.stdout

    def kubectl(self, *words: object, **options: Any) -> str:
        return self.run(BIN / "kubectl", *words, **options)

    def get(self, *words: object) -> Any:
        text = self.kubectl("get", *words, "-o", "json")
        return json.loads(text[text.index("{") :])  # behind what the server warns of

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(manifest) for manifest in manifests))

    def node(self, node: str, *command: object, **options: Any) -> str:
        """As `cilium lab node` does it, without the start of another process."""
        return self.run(*Lab(self.name).node_argv(node, [str(word) for word in command]), **options)

    def exec(self, namespace: str, pod: str, *command: object, **options: Any) -> str:
        return self.kubectl("-n", namespace, "exec", pod, "--", *command, **options)

    def agent(self, node: str) -> str:
        """The name of the agent's pod on a node."""
        where = f"labelSelector=k8s-app%3Dcilium&fieldSelector=spec.nodeName%3D{node}"
        try:
            pods = Lab(self.name).api().get(f"/api/v1/namespaces/kube-system/pods?{where}")
        except (LabError, OSError) as error:
            raise CommandError(f"the agent of {node}: {error}") from error
        return str(pods["items"][0]["metadata"]["name"])

    def dbg(self, node: str, *command: object, **options: Any) -> str:
        return self.exec("kube-system", self.agent(node), "cilium-dbg", *command, **options)

    def hubble(self, node: str, *command: object, **options: Any) -> list[dict[str, Any]]:
        text = self.exec("kube-system", self.agent(node), "hubble", "observe", "-o", "json", *command, **options)
        return [json.loads(line)["flow"] for line in text.splitlines() if line.startswith("{") and '"flow"' in line]

    def agent_pids(self, node: str) -> list[int]:
        """Of the agent's container, as this machine numbers processes."""
        pod = self.get("-n", "kube-system", "pod", self.agent(node))
        group: Path = cgroups.node_path(self.name, node) / "kubepods" / f"pod{pod['metadata']['uid']}" / "cilium-agent"
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]

    def kill_agent(self, node: str) -> list[int]:
        """Without a chance to say good-bye; returns what was killed."""
        pids = self.agent_pids(node)
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return pids

    # -- conditions -----------------------------------------------------------------------------------------------

    def eventually(self, condition: Callable[[], Any], what: str, seconds: float = 20, pause: float = 0.1) -> Any:
        """The first truthy value of `condition`; asserts that it comes."""
        deadline = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = condition()
            except (CommandError, KeyError, IndexError, StopIteration) as error:
                last = error
            else:
                if last:
                    return last
            time.sleep(pause)
        raise AssertionError(f"not within {seconds} s: {what}; last: {last}")

    def wait_ready(self, namespace: str, seconds: int = 60) -> None:
        self.kubectl("-n", namespace, "wait", "pods", "--all", "--for=condition=Ready", f"--timeout={seconds}s",
                     timeout=seconds + 10)  # fmt: skip

    @contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        self.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=true", timeout=90, check=False)


def client(name: str, node: str, **labels: str) -> dict[str, Any]:
    """A pod that waits to be told what to do."""
    return _pod(name, node, labels, {"name": "main", "image": "debian:12", "command": ["sleep", "infinity"]})


def server(
    name: str, node: str, *, ports: Sequence[tuple[str, int]] = (("TCP", 8080), ("UDP", 5353)), **labels: str
) -> dict[str, Any]:
    """A pod in which the stand-in answers."""
    container = {
        "name": "main",
        "image": "example/server:1",
        "ports": [{"containerPort": port, "protocol": protocol} for protocol, port in ports],
    }
    return _pod(name, node, labels, container)


def _pod(name: str, node: str, labels: dict[str, str], container: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **labels}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]},
    }


def addresses(pod: dict[str, Any]) -> dict[int, str]:
    """The pod's address by IP version."""
    ips = [entry["ip"] for entry in pod["status"]["podIPs"]]
    return {6 if ":" in ip else 4: ip for ip in ips}


def url(ip: str, port: int = 8080) -> str:
    return f"http://[{ip}]:{port}/" if ":" in ip else f"http://{ip}:{port}/"


def curl(ip: str, port: int = 8080) -> list[str]:
    return ["curl", "-gsS", "-m", "1", "--connect-timeout", "0.5", url(ip, port)]


def ping(ip: str) -> list[str]:
    return ["ping", "-c", "1", "-W", "1", ip]


def lacks() -> str:
    """Why a lab cannot run here; empty when it can."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("nsenter") is None:
        return "needs nsenter (util-linux)"
    return ""
