"""The Services of which containers are told by variables: the API server's, and those of their namespace.

In: the API server. Out: Services, as they were known last while the API server is away, which holds up no container.
"""

from __future__ import annotations

import asyncio

import aiohttp
import structlog

from kubelab.kubelet.client import ApiClient, ApiError
from kubelab.kubelet.config import KubeletConfig, Object

log = structlog.get_logger(__name__)

TIMEOUT = 2.0
API_SERVER = ("default", "kubernetes")
"""Namespace and name of the Service that is the API server's."""


class KnownServices:
    """Of one kubelet."""

    def __init__(self, client: ApiClient, config: KubeletConfig) -> None:
        self._client, self._config = client, config
        self._known: dict[str, list[Object]] = {}
        self._api_server: Object | None = None

    async def of(self, pod: Object) -> list[Object]:
        """The API server's first, then, with ``enableServiceLinks``, those of the pod's namespace."""
        found = [await self._server(pod)]
        if pod["spec"].get("enableServiceLinks", True):
            listed = await self._listed(pod["metadata"]["namespace"])
            found += [service for service in listed if _key(service) != API_SERVER]
        return found

    async def _server(self, pod: Object) -> Object:
        """By its cluster IP, where one reaches that: not on the node's network, whose pods may be what serves it."""
        if not self._config.cluster_ips or pod["spec"].get("hostNetwork"):
            return direct(self._config)
        if self._api_server is None:
            listed = await self._listed(API_SERVER[0])
            self._api_server = next((service for service in listed if _key(service) == API_SERVER), None)
        return self._api_server or direct(self._config)

    async def _listed(self, namespace: str) -> list[Object]:
        try:
            async with asyncio.timeout(TIMEOUT):
                listed = await self._client.get(f"/api/v1/namespaces/{namespace}/services")
            self._known[namespace] = listed["items"]
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("services not fetched", namespace=namespace, error=str(error) or repr(error))
        return self._known.get(namespace, [])


def direct(config: KubeletConfig) -> Object:
    """As if its Service had the API server's own address."""
    port = {"name": "https", "protocol": "TCP", "port": int(config.api_port)}
    metadata = {"namespace": API_SERVER[0], "name": API_SERVER[1]}
    return {"metadata": metadata, "spec": {"clusterIP": config.api_host, "ports": [port]}}


def _key(service: Object) -> tuple[str, str]:
    return service["metadata"]["namespace"], service["metadata"]["name"]
