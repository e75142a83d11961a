"""What the agents are asked: the flows they saw, and what their kernels say of a connection.

In: a client, where Cilium runs. Out: flows and verdicts as JSON. Agents are reached as by `kubectl exec`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.errors import ApiError, Unreachable
from cilium.sources.kubernetes.exec import execute
from cilium.sources.kubernetes.writes import Writes

SELECTOR = ("k8s-app", "cilium")
PATIENCE = "2m"
"""For the flows of one node: as many as its ring holds take a busy agent longer than a question usually may."""
Flow = dict[str, Any]


class Agents:
    """`pods`: names of the agents' pods by node."""

    def __init__(self, client: Client, namespace: str, pods: Mapping[str, str]) -> None:
        self._client, self._namespace, self.pods = client, namespace, pods

    @classmethod
    async def find(cls, client: Client, namespace: str) -> Agents:
        """Those that run."""
        key, value = SELECTOR
        return cls(
            client,
            namespace,
            {
                pod["spec"].get("nodeName", ""): pod["metadata"]["name"]
                for pod in await Writes(client).list(f"/api/v1/namespaces/{namespace}/pods")
                if (pod["metadata"].get("labels") or {}).get(key) == value
                and (pod.get("status") or {}).get("phase") == "Running"
            },
        )

    async def run(self, node: str, command: Sequence[str]) -> str:
        """What a command in the agent's pod prints. Raises click.ClickException."""
        pod = self.pods.get(node)
        if pod is None:
            raise click.ClickException(f"no agent runs on node {node or 'of nobody'}")
        try:
            result = await execute(
                self._client, namespace=self._namespace, pod=pod, container="cilium-agent", command=list(command)
            )
        except (ApiError, Unreachable) as error:
            raise click.ClickException(f"{pod} on {node}: {error}") from None
        if result.error:
            said = result.stderr.decode(errors="replace").strip() or result.error
            raise click.ClickException(f"{pod} on {node}: {said}")
        return result.stdout.decode(errors="replace")

    async def flows(self, since: str, *filters: str) -> tuple[list[Flow], list[str]]:
        """Flows of all nodes since a moment, and why some nodes have none."""
        command = ["hubble", "observe", "--since", since, "--request-timeout", PATIENCE, "-o", "json", *filters]
        nodes = sorted(self.pods)
        answers = await asyncio.gather(*(self.run(node, command) for node in nodes), return_exceptions=True)
        found: list[Flow] = []
        problems: list[str] = []
        for node, answer in zip(nodes, answers, strict=True):
            if isinstance(answer, click.ClickException):
                problems.append(f"flows of {node} are missing: {answer.message}")
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found += [flow for line in answer.splitlines() if line.startswith("{") and (flow := _flow(line))]
        return found, problems

    async def verdict(self, node: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        """What the kernel of a node says of one direction; see `cilium-dbg policy verdict`."""
        options = [word for name, value in parameters.items() for word in (f"--{name}", value)]
        said = await self.run(node, ["cilium-dbg", "policy", "verdict", *options, "-o", "json"])
        answer: dict[str, Any] = json.loads(said)
        return answer


def _flow(line: str) -> Flow | None:
    flow = json.loads(line).get("flow")
    return flow if isinstance(flow, dict) else None
