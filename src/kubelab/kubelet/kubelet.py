"""The kubelet's composition: watches, workers, node reports, server, all tasks of one group.

In: the pods assigned to this node. Out: workers, one per pod; what an earlier kubelet left is adopted or removed.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import aiohttp
import structlog

from kubelab.kubelet import runtime
from kubelab.kubelet.client import ApiClient, ApiError
from kubelab.kubelet.config import KubeletConfig, Object
from kubelab.kubelet.environment import MissingReferenceError
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.node import NodeReporter
from kubelab.kubelet.references import References
from kubelab.kubelet.reports import Reporter
from kubelab.kubelet.server import KubeletServer
from kubelab.kubelet.services import KnownServices
from kubelab.kubelet.volumes import Sources, VolumeError, unmount_below
from kubelab.kubelet.worker import PodWorker, Surroundings

log = structlog.get_logger(__name__)

FETCH_RETRY = 1.0
WORKER_RETRY = 2.0
TOKEN_ROUND = 60.0


async def run(config: KubeletConfig) -> None:
    """Runs until cancelled. Containers go on without us."""
    async with ApiClient(config) as client:
        kubelet = Kubelet(config, client)
        await kubelet.run()


class Kubelet:
    """One node's pods."""

    def __init__(self, config: KubeletConfig, client: ApiClient) -> None:
        self._config, self._client = config, client
        self._directory = Path(config.directory)
        self._inotify = Inotify()
        self._runtime = runtime.make(config, self._inotify)
        self._network_changed = asyncio.Condition()
        self._reporter = Reporter(client, config.node)
        self._node = NodeReporter(client, config, self._runtime)
        self._references = References(client, self._refresh)
        self._around = Surroundings(
            config=config,
            runtime=self._runtime,
            network_changed=self._network_changed,
            inotify=self._inotify,
            reporter=self._reporter,
            sources=Sources(
                self._references.fetch, self._token, config, self._claimed, KnownServices(client, config).of
            ),
        )
        self.workers: dict[str, PodWorker] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        server = KubeletServer(self._config.node, self.workers, self._inotify)
        try:
            await self._runtime.open()
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._node.run(), name="node")
                tasks.create_task(self._watch_node(), name="node as others see it")
                tasks.create_task(self._reporter.run(), name="reports")
                tasks.create_task(self._watch_network(), name="network")
                tasks.create_task(self._watch_runtime(), name="runtime")
                tasks.create_task(server.run(Path(self._config.socket)), name="server")
                tasks.create_task(self._references.run(), name="references")
                tasks.create_task(self._watch_pods(), name="pods")
                tasks.create_task(self._rotate_tokens(), name="tokens")
        finally:
            await self._runtime.close()
            self._inotify.close()

    # -- pods ---------------------------------------------------------------------------------------------------

    async def _watch_pods(self) -> None:
        selector = f"spec.nodeName={self._config.node}"
        async for event in self._client.list_and_watch("/api/v1/pods", fieldSelector=selector):
            if event.kind == "replace":
                await self._replace(event.objects)
                continue
            for pod in event.objects:
                if event.kind == "delete":
                    if worker := self.workers.get(pod["metadata"]["uid"]):
                        worker.vanished()
                else:
                    self._assign(pod)

    async def _replace(self, pods: list[Object]) -> None:
        present = {pod["metadata"]["uid"] for pod in pods}
        for uid, worker in self.workers.items():
            if uid not in present:
                worker.vanished()
        await self._collect_garbage(present | self.workers.keys())
        for pod in pods:
            self._assign(pod)

    def _assign(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if (worker := self.workers.get(uid)) is not None:
            worker.update(pod)
            return
        worker = self.workers[uid] = PodWorker(pod, self._around)
        directory = self._directory / "pods" / uid
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "pod.json").write_text(json.dumps(pod))
        assert self._tasks is not None
        self._tasks.create_task(self._run_worker(worker), name=f"pod {worker.name}")

    async def _run_worker(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            # One broken pod must not take the others' kubelet down; a fresh worker adopts what runs of it.
            log.exception("pod worker failed", pod=worker.name)
            worker.event("Warning", "FailedSync", "internal error, see the kubelet's log")
            await asyncio.sleep(WORKER_RETRY)
            self.workers.pop(worker.uid, None)
            self._assign(worker.pod)
            if worker.gone:  # what is left of it still has to go
                self.workers[worker.uid].vanished()
            return
        self.workers.pop(worker.uid, None)
        self._references.keep(left.pod for left in self.workers.values())

    async def _collect_garbage(self, keep: set[str]) -> None:
        """Removes what an earlier kubelet left of pods that no longer exist, attachments included."""
        await self._runtime.collect(keep)
        for directory in (self._directory / "pods").glob("*"):
            if directory.name not in keep:
                unmount_below(directory)
                shutil.rmtree(directory, ignore_errors=True)

    async def _watch_node(self) -> None:
        selector = f"metadata.name={self._config.node}"
        async for event in self._client.list_and_watch("/api/v1/nodes", fieldSelector=selector):
            if event.kind != "delete":
                for node in event.objects:
                    self._node.seen(node)

    # -- network ------------------------------------------------------------------------------------------------

    async def _watch_network(self) -> None:
        """Follows the CNI directories: the node is ready when a configuration and its plugins are there."""
        directories = [Path(self._config.cni_config), Path(self._config.cni_bin)]
        for directory in directories:
            directory.mkdir(parents=True, exist_ok=True)
        subscriptions = [self._inotify.subscribe(str(directory)) for directory in directories]
        while True:
            self._node.network(self._runtime.ready())
            async with self._network_changed:
                self._network_changed.notify_all()
            waits = [asyncio.create_task(subscription.changed()) for subscription in subscriptions]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _watch_runtime(self) -> None:
        async for reason in self._runtime.health():
            self._node.runtime(reason)

    # -- data of the API that pods see --------------------------------------------------------------------------

    async def _refresh(self, kind: str, namespace: str, name: str) -> None:
        """A ConfigMap or Secret changed."""
        for worker in list(self.workers.values()):
            if worker.pod["metadata"]["namespace"] == namespace:
                await worker.refresh(kind, name)

    async def _rotate_tokens(self) -> None:
        while True:
            await asyncio.sleep(TOKEN_ROUND)
            for worker in list(self.workers.values()):
                await worker.rotate()

    async def _claimed(self, namespace: str, claim: str) -> Object:
        try:
            found = await self._client.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")
            volume = found["spec"].get("volumeName")
            if not volume or (found.get("status") or {}).get("phase") != "Bound":
                raise VolumeError(f"PersistentVolumeClaim {claim} is not bound")
            return await self._client.get(f"/api/v1/persistentvolumes/{volume}")
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise VolumeError(f"PersistentVolumeClaim {claim}: {error}") from error

    async def _token(self, pod: Object, audience: str | None, seconds: int) -> str:
        meta, account = pod["metadata"], pod["spec"].get("serviceAccountName") or "default"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": bound,
            },
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
        while True:
            try:
                answer = await self._client.request("POST", path, body)
                return str(answer["status"]["token"])
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                if isinstance(error, ApiError) and error.code == 404:
                    words = f'failed to fetch token: serviceaccounts "{account}" not found'
                    raise MissingReferenceError(words) from error
                if isinstance(error, ApiError) and error.code < 500:  # the pod may be gone
                    raise VolumeError(f"failed to fetch token: {error}") from error
                log.warning("no token yet", account=f"{meta['namespace']}/{account}", error=str(error) or repr(error))
            await asyncio.sleep(FETCH_RETRY)
