"""A cluster by its API server: objects, and commands in pods.

In: a client. Out: objects as the server has them, what commands printed and how they ended. Raises what the
client raises.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cilium.connectivity.suite.actors import Object, Pod
from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.errors import ApiError, Unreachable
from cilium.sources.kubernetes.exec import execute
from cilium.sources.kubernetes.writes import Writes

POLL = 0.2
_PATHS = {
    "Namespace": ("/api/v1", "namespaces"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "DaemonSet": ("/apis/apps/v1", "daemonsets"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "CiliumNetworkPolicy": ("/apis/cilium.io/v2", "ciliumnetworkpolicies"),
    "CiliumClusterwideNetworkPolicy": ("/apis/cilium.io/v2", "ciliumclusterwidenetworkpolicies"),
    "CiliumCIDRGroup": ("/apis/cilium.io/v2", "ciliumcidrgroups"),
}


class SuiteError(Exception):
    """The suite, or one test of it, cannot go on; the text says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that was run. `code` is None if it was not run to its end; `error` says why in the server's words."""

    code: int | None
    stdout: str
    stderr: str
    error: str = ""

    @property
    def words(self) -> str:
        """What a person wants to read of it."""
        return "\n".join(filter(None, (self.stdout.strip(), self.stderr.strip()))) or self.error


class Cluster:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._writes = Writes(client, field_manager="cilium-cli")

    async def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        found: Object | None = await self._writes.find(_collection(kind, namespace), name)
        return found

    async def objects(self, path: str, selector: str = "") -> list[Object]:
        """Of a path, those with labels `KEY=VALUE,…`."""
        wanted = [term.partition("=")[::2] for term in selector.split(",") if term]
        items: list[Object] = await self._writes.list(path)
        return [
            item
            for item in items
            if all((item["metadata"].get("labels") or {}).get(key) == value for key, value in wanted)
        ]

    async def pods(self, namespace: str, selector: str = "") -> list[Object]:
        """Those that are not about to go."""
        found = await self.objects(f"/api/v1/namespaces/{namespace}/pods", selector)
        return [item for item in found if "deletionTimestamp" not in item["metadata"]]

    async def create(self, manifest: Object) -> bool:
        """Whether it was not there before."""
        metadata = manifest["metadata"]
        try:
            await self._writes.create(_collection(manifest["kind"], metadata.get("namespace", "")), manifest)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            return False
        return True

    async def delete(self, manifest: Object) -> bool:
        """Whether it was there."""
        metadata = manifest["metadata"]
        return await self._writes.delete(_collection(manifest["kind"], metadata.get("namespace", "")), metadata["name"])

    async def run(self, pod: Pod, command: Sequence[str]) -> Ran:
        """In the pod's first container. A server that cannot run it makes a `Ran` without a code."""
        try:
            done = await execute(
                self._client, namespace=pod.namespace, pod=pod.name, container=pod.container, command=list(command)
            )
        except (ApiError, Unreachable) as error:
            return Ran(None, "", "", str(error))
        return Ran(done.code, _text(done.stdout), _text(done.stderr), done.error)

    async def document(self, pod: Pod, command: Sequence[str]) -> Any:
        """What a command prints as JSON. Raises SuiteError."""
        done = await self.run(pod, command)
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise SuiteError(f"{pod}: {' '.join(command)}: {done.error or done.words or 'no JSON'}") from None


async def until(missing: Callable[[], Awaitable[str]], seconds: float, what: str) -> None:
    """Asks until nothing is missing. Raises SuiteError with what is, in the end."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            lacking = await missing()
        except (SuiteError, ApiError, Unreachable) as error:
            lacking = str(error)
        if not lacking:
            return
        if time.monotonic() >= deadline:
            raise SuiteError(f"{what}: not within {seconds:g} s: {lacking}")
        await asyncio.sleep(POLL)


async def everywhere(calls: Iterable[Awaitable[str]]) -> str:
    """All at once; what is missing of the first that misses something."""
    return next(filter(None, await asyncio.gather(*calls)), "")


def _collection(kind: str, namespace: str) -> str:
    group, plural = _PATHS[kind]
    return f"{group}/namespaces/{namespace}/{plural}" if namespace else f"{group}/{plural}"


def _text(content: bytes) -> str:
    return content.decode(errors="replace").replace("\r\n", "\n")
