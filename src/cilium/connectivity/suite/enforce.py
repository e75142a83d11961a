"""A test's policies in the cluster, for as long as it runs: applied, enforced, and gone again whatever happens.

In: manifests. Out: a context in which every agent enforces them. Agents count changes of policies, and
are asked to wait until they have all. Source: cilium-cli/connectivity/check/policy.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager

from cilium.connectivity.suite.actors import Object, Pod
from cilium.connectivity.suite.cluster import Cluster, SuiteError
from cilium.sources.kubernetes.errors import ApiError

SECONDS = 15
_GET = ("cilium", "policy", "get", "-o", "jsonpath='{.revision}'")
_POLICIES = ("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")


class Enforcer:
    def __init__(self, cluster: Cluster, agents: Sequence[Pod]) -> None:
        self._cluster, self._agents = cluster, agents

    @asynccontextmanager
    async def enforced(self, manifests: Sequence[Object]) -> AsyncIterator[None]:
        """Raises SuiteError when the API server or an agent does not take a policy."""
        applied: list[Object] = []
        try:
            if manifests:
                before = await self._revisions()
                for manifest in manifests:
                    await self._create(manifest, applied)
                await self._wait(before, applied)
            yield
        finally:
            await _surely(self._remove(applied))

    async def _create(self, manifest: Object, applied: list[Object]) -> None:
        """One that an earlier run left behind is exchanged."""
        try:
            if not await self._cluster.create(manifest):
                await self._cluster.delete(manifest)
                await self._cluster.create(manifest)
        except ApiError as error:
            raise SuiteError(f"{_name(manifest)}: {error.message}") from None
        applied.append(manifest)

    async def _remove(self, applied: list[Object]) -> None:
        if not applied:
            return
        before = await self._revisions()
        for manifest in reversed(applied):
            await self._cluster.delete(manifest)
        await self._wait(before, applied)

    async def _revisions(self) -> dict[Pod, int]:
        async def revision(agent: Pod) -> int:
            done = await self._cluster.run(agent, _GET)
            text = done.stdout.strip().strip("'")
            if not text.isdecimal():
                raise SuiteError(f"{agent}: its policy revision cannot be read: {done.error or done.words}")
            return int(text)

        return dict(zip(self._agents, await asyncio.gather(*map(revision, self._agents)), strict=True))

    async def _wait(self, before: dict[Pod, int], changed: Sequence[Object]) -> None:
        number = sum(manifest["kind"] in _POLICIES for manifest in changed)

        async def reached(agent: Pod) -> str:
            command = ("cilium", "policy", "wait", str(before[agent] + number), "--max-wait-time", str(SECONDS))
            done = await self._cluster.run(agent, command)
            return "" if done.code == 0 else f"{agent} on {agent.node}: {done.words}"

        late = list(filter(None, await asyncio.gather(*map(reached, before))))
        if late:
            refused = [text for manifest in changed if (text := await self._refusal(manifest))]
            names = ", ".join(map(_name, changed))
            raise SuiteError(f"not on every node within {SECONDS} s: {names}: {'; '.join([*refused, *late])}")

    async def _refusal(self, manifest: Object) -> str:
        """What the status of a policy says against it."""
        metadata = manifest["metadata"]
        found = await self._cluster.find(manifest["kind"], metadata["name"], metadata.get("namespace", ""))
        for condition in ((found or {}).get("status") or {}).get("conditions") or []:
            if condition.get("type") == "Valid" and condition.get("status") == "False":
                return f"{_name(manifest)} is not valid: {condition.get('message', '')}"
        return ""


async def _surely(work: Coroutine[None, None, None]) -> None:
    """To its end, also when its caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _name(manifest: Object) -> str:
    metadata = manifest["metadata"]
    return f"{manifest['kind']} {'/'.join(filter(None, (metadata.get('namespace', ''), metadata['name'])))}"
