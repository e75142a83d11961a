"""nodes/proxy, pods/proxy and services/proxy: HTTP through the API server to kubelets and into the pod network.

Comes in: requests to `<name>/proxy/<path>`, where a name is `[scheme:]name[:port]`. Goes out: the answer of who is
meant, streamed. The pod network is reached from a node: that node's kubelet makes the request.
"""

from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from aiohttp import web

from kubelab.apiserver.backends import backend
from kubelab.apiserver.errors import BadRequest, NotFound, Unavailable
from kubelab.apiserver.kubelets import Endpoint, Kubelets, unreachable
from kubelab.apiserver.requests import Target
from kubelab.apiserver.store import Store

_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade", "host", "authorization", "content-length")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """What `[scheme:]name[:port]` says; port "" means the default."""

    scheme: str
    name: str
    port: str

    @classmethod
    def read(cls, text: str) -> "Named":
        """Raises BadRequest for a scheme that is none."""
        parts = text.split(":")
        if len(parts) == 1:
            return cls("http", parts[0], "")
        if len(parts) == 2:
            return cls("http", parts[0], parts[1])
        if len(parts) != 3 or parts[0] not in ("", "http", "https"):
            raise BadRequest(f"invalid proxy request {text!r}: want [http: or https:]NAME[:PORT]")
        return cls(parts[0] or "http", parts[1], parts[2])


class WebProxy:
    def __init__(self, store: Store, kubelets: Kubelets) -> None:
        self._store, self._kubelets = store, kubelets

    async def handle(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Dispatch by resource. Raises NotFound, Unavailable, BadRequest."""
        wanted = Named.read(target.name)
        match target.resource.plural:
            case "nodes":
                return await self._send(request, target, self._kubelets.of_node(wanted.name), "")
            case "pods":
                node, host, port = await self._pod(target.namespace, wanted)
            case _:
                node, host, port = await self._service(target.namespace, wanted)
        endpoint = self._kubelets.of_node(node)
        return await self._send(request, target, endpoint, f"/proxy/{wanted.scheme}/{quote(host, safe='')}/{port}")

    async def _pod(self, namespace: str, wanted: Named) -> tuple[str, str, int]:
        """(node, address, port): the port asked for, else the first that the pod declares."""
        pod = await self._store.get("pods", wanted.name, namespace=namespace)
        declared = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
        address = (pod.get("status") or {}).get("podIP")
        if not address or not pod["spec"].get("nodeName"):
            raise Unavailable(f"pod {wanted.name}: it has no address yet")
        if not wanted.port:
            return pod["spec"]["nodeName"], address, next((p["containerPort"] for p in declared), 80)
        number = next((p["containerPort"] for p in declared if p.get("name") == wanted.port), wanted.port)
        return pod["spec"]["nodeName"], address, _number(number)

    async def _service(self, namespace: str, wanted: Named) -> tuple[str, str, int]:
        """(node, address, port) of one of its ready endpoints."""
        service = await self._store.get("services", wanted.name, namespace=namespace)
        found = backend(self._store, service, wanted.port)
        if not found.node:
            raise Unavailable(f'no endpoints available for service "{wanted.name}"')
        return found.node, found.host, found.port

    async def _send(self, request: web.Request, target: Target, endpoint: Endpoint, prefix: str) -> web.StreamResponse:
        """The request as it came, to the kubelet's `prefix` and the path behind `/proxy`."""
        path = prefix + _path_behind_proxy(request, target)
        query = list(request.query.items())
        if request.headers.get("Upgrade"):
            return await self._kubelets.upgrade(request, endpoint, path, query)
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP]
        body = await request.read() if request.can_read_body else None
        session = self._kubelets.session(endpoint)
        try:
            async with session.request(
                request.method, endpoint.url(path, query), headers=headers, data=body, allow_redirects=False
            ) as upstream:
                kept = [(k, v) for k, v in upstream.headers.items() if k.lower() not in _HOP_BY_HOP]
                response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
                response.headers.extend(kept)
                await response.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
                return response
        except aiohttp.ClientConnectionError as error:
            raise unreachable(endpoint, error) from error


def _path_behind_proxy(request: web.Request, target: Target) -> str:
    """As the client wrote it: an empty path and a final slash mean something to servers."""
    raw = request.rel_url.raw_path
    _, _, behind = raw.partition(f"/{target.resource.plural}/{quote(target.name, safe=':')}/proxy")
    if not behind and target.rest:
        raise NotFound("the server could not find the requested resource")
    return behind or "/"


def _number(text: str | int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise BadRequest(f"port {text!r}: the pod declares no port of that name") from None
    if not 0 < number < 65536:
        raise BadRequest(f"port {text!r}: want 1 to 65535")
    return number
