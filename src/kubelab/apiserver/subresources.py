"""Subresources: status, scale, finalize, binding, eviction, token, and the doors to the kubelet.

Owns: what `/<name>/<subresource>` does. Comes in: a target with a subresource. Goes out: responses. `bind_pod` and
`evict_pod` are also for in-process callers.
"""

from typing import Any

from aiohttp import web

from kubelab import timestamps
from kubelab.apiserver import errors, evictions, jsonpath, selectors
from kubelab.apiserver.admission.base import CONNECT, CREATE, UPDATE
from kubelab.apiserver.bodies import APPLY
from kubelab.apiserver.decoding import decode, decode_apply
from kubelab.apiserver.errors import BadRequest, MethodNotAllowed
from kubelab.apiserver.handlers import ResourceHandlers
from kubelab.apiserver.kubelets import Kubelets
from kubelab.apiserver.options import dry_run, field_manager, force
from kubelab.apiserver.ownership.apply import Applier
from kubelab.apiserver.patches import json_patch, merge_patch
from kubelab.apiserver.proxy import KubeletProxy
from kubelab.apiserver.requests import Target
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.responses import json_response
from kubelab.apiserver.store import Store
from kubelab.apiserver.token_requests import answer_token_request
from kubelab.apiserver.tokens import Tokens
from kubelab.apiserver.web_proxy import WebProxy

Object = dict[str, Any]
_NO_EPHEMERAL_CONTAINERS = (
    "ephemeral containers are not supported by the kubelets of this cluster: use kubectl exec, or debug a copy of the "
    "pod (kubectl debug --copy-to)"
)
_NO_RESIZE = (
    "in-place resize is not supported by the kubelets of this cluster: change the template of the pod's workload, or "
    "delete the pod and create it anew"
)


class Subresources:
    def __init__(self, store: Store, handlers: ResourceHandlers, tokens: Tokens, kubelets: Kubelets) -> None:
        self._store = store
        self._handlers = handlers
        self._tokens = tokens
        self._proxy = KubeletProxy(store, kubelets)
        self._web_proxy = WebProxy(store, kubelets)

    async def handle(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Dispatch by name. Raises MethodNotAllowed."""
        match target.subresource, request.method:
            case (("status" | "finalize" | "approval"), ("GET" | "PUT" | "PATCH")):
                return await self._handlers.handle(request, target)
            case "scale", "GET":
                obj = await self._store.get(target.resource.key, target.name, namespace=target.namespace)
                return json_response(scale_of(obj, target.resource))
            case "scale", ("PUT" | "PATCH"):
                return await self._write_scale(request, target)
            case "binding", "POST":
                return await self._bind(request, target)
            case "eviction", "POST":
                return await self._evict(request, target)
            case "token", "POST":
                return await self._token(request, target)
            case "log", "GET":
                return await self._proxy.logs(request, target)
            case (("exec" | "attach"), ("GET" | "POST")):
                await self._ask_to_connect(request, target)
                return await self._proxy.stream(request, target)
            case "portforward", ("GET" | "POST"):
                await self._ask_to_connect(request, target)
                return await self._proxy.forward(request, target)
            case "proxy", _:
                await self._ask_to_connect(request, target)
                return await self._web_proxy.handle(request, target)
            case "resize", _:
                raise MethodNotAllowed(_NO_RESIZE)
            case "ephemeralcontainers", _:
                raise MethodNotAllowed(_NO_EPHEMERAL_CONTAINERS)
        raise MethodNotAllowed("the server does not allow this method on the requested resource")

    async def _write_scale(self, request: web.Request, target: Target) -> web.Response:
        raw = await request.read()
        obj = await self._store.get(target.resource.key, target.name, namespace=target.namespace)
        scale = scale_of(obj, target.resource)
        applies = request.content_type == APPLY
        forced = force(request, applies=applies)
        if applies:
            wanted, _ = decode_apply(raw)
        elif request.method == "PUT":
            wanted = self._handlers.decoder.object(raw, request.content_type)
        else:
            patch = decode(raw, "application/json")
            json_media = request.content_type == "application/json-patch+json"
            wanted = json_patch(scale, patch) if json_media else merge_patch(scale, patch)
        replicas = (wanted.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            cause = errors.Cause(
                "spec.replicas", "FieldValueInvalid", f"Invalid value: {replicas!r}: want a number, 0 or more"
            )
            raise errors.invalid(group="autoscaling", kind="Scale", name=target.name, causes=[cause])
        sent = {**scale, "spec": {"replicas": replicas}}
        await self._ask(request, target, sent, UPDATE, old=scale)
        change: Object = {}
        _put(change, _scale_paths(target.resource)[0], sent["spec"]["replicas"])
        if applies:
            applier = Applier(field_manager(request), force=forced, subresource="scale")
            updated, _ = await self._store.apply(
                target.resource.key, target.name, change, applier, namespace=target.namespace, dry_run=dry_run(request)
            )
            return json_response(scale_of(updated, target.resource))
        if version := (wanted.get("metadata") or {}).get("resourceVersion"):
            change["metadata"] = {"resourceVersion": version}
        updated = await self._store.patch(
            target.resource.key,
            target.name,
            change,
            namespace=target.namespace,
            manager=field_manager(request),
            through="scale",
            dry_run=dry_run(request),
        )
        return json_response(scale_of(updated, target.resource))

    async def _ask_to_connect(self, request: web.Request, target: Target) -> None:
        """Admission sees the options of a connection."""
        known = target.resource.subresource(target.subresource)
        options: Object = {"kind": known.kind if known else "", "apiVersion": "v1"}
        for name, value in request.query.items():
            if name in ("stdin", "stdout", "stderr", "tty"):
                options[name] = value in ("true", "1")
            elif name == "command":
                options.setdefault(name, []).append(value)
            elif name == "container":
                options[name] = value
        if target.subresource == "proxy":
            options["path"] = target.rest
        await self._ask(request, target, options, CONNECT)

    async def _ask(
        self, request: web.Request, target: Target, obj: Object, operation: str, *, old: Object | None = None
    ) -> None:
        """Admission about what is no write of the object itself. Raises ApiError."""
        await self._store.review(
            target.resource.key,
            target.name,
            obj,
            namespace=target.namespace,
            subresource=target.subresource,
            operation=operation,
            dry_run=dry_run(request),
            old=old,
        )

    async def _bind(self, request: web.Request, target: Target) -> web.Response:
        body = self._handlers.decoder.object(await request.read(), request.headers.get("Content-Type", ""))
        node = (body.get("target") or {}).get("name", "")
        await bind_pod(self._store, target.namespace, target.name, node=node)
        return json_response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, status=201)

    async def _evict(self, request: web.Request, target: Target) -> web.Response:
        body = self._handlers.decoder.object(await request.read(), request.headers.get("Content-Type", ""))
        options = body.get("deleteOptions") or {}
        dry = dry_run(request) or "All" in (options.get("dryRun") or ())
        await evictions.evict(self._store, target.namespace, target.name, options, dry_run=dry)
        return json_response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, status=201)

    async def _token(self, request: web.Request, target: Target) -> web.Response:
        body = self._handlers.decoder.object(await request.read(), request.headers.get("Content-Type", ""))
        await self._ask(request, target, body, CREATE)
        answer = answer_token_request(self._store, self._tokens, body, namespace=target.namespace, name=target.name)
        return json_response(answer, status=201)


async def bind_pod(store: Store, namespace: str, name: str, *, node: str) -> Object:
    """Assign a pod to a node, once. Raises Conflict when it already has one, NotFound, BadRequest without a node."""
    if not node:
        raise BadRequest("Binding: target.name: Required value: name the node")
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"name": node}}
    await store.review("pods", name, binding, namespace=namespace, subresource="binding", operation=CREATE)
    pod = await store.get("pods", name, namespace=namespace)
    assigned = pod["spec"].get("nodeName")
    if assigned:
        why = f"pod {name} is already assigned to node {assigned!r}"
        raise errors.conflict(group="", plural="pods/binding", name=name, why=why)
    if "deletionTimestamp" in pod["metadata"]:
        raise errors.conflict(group="", plural="pods/binding", name=name, why=f"pod {name} is being deleted")
    now = timestamps.now()
    condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    others = [c for c in pod.get("status", {}).get("conditions", []) if c.get("type") != "PodScheduled"]
    bound = {**pod, "spec": {**pod["spec"], "nodeName": node}}
    bound["status"] = {**pod.get("status", {}), "conditions": [*others, condition]}
    return await store.patch("pods", name, lambda _: bound, namespace=namespace, subresource="binding")


def scale_of(obj: Object, resource: Resource) -> Object:
    """The `autoscaling/v1 Scale` view of a scalable object."""
    spec_path, status_path, selector_path = _scale_paths(resource)
    metadata = obj["metadata"]
    status: Object = {"replicas": _first(obj, status_path) or 0}
    selector = _first(obj, selector_path) if selector_path else None
    if resource.key == "replicationcontrollers":  # which has plain labels
        selector = {"matchLabels": selector}
    if selector is not None:
        status["selector"] = selector if isinstance(selector, str) else selectors.to_text(selector)
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {k: metadata[k] for k in kept if k in metadata},
        "spec": {"replicas": _first(obj, spec_path) or 0},
        "status": status,
    }


def _scale_paths(resource: Resource) -> tuple[str, str, str]:
    """Paths of wanted replicas, observed replicas, selector."""
    return resource.scale or (".spec.replicas", ".status.replicas", ".spec.selector")


def _first(obj: Object, path: str) -> Any:
    return next(iter(jsonpath.find(obj, path)), None)


def _put(obj: Object, path: str, value: Any) -> None:
    *parents, last = path.strip(".").split(".")
    for name in parents:
        obj = obj.setdefault(name, {})
    obj[last] = value
