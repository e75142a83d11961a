"""A cluster without kubelets: the real store with its rules, all controllers, a clock and pods that tests move."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

from kubelab.apiserver.builtins import builtin_resources
from kubelab.apiserver.resources import Registry
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.catalog import StrategyCatalog
from kubelab.controllers.manager import ControllerManager, ControllerOptions
from kubelab.controllers.nodes.node_ipam import ClusterCIDR

Object = dict[str, Any]


@functools.cache
def schemas() -> Schemas:
    """Read once: they never change here."""
    return Schemas()


class Cluster:
    def __init__(self, cidrs: tuple[ClusterCIDR, ...] = (), ca: str = "", **options: Any) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.store = Store(Registry(builtin_resources()), strategies=StrategyCatalog(schemas()), now=lambda: self.time)
        self._options = ControllerOptions(cluster_cidrs=cidrs, ca=ca, **options)
        self.manager = self._manager()

    def _manager(self) -> ControllerManager:
        return ControllerManager(self.store, self._options, now=lambda: self.time, clock=self.monotonic)

    def stop(self) -> None:
        """The controllers' process dies: they see and do nothing any more."""
        self.manager.stop()

    def start(self) -> None:
        """A new process over the same store."""
        self.manager = self._manager()
        self.manager.resync()

    def monotonic(self) -> float:
        return self.time.timestamp()

    def pass_time(self, seconds: float) -> None:
        """The clock moves, and timers that are due by then fire (all of them: they look at the clock themselves)."""
        self.time += timedelta(seconds=seconds)
        for controller in self.manager.controllers:
            for key in tuple(controller.queue._timers):
                controller.queue._timers.pop(key).cancel()
                controller.queue.add(key)

    async def settle(self) -> None:
        await self.manager.settle()

    async def node(self, name: str, *, ready: str = "True", **spec: Any) -> Object:
        node = await self.store.create(
            "nodes", {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": spec}
        )
        now = self.time.strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": now, "lastTransitionTime": now}
        status = {"conditions": [condition], "allocatable": {"pods": "110", "cpu": "2", "memory": "4Gi"}}
        await self.store.update("nodes", {**node, "status": status}, subresource="status")
        await self.settle()
        return self.store.peek("nodes", name) or {}

    def pods(self, **labels: str) -> list[Object]:
        pods = self.store.peek_all("pods", namespace="default")
        return [pod for pod in pods if labels.items() <= (pod["metadata"].get("labels") or {}).items()]

    async def run_pods(self) -> None:
        """What kubelets do: bound pods become ready, deleted ones go."""
        for number, pod in enumerate(self.store.peek_all("pods"), start=1):
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            if "deletionTimestamp" in pod["metadata"]:
                await self.store.delete("pods", name, namespace=namespace, grace_seconds=0)
            elif pod["spec"].get("nodeName") and (pod.get("status") or {}).get("phase") != "Running":
                await self.ready(pod, True, address=f"10.0.0.{number}", address6=f"fd00::{number:x}")

    async def ready(self, pod: Object, ready: bool, *, address: str = "", address6: str = "") -> None:
        now = self.time.strftime("%Y-%m-%dT%H:%M:%SZ")
        pod = self.store.peek("pods", pod["metadata"]["name"], namespace=pod["metadata"]["namespace"]) or pod
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now}
        addresses = [{"ip": address}, {"ip": address6}] if address else (pod.get("status") or {}).get("podIPs", [])
        status = {
            "startTime": now,
            **(pod.get("status") or {}),
            "phase": "Running",
            "conditions": [condition],
            "podIPs": addresses,
        }
        await self.store.update("pods", {**pod, "status": status}, subresource="status")

    async def roll(self, rounds: int = 50) -> None:
        """Controllers and kubelets in turns until nothing changes."""
        for _ in range(rounds):
            version = self.store.version
            await self.settle()
            await self.run_pods()
            await self.settle()
            if self.store.version == version:
                return
        raise AssertionError("the cluster does not come to rest")


def template(**labels: str) -> Object:
    container = {"name": "main", "image": "none", "ports": [{"name": "http", "containerPort": 8080}]}
    return {"metadata": {"labels": labels}, "spec": {"containers": [container]}}


def deployment(name: str, replicas: int = 3, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(app=name),
            **spec,
        },
    }
