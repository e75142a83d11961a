"""Upstream's CLI, replayed with the official client: the same objects, waits, executed commands, in the same order.

Source: cilium-cli/k8s/client.go (what is executed), status/k8s.go, connectivity/check/{features,wait,test,policy}.go.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.stream import stream
from scenario.upstream_cli.objects import NAMESPACE, Object

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
        self._dynamic = DynamicClient(self.api)

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

    def create(self, manifest: Object) -> None:
        resource = self._dynamic.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])
        resource.create(body=manifest, namespace=manifest["metadata"].get("namespace"))

    def delete(self, manifest: Object) -> None:
        resource = self._dynamic.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])
        resource.delete(name=manifest["metadata"]["name"], namespace=manifest["metadata"].get("namespace"))

    def pods(self, selector: str) -> list[Any]:
        return self.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items

    # -- policies -------------------------------------------------------------------------------------------------

    def revisions(self) -> dict[str, int]:
        found = {}
        for pod in self.agents():
            text = self.in_agent(pod, "cilium", "policy", "get", "-o", "jsonpath='{.revision}'").stdout
            found[pod.metadata.name] = int(text.strip("'\n"))
        return found

    def changed(self, change: Callable[[], None], number: int) -> None:
        """Applies or deletes a number of policies, and waits as the CLI does until every agent has them."""
        before = self.revisions()
        change()
        for pod in self.agents():
            target = before[pod.metadata.name] + number
            self.in_agent(pod, "cilium", "policy", "wait", str(target), "--max-wait-time", "15")


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


def deployed(cli: Cli, name: str) -> bool:
    """CheckDeploymentStatus."""
    found = cli.apps.read_namespaced_deployment_status(name, NAMESPACE)
    status = found.status
    return bool(
        status.observed_generation == found.metadata.generation
        and status.updated_replicas == status.ready_replicas == status.available_replicas == found.spec.replicas
        and not status.unavailable_replicas
    )


def curl(address: str, port: int, path: str = "/") -> list[str]:
    """CurlCommand."""
    host = f"[{address}]" if ":" in address else address
    return [
        "curl", "-w", "%{local_ip}:%{local_port} -> %{remote_ip}:%{remote_port} = %{response_code}",
        "--silent", "--fail", "--show-error", "--output", "/dev/null", "--connect-timeout", "2", "--max-time", "10",
        f"http://{host}:{port}{path}",
    ]  # fmt: skip


def ping(address: str) -> list[str]:
    """PingCommand."""
    return ["ping", "-c", "1", *(["-6"] if ":" in address else []), "-W", "2", "-w", "10", address]
