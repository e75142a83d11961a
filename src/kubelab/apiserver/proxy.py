"""The way to the kubelets.

Owns: forwarding of pods/log, pods/exec and pods/attach to the kubelet of the pod's node. Comes in: client requests.
Goes
out: the kubelet's byte streams, copied. A kubelet is reached by the unix socket that its Node names in the annotation
`kubelab.io/kubelet-socket`, or by InternalIP and status.daemonEndpoints.kubeletEndpoint.Port, in plain HTTP.
WebSocket subprotocols v5.channel.k8s.io and v4.channel.k8s.io pass through unchanged.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from kubelab.apiserver.errors import BadRequest, InternalError, NotFound
from kubelab.apiserver.requests import Target
from kubelab.apiserver.store import Store

SOCKET_ANNOTATION = "kubelab.io/kubelet-socket"
_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_LOG_PARAMETERS = (
    "follow",
    "tailLines",
    "sinceSeconds",
    "sinceTime",
    "previous",
    "timestamps",
    "limitBytes",
    "stream",
)
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a kubelet listens: `socket` when not empty, else host and port."""

    node: str
    socket: str = ""
    host: str = ""
    port: int = 0

    def url(self, path: str, query: list[tuple[str, str]]) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        base = "http://kubelet" if self.socket else f"http://{host}:{self.port}"
        return f"{base}{path}?{urlencode(query)}"


def kubelet_endpoint(node: Mapping[str, Any]) -> Endpoint:
    """Raises InternalError for a node that says neither socket nor address and port."""
    name = node["metadata"]["name"]
    socket = (node["metadata"].get("annotations") or {}).get(SOCKET_ANNOTATION)
    if socket:
        return Endpoint(name, socket=socket)
    status = node.get("status") or {}
    host = next((a["address"] for a in status.get("addresses") or () if a.get("type") == "InternalIP"), "")
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port", 0)
    if not host or not port:
        raise InternalError(
            f"node {name}: no way to its kubelet: status.addresses has no InternalIP, or "
            f"status.daemonEndpoints.kubeletEndpoint.Port is not set, and there is no annotation {SOCKET_ANNOTATION}"
        )
    return Endpoint(name, host=host, port=port)


class KubeletProxy:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def logs(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Copy the kubelet's log stream until it ends or the client goes."""
        pod, container = await self._find(target, request.query.get("container", ""))
        endpoint = await self._kubelet(pod)
        query = [(k, request.query[k]) for k in _LOG_PARAMETERS if k in request.query]
        path = f"/containerLogs/{target.namespace}/{target.name}/{container}"
        try:
            async with self._session(endpoint).get(endpoint.url(path, query)) as upstream:
                if upstream.status != 200:
                    raise BadRequest((await upstream.text()).strip() or f"the kubelet answered {upstream.status}")
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                await response.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
                return response
        except aiohttp.ClientConnectionError as error:
            raise _unreachable(endpoint, error) from error

    async def stream(self, request: web.Request, target: Target) -> web.StreamResponse:
        """exec and attach: one WebSocket to the client, one to the kubelet, messages copied both ways."""
        offered = [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        chosen = [p for p in _PROTOCOLS if p in offered]
        if request.headers.get("Upgrade", "").lower() != "websocket" or not chosen:
            raise BadRequest(
                f"{target.subresource} wants a WebSocket with the subprotocol {' or '.join(_PROTOCOLS)}; "
                f"SPDY is not served: use kubectl 1.31 or newer"
            )
        pod, container = await self._find(target, request.query.get("container", ""))
        if target.subresource == "exec" and not request.query.get("command"):
            raise BadRequest(
                "PodExecOptions is invalid: command: Required value: you must specify at least one command"
            )
        endpoint = await self._kubelet(pod)
        path = f"/{target.subresource}/{target.namespace}/{target.name}/{container}"
        try:
            upstream = await self._session(endpoint).ws_connect(
                endpoint.url(path, _stream_query(request)), protocols=chosen, max_msg_size=0, autoping=False
            )
        except aiohttp.WSServerHandshakeError as error:
            raise BadRequest(f"the kubelet of node {endpoint.node} refused: {error.message}") from error
        except aiohttp.ClientConnectionError as error:
            raise _unreachable(endpoint, error) from error
        async with upstream:
            client = web.WebSocketResponse(protocols=[upstream.protocol or chosen[0]], max_msg_size=0, autoping=False)
            await client.prepare(request)
            await _copy_both(client, upstream)
        return client

    async def _find(self, target: Target, container: str) -> tuple[Object, str]:
        pod = await self._store.get("pods", target.name, namespace=target.namespace)
        spec = pod["spec"]
        names = [c["name"] for c in spec.get("containers") or ()]
        inits = [c["name"] for c in [*(spec.get("initContainers") or ()), *(spec.get("ephemeralContainers") or ())]]
        preferred = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
        if not container and (len(names) == 1 or preferred in names):
            container = str(preferred) if preferred in names else names[0]
        if not container:
            choices = ", ".join(names)
            raise BadRequest(f"a container name must be specified for pod {target.name}, choose one of: [{choices}]")
        if container not in names + inits:
            raise BadRequest(f"container {container} is not valid for pod {target.name}")
        if not spec.get("nodeName"):
            raise BadRequest(f"pod {target.name} does not have a host assigned")
        return pod, container

    async def _kubelet(self, pod: Object) -> Endpoint:
        name = pod["spec"]["nodeName"]
        node = self._store.peek("nodes", name)
        if node is None:
            raise NotFound(f'nodes "{name}" not found: the pod is assigned to it', kind="nodes", name=name)
        return kubelet_endpoint(node)

    def _session(self, endpoint: Endpoint) -> aiohttp.ClientSession:
        """One session per unix socket, one for all TCP kubelets."""
        session = self._sessions.get(endpoint.socket)
        if session is None:
            connector = aiohttp.UnixConnector(path=endpoint.socket) if endpoint.socket else aiohttp.TCPConnector()
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
            session = self._sessions[endpoint.socket] = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return session


def _stream_query(request: web.Request) -> list[tuple[str, str]]:
    """The kubelet's names for the streams: input, output, error, tty."""
    query = [("command", c) for c in request.query.getall("command", [])]
    for ours, theirs in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")):
        if request.query.get(ours) in ("true", "1"):
            query.append((theirs, "1"))
    return query


async def _copy_both(client: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
    """Until either side closes; then the other is closed with the same code."""
    up = asyncio.create_task(_copy(client, upstream), name="exec client to kubelet")
    down = asyncio.create_task(_copy(upstream, client), name="exec kubelet to client")
    try:
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        await upstream.close()
        await client.close()


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _copy(source: _Socket, sink: _Socket) -> None:
    async for message in source:
        match message.type:
            case aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            case aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)
            case aiohttp.WSMsgType.PING:
                await source.pong(message.data)
    code = source.close_code or aiohttp.WSCloseCode.OK
    # 1005 and 1006 say that no code arrived: they are never sent.
    await sink.close(code=aiohttp.WSCloseCode.OK if code in (1005, 1006) else code)


def _unreachable(endpoint: Endpoint, error: Exception) -> InternalError:
    where = endpoint.socket or f"{endpoint.host}:{endpoint.port}"
    return InternalError(
        f"error dialing backend: the kubelet of node {endpoint.node} at {where} does not answer: {error}"
    )
