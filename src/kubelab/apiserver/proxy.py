"""The doors to the kubelets: pods/log, pods/exec, pods/attach, pods/portforward.

Comes in: client requests. Goes out: the kubelet's byte streams, copied. The kubelet speaks all streaming protocols;
here they pass through.
"""

from typing import Any

import aiohttp
from aiohttp import web

from kubelab.apiserver.errors import BadRequest, NotFound
from kubelab.apiserver.kubelets import Endpoint, Kubelets, refusal, unreachable
from kubelab.apiserver.requests import Target
from kubelab.apiserver.store import Store

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


class KubeletProxy:
    def __init__(self, store: Store, kubelets: Kubelets) -> None:
        self._store, self._kubelets = store, kubelets

    async def logs(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Copy the kubelet's log stream until it ends or the client goes."""
        pod, container = await self._find(target, request.query.get("container", ""))
        if not pod["spec"].get("nodeName"):
            return web.Response(content_type="text/plain")  # nothing was said yet
        endpoint = self._kubelet(pod)
        query = [(k, request.query[k]) for k in _LOG_PARAMETERS if k in request.query]
        path = f"/containerLogs/{target.namespace}/{target.name}/{container}"
        try:
            async with self._kubelets.session(endpoint).get(endpoint.url(path, query)) as upstream:
                if upstream.status != 200:
                    raise refusal(upstream.status, await upstream.text())
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                await response.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
                return response
        except aiohttp.ClientConnectionError as error:
            raise unreachable(endpoint, error) from error

    async def stream(self, request: web.Request, target: Target) -> web.StreamResponse:
        """exec and attach, over WebSockets or SPDY."""
        pod, container = await self._find(target, request.query.get("container", ""))
        if target.subresource == "exec" and not request.query.get("command"):
            raise BadRequest(
                "PodExecOptions is invalid: command: Required value: you must specify at least one command"
            )
        endpoint = self._running_on(pod, target)
        path = f"/{target.subresource}/{target.namespace}/{target.name}/{container}"
        return await self._kubelets.upgrade(request, endpoint, path, _stream_query(request))

    async def forward(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Port-forward: the ports are in the streams, or in `ports` for WebSocket channels."""
        pod = await self._store.get("pods", target.name, namespace=target.namespace)
        endpoint = self._running_on(pod, target)
        ports = [("port", value) for value in request.query.getall("ports", [])]
        path = f"/portForward/{target.namespace}/{target.name}"
        return await self._kubelets.upgrade(request, endpoint, path, ports)

    async def _find(self, target: Target, container: str) -> tuple[Object, str]:
        pod = await self._store.get("pods", target.name, namespace=target.namespace)
        spec = pod["spec"]
        names = [c["name"] for c in spec.get("containers") or ()]
        inits = [c["name"] for c in spec.get("initContainers") or ()]
        preferred = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
        if not container and (len(names) == 1 or preferred in names):
            container = str(preferred) if preferred in names else names[0]
        if not container:
            choices = f"choose one of: [{' '.join(names)}]"
            if inits:
                choices += f" or one of the init containers: [{' '.join(inits)}]"
            raise BadRequest(f"a container name must be specified for pod {target.name}, {choices}")
        if container not in names + inits:
            raise BadRequest(f"container {container} is not valid for pod {target.name}")
        return pod, container

    def _running_on(self, pod: Object, target: Target) -> Endpoint:
        if not pod["spec"].get("nodeName"):
            raise BadRequest(f"pod {target.name} does not have a host assigned")
        return self._kubelet(pod)

    def _kubelet(self, pod: Object) -> Endpoint:
        name = pod["spec"]["nodeName"]
        try:
            return self._kubelets.of_node(name)
        except NotFound as error:
            raise NotFound(f"{error}: the pod is assigned to it", kind="nodes", name=name) from None


def _stream_query(request: web.Request) -> list[tuple[str, str]]:
    """The kubelet's names for the streams: input, output, error, tty."""
    query = [("command", c) for c in request.query.getall("command", [])]
    for ours, theirs in (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")):
        if request.query.get(ours) in ("true", "1"):
            query.append((theirs, "1"))
    return query
