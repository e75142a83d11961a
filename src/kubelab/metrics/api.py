"""metrics.k8s.io/v1beta1: NodeMetrics and PodMetrics, as metrics-server makes them.

In: a collector, nodes and pods of the store. Out: sources of the API server's computed resources.
Source: `k8s.io/metrics` API reference; metrics-server documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubelab import timestamps
from kubelab.apiserver.errors import NotFound, not_found
from kubelab.apiserver.printers.columns import Column, name_column
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.metrics import shapes
from kubelab.metrics.collector import Collector
from kubelab.metrics.samples import PodUsage, Usage

Object = dict[str, Any]
GROUP, VERSION = "metrics.k8s.io", "v1beta1"
VERBS = ("get", "list")


def _resource(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(GROUP, (VERSION,), plural, kind, "", namespaced, VERSION, verbs=VERBS)


class NodeMetrics:
    """Implements ``computed.Source``."""

    resource = _resource("nodes", "NodeMetrics", namespaced=False)
    definitions = shapes.NODE_METRICS

    def __init__(self, store: Store, collector: Collector) -> None:
        self._store, self._collector = store, collector
        self.columns = (
            name_column(),
            Column("cpu", lambda o, _: o["usage"]["cpu"], format="quantity"),
            Column("memory", lambda o, _: o["usage"]["memory"], format="quantity"),
            Column("Window", lambda o, _: o["window"], format="duration"),
        )

    async def objects(self, namespace: str) -> Sequence[Object]:
        await self._collector.refresh()
        nodes = sorted(self._store.peek_all("nodes"), key=lambda node: str(node["metadata"]["name"]))
        return [found for node in nodes if (found := self._of(node)) is not None]

    async def one(self, namespace: str, name: str) -> Object:
        node = self._store.peek("nodes", name)
        if node is None:
            raise not_found(group="", plural="nodes", name=name)
        await self._collector.refresh()
        if (found := self._of(node)) is None:
            raise not_found(group=GROUP, plural="nodemetrics", name=name)
        return found

    def _of(self, node: Object) -> Object | None:
        usage = self._collector.node(node["metadata"]["name"])
        if usage is None:
            return None
        return {**_head("NodeMetrics", node), **_when(usage), "usage": _usage(usage)}


class PodMetrics:
    """Implements ``computed.Source``."""

    resource = _resource("pods", "PodMetrics", namespaced=True)
    definitions = shapes.POD_METRICS

    def __init__(self, store: Store, collector: Collector) -> None:
        self._store, self._collector = store, collector
        self.columns = (
            name_column(),
            Column("cpu", lambda o, _: _sum(o, "cpu"), format="quantity"),
            Column("memory", lambda o, _: _sum(o, "memory"), format="quantity"),
            Column("Window", lambda o, _: o["window"], format="duration"),
        )

    async def objects(self, namespace: str) -> Sequence[Object]:
        await self._collector.refresh()
        pods = self._store.peek_all("pods", namespace=namespace or None)
        ordered = sorted(pods, key=lambda pod: (pod["metadata"]["namespace"], pod["metadata"]["name"]))
        return [found for pod in ordered if (found := self._of(pod)) is not None]

    async def one(self, namespace: str, name: str) -> Object:
        pod = self._store.peek("pods", name, namespace=namespace)
        if pod is None:
            raise not_found(group="", plural="pods", name=f"{namespace}/{name}")
        await self._collector.refresh()
        if (found := self._of(pod)) is None:
            raise NotFound(
                f'podmetrics.metrics.k8s.io "{namespace}/{name}" not found',
                group=GROUP, kind="podmetrics", name=f"{namespace}/{name}",
            )  # fmt: skip
        return found

    def _of(self, pod: Object) -> Object | None:
        """None for what does not run, and for what has not run for long enough."""
        used = pod_usage_of(self._collector, pod)
        if used is None:
            return None
        containers = [{"name": name, "usage": _usage(usage)} for name, usage in used.containers.items()]
        return {**_head("PodMetrics", pod), **_when(used), "containers": containers}


def pod_usage_of(collector: Collector, pod: Object) -> PodUsage | None:
    """What a pod uses; None unless it runs and has been measured."""
    if (pod.get("status") or {}).get("phase") != "Running":
        return None
    key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
    return collector.pod((pod.get("spec") or {}).get("nodeName", ""), key)


def _head(kind: str, obj: Object) -> Object:
    own = obj["metadata"]
    metadata = {field: own[field] for field in ("name", "namespace", "labels") if own.get(field)}
    return {
        "kind": kind,
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": {**metadata, "creationTimestamp": timestamps.now()},
    }


def _when(used: Usage | PodUsage) -> Object:
    return {"timestamp": timestamps.seconds(used.at), "window": f"{used.window:.3f}".rstrip("0").rstrip(".") + "s"}


def _usage(usage: Usage) -> Object:
    cpu = f"{usage.cpu_nanocores}n" if usage.cpu_nanocores else "0"
    return {"cpu": cpu, "memory": f"{usage.memory_bytes // 1024}Ki"}


def _sum(obj: Object, resource: str) -> str:
    """Of containers, in the notation of `_usage`."""
    unit = "n" if resource == "cpu" else "Ki"
    total = sum(int(container["usage"][resource].removesuffix(unit)) for container in obj["containers"])
    return f"{total}{unit}" if total else "0"


class ResourceMetrics:
    """What controllers read: the API without its server."""

    def __init__(self, store: Store, collector: Collector) -> None:
        self._store, self._collector = store, collector

    async def of_pods(self, pods: Sequence[Object]) -> dict[str, PodUsage]:
        """By name; what is not known is left out. Raises NotFound while the API is not served."""
        if self._store.registry.get(PodMetrics.resource.key) is None:
            raise NotFound("the server could not find the requested resource (get pods.metrics.k8s.io)")
        await self._collector.refresh()
        found = {pod["metadata"]["name"]: pod_usage_of(self._collector, pod) for pod in pods}
        return {name: used for name, used in found.items() if used is not None}
