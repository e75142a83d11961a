"""Upstream's CLI, replayed with the official client: the objects it lists, the commands it executes.

Source: cilium-cli/k8s/client.go (what is executed), status/k8s.go, connectivity/check/features.go.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

SYSTEM, AGENT = "kube-system", "cilium-agent"
SHORT = 30.0


@dataclass(frozen=True)
class Done:
    """A command that was executed in a pod."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


class Cli:
    """One program's view of a cluster, by its kubeconfig."""

    def __init__(self, kubeconfig: str) -> None:
        self._kubeconfig = kubeconfig
        self.api = self._client()
        self.core, self.apps, self.custom = (
            client.CoreV1Api(self.api), client.AppsV1Api(self.api), client.CustomObjectsApi(self.api),
        )  # fmt: skip

    def _client(self) -> client.ApiClient:
        return config.new_client_from_config(self._kubeconfig)

    def exec(self, namespace: str, pod: str, command: Sequence[str], container: str | None = None) -> Done:
        """A connection of its own: the client's WebSockets are not for several threads."""
        with self._client() as api:
            words = {} if container is None else {"container": container}
            socket = stream(
                client.CoreV1Api(api).connect_get_namespaced_pod_exec, pod, namespace, command=list(command),
                stderr=True, stdin=False, stdout=True, tty=False, _preload_content=False, **words,
            )  # fmt: skip
            socket.run_forever(timeout=60)
            code = socket.returncode
            done = Done(-1 if code is None else code, socket.read_stdout(0) or "", socket.read_stderr(0) or "")
            socket.close()
            return done

    def agents(self) -> list[Any]:
        return self.core.list_namespaced_pod(SYSTEM, label_selector="k8s-app=cilium").items

    def in_agent(self, pod: Any, *command: str) -> Done:
        done = self.exec(SYSTEM, pod.metadata.name, command, AGENT)
        assert done.code == 0, f"{' '.join(command)}: exit {done.code}: {done.stdout}{done.stderr}"
        return done


def until(condition: Callable[[], Any], what: str, seconds: float = SHORT) -> Any:
    """The first truthy value; the CLI asks every second, this asks more often."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = condition()
        except ApiException as error:
            last = error
        else:
            if last:
                return last
        time.sleep(0.2)
    raise AssertionError(f"timeout reached: {what}; last: {last}")
