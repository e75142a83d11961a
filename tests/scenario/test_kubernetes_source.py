"""The Kubernetes source and the embedded API server, joined over mTLS: each was written without the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import resolve
from cilium.sources.kubernetes.errors import ApiError
from cilium.sources.kubernetes.source import KubernetesSource, Resource
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.sources.kubernetes.writes import Writes
from cilium.state import Table
from kubelab.apiserver.server import ApiServer

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with ApiServer(data_dir=tmp_path, binds=[("127.0.0.1", 0)]) as server:
        kubeconfig = tmp_path / "kubeconfig"
        server.write_kubeconfig(kubeconfig, user="kubernetes-admin", groups=["system:masters"])
        async with Client(resolve(kubeconfig=kubeconfig)) as opened:
            yield opened


async def until(table: Table[Any, Any], condition: Callable[[], bool]) -> None:
    stream = table.changes()
    async with asyncio.timeout(10):
        while not condition():
            await stream.wait()
            stream.pop()


def pod(name: str, node: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "app"}]},
    }


async def test_what_is_written_arrives_in_the_tables(client: Client) -> None:
    tables, writes = KubernetesTables(), Writes(client)
    followed = {Resource.PODS, Resource.NAMESPACES, Resource.NODES, Resource.NETWORK_POLICIES}
    source = KubernetesSource(client=client, tables=tables, node="n1", cluster="default", resources=followed)
    running = asyncio.create_task(source.run())
    try:
        async with asyncio.timeout(10):
            await tables.pods.wait_initialized()
            await tables.namespaces.wait_initialized()
        assert "kube-system" in tables.namespaces.snapshot()

        await writes.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        addresses = {"addresses": [{"type": "InternalIP", "address": "fd00::1"}]}
        await writes.patch_status("/api/v1/nodes", "n1", {"status": addresses})
        await until(
            tables.kube_nodes,
            lambda: [row.internal_ips for row in tables.kube_nodes.snapshot()] == [(ip_address("fd00::1"),)],
        )

        await writes.create(PODS, pod("elsewhere", "n2"))
        created = await writes.create(PODS, pod("here", "n1"))
        await until(tables.pods, lambda: "default/here" in tables.pods.snapshot())
        assert tables.pods.snapshot()["default/here"].uid == created["metadata"]["uid"]
        assert "default/elsewhere" not in tables.pods.snapshot()

        with pytest.raises(ApiError) as caught:
            await writes.create(PODS, pod("here", "n1"))
        assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
        created["metadata"]["resourceVersion"] = "1"
        with pytest.raises(ApiError) as caught:
            await writes.replace(PODS, "here", created)
        assert (caught.value.status, caught.value.reason) == (409, "Conflict")

        await writes.delete(PODS, "here")
        await until(
            tables.pods,
            lambda: all(row.deleting for row in tables.pods.snapshot()),
        )
        assert source.quarantine() == []
        assert all(health.connected for health in source.health())
    finally:
        running.cancel()
        await asyncio.wait({running})
