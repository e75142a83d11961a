"""An API server with a small cluster, for the commands that read it whole."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result
from unit.sources.kubernetes.fake_api import FakeAPI

from cilium.cli.cluster.main import main
from cilium.settings import from_values, to_config_map
from cilium.sources.kubernetes.source import Resource

NS = "shop"
ADDRESSES = {"web-1": "10.0.0.1", "web-2": "10.0.1.1", "db-1": "10.0.1.2", "visitor": "10.0.0.3"}


def pod(name: str, app: str, node: str, ports: list[dict[str, Any]] | None = None, namespace: str = NS) -> Any:
    ip = ADDRESSES.get(name, "10.0.0.99")
    labels = {"app": app, "pod-template-hash": name}
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports or []}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}, {"ip": f"fd00::{ip.replace('.', ':')}"}]},
    }  # fmt: skip


def cnp(name: str, app: str, namespace: str = NS, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "uid": name, "generation": 1},
        "spec": {"endpointSelector": {"matchLabels": {"app": app}}, **spec},
    }


def tcp(port: str) -> list[dict[str, Any]]:
    return [{"ports": [{"port": port, "protocol": "TCP"}]}]


FROM_WEB = {"ingress": [{"fromEndpoints": [{"matchLabels": {"app": "web"}}], "toPorts": tcp("sql")}]}


class World:
    """Pods web (on n1 and n2), db, visitor; a service of web; nothing enforced yet."""

    def __init__(self, api: FakeAPI, directory: Path) -> None:
        self._api = api
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": api.url}}],
                }
            )
        )

    async def fill(self, **values: Any) -> None:
        for resource in Resource:
            self._api.objects.setdefault(resource.value, {})
        data = to_config_map(from_values(values))
        await self._api.put("/api/v1/namespaces/kube-system/configmaps", "cilium-config", {"data": data})
        self._api.objects.setdefault("/api/v1/namespaces/kube-system/pods", {})
        await self.put(Resource.NAMESPACES, {"metadata": {"name": NS, "labels": {"team": "a"}}})
        await self.put(Resource.NAMESPACES, {"metadata": {"name": "bank"}})
        for made in (
            pod("web-1", "web", "n1", [{"name": "http", "containerPort": 8080}]),
            pod("web-2", "web", "n2", [{"name": "http", "containerPort": 8080}]),
            pod("db-1", "db", "n2", [{"name": "sql", "containerPort": 5432}]),
            pod("visitor", "visitor", "n1"),
        ):
            await self.put(Resource.PODS, made)
        for number, name in enumerate(("n1", "n2"), 1):
            addresses = [{"type": "InternalIP", "ip": f"172.30.0.{number}"}]
            await self.put(Resource.CILIUM_NODES, {"metadata": {"name": name}, "spec": {"addresses": addresses}})
        await self.put(
            Resource.SERVICES,
            {
                "metadata": {"name": "web", "namespace": NS},
                "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80, "name": "h"}]},
            },
        )
        await self.put(
            Resource.ENDPOINT_SLICES,
            {
                "metadata": {"name": "web-x", "namespace": NS, "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4",
                "ports": [{"name": "h", "port": 8080, "protocol": "TCP"}],
                "endpoints": [
                    {"addresses": [ADDRESSES[name]], "conditions": {"ready": True}} for name in ("web-1", "web-2")
                ],
            },
        )

    async def put(self, resource: Resource, item: dict[str, Any]) -> None:
        metadata = item["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]
        await self._api.put(resource.value, name, item)

    async def policy(self, *words: str, stdin: str = "") -> Result:
        command = ["policy", *words, "--kubeconfig", str(self.kubeconfig)]
        return await asyncio.to_thread(CliRunner().invoke, main, command, input=stdin)
