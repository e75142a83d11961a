"""cilium status: agents, operator and their errors, asked of the cluster's API server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from cilium.cli.columns import columns

if TYPE_CHECKING:
    from cilium.sources.kubernetes.client import Client
    from cilium.sources.kubernetes.writes import Writes

_POLICIES = (
    "/apis/cilium.io/v2/ciliumnetworkpolicies",
    "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies",
    "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies",
)


@click.command()
@click.option("-n", "--namespace", default="kube-system", show_default=True, help="Where Cilium runs.")
@click.option("--wait", is_flag=True, help="Wait until everything is ready.")
@click.option("--wait-duration", default=300.0, show_default=True, help="Seconds --wait waits.")
@click.option("--kubeconfig", help="Default: $KUBECONFIG, then ~/.kube/config.")
def status(namespace: str, wait: bool, wait_duration: float, kubeconfig: str | None) -> None:
    """Show agents, operator and their errors; exit status 1 if something is not ready."""
    path = kubeconfig or os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    deadline = time.monotonic() + (wait_duration if wait else 0)
    ok, text = asyncio.run(_follow(path, namespace, deadline))
    click.echo(text)
    sys.exit(0 if ok else 1)


async def _follow(kubeconfig: str, namespace: str, deadline: float) -> tuple[bool, str]:
    from cilium.sources.kubernetes.client import Client
    from cilium.sources.kubernetes.config import resolve
    from cilium.sources.kubernetes.errors import ApiError, ConfigError, Unreachable

    try:
        async with Client(resolve(kubeconfig=kubeconfig), user_agent="cilium-cli") as client:
            while True:
                ok, text = await _look(client, namespace)
                if ok or time.monotonic() >= deadline:
                    return ok, text
                await asyncio.sleep(0.5)
    except (ApiError, ConfigError, Unreachable) as error:
        raise click.ClickException(str(error)) from None


async def _look(client: Client, namespace: str) -> tuple[bool, str]:
    from cilium.sources.kubernetes.writes import Writes

    reads = Writes(client)
    apps = f"/apis/apps/v1/namespaces/{namespace}"
    daemon_set = await reads.find(f"{apps}/daemonsets", "cilium")
    deployment = await reads.find(f"{apps}/deployments", "cilium-operator")
    pods = await reads.list(f"/api/v1/namespaces/{namespace}/pods")
    agents = [pod for pod in pods if pod["metadata"].get("labels", {}).get("k8s-app") == "cilium"]
    operators = [pod for pod in pods if pod["metadata"].get("labels", {}).get("io.cilium/app") == "operator"]
    problems = [*_problems("cilium", daemon_set, agents), *_problems("cilium-operator", deployment, operators)]
    rows = [
        ("DaemonSet", "cilium", *_counts(daemon_set, "desiredNumberScheduled", "numberReady")),
        ("Deployment", "cilium-operator", *_counts(deployment, "replicas", "readyReplicas")),
    ]
    lines = [
        columns(("KIND", "NAME", "DESIRED", "READY"), rows),
        "",
        columns(("POD", "NODE", "STATE"), map(_pod, pods_of(agents, operators))),
    ]
    problems += await _agent_errors(client, namespace, agents)
    policies = await _invalid_policies(reads)
    lines += ["", *problems, *policies] if problems or policies else ["", "no errors"]
    ready = bool(daemon_set and deployment) and all(row[2] == row[3] and row[2] != "0" for row in rows)
    return ready and not problems, "\n".join(lines)


def pods_of(*groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [pod for group in groups for pod in sorted(group, key=lambda pod: str(pod["spec"].get("nodeName", "")))]


def _counts(owner: dict[str, Any] | None, desired: str, ready: str) -> tuple[str, str]:
    if owner is None:
        return "absent", "absent"
    status = owner.get("status") or {}
    return str(status.get(desired, 0)), str(status.get(ready, 0))


def _pod(pod: dict[str, Any]) -> tuple[str, str, str]:
    return pod["metadata"]["name"], pod["spec"].get("nodeName", ""), _state(pod)


def _state(pod: dict[str, Any]) -> str:
    states = (pod.get("status") or {}).get("containerStatuses") or []
    restarts = sum(int(state.get("restartCount", 0)) for state in states)
    text = str((pod.get("status") or {}).get("phase", "Unknown"))
    text += "" if states and all(state.get("ready") for state in states) and not _silent(pod) else ", not ready"
    return f"{text}, {restarts} restart(s)" if restarts else text


def _silent(pod: dict[str, Any]) -> bool:
    """Whether its containers were ready when its node was last heard of, and it is taken for not ready since."""
    status = pod.get("status") or {}
    states, conditions = status.get("containerStatuses") or [], status.get("conditions") or []
    unready = any(entry["type"] == "Ready" and entry["status"] != "True" for entry in conditions)
    return unready and bool(states) and all(state.get("ready") for state in states)


def _problems(name: str, owner: dict[str, Any] | None, pods: list[dict[str, Any]]) -> list[str]:
    if owner is None:
        return [f"{name}: not installed in this namespace"]
    found = []
    for pod in pods:
        for state in (pod.get("status") or {}).get("containerStatuses") or []:
            if not state.get("ready"):
                waiting = (state.get("state") or {}).get("waiting") or {}
                reason = " ".join(filter(None, (waiting.get("reason"), waiting.get("message")))) or "not ready"
                found.append(f"{name}: {pod['metadata']['name']}: {reason}")
        if _silent(pod):
            node = pod["spec"].get("nodeName", "")
            found.append(f"{name}: {pod['metadata']['name']}: node {node} is not ready, nobody hears of it")
    return found


async def _agent_errors(client: Client, namespace: str, agents: list[dict[str, Any]]) -> list[str]:
    """What each running agent says of itself."""
    running = [pod for pod in agents if (pod.get("status") or {}).get("phase") == "Running" and not _silent(pod)]
    answers = await asyncio.gather(*(_ask(client, namespace, pod["metadata"]["name"]) for pod in running))
    return [
        f"cilium: {pod['metadata']['name']} on {pod['spec'].get('nodeName', '')}: {error}"
        for pod, errors in zip(running, answers, strict=True)
        for error in errors
    ]


async def _ask(client: Client, namespace: str, pod: str) -> list[str]:
    from cilium.sources.kubernetes.errors import ApiError, Unreachable
    from cilium.sources.kubernetes.exec import execute

    command = ["cilium-dbg", "status", "-o", "json"]
    try:
        result = await execute(client, namespace=namespace, pod=pod, container="cilium-agent", command=command)
        document = json.loads(result.stdout)
    except (ApiError, Unreachable) as error:
        return [str(error)]
    except ValueError:
        return [result.stderr.decode(errors="replace").strip() or result.error]
    starting = [] if document["cilium"]["state"] != "Failure" else [document["cilium"]["msg"]]
    return [*starting, *document["errors"]]


async def _list(reads: Writes, collection: str) -> list[dict[str, Any]]:
    """Nothing, if the cluster has no such objects."""
    from cilium.sources.kubernetes.errors import ApiError

    try:
        found: list[dict[str, Any]] = await reads.list(collection)
    except ApiError as error:
        if error.status != 404:
            raise
        return []
    return found


async def _invalid_policies(reads: Writes) -> list[str]:
    """Policies the agents refuse, in their words."""
    found = []
    for collection in _POLICIES:
        plural = collection.rpartition("/")[2]
        for item in await _list(reads, collection):
            for condition in (item.get("status") or {}).get("conditions") or []:
                if condition.get("type") == "Valid" and condition.get("status") == "False":
                    metadata = item["metadata"]
                    where = f"{metadata.get('namespace', '')}/{metadata['name']}".lstrip("/")
                    found.append(f"{item.get('kind', plural)} {where}: {condition.get('message', '')}")
    return found
