"""The paths of an OpenAPI document: what can be done with a resource.

Owns: what kubectl looks for in them: the kind of each operation, the media types of patches, the parameters dryRun,
fieldManager and fieldValidation. Comes in: a resource, its version, the reference to its definition, which says whether
the document is v2 or v3. Goes out: path items.
"""

from typing import Any

from kubelab.apiserver.openapi.forms import V3
from kubelab.apiserver.resources import Resource

Object = dict[str, Any]
_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_WRITING = ("dryRun", "fieldManager", "fieldValidation")


def paths_of(resource: Resource, version: str, reference: str) -> Object:
    base = f"/apis/{resource.group}/{version}" if resource.group else f"/api/{version}"
    namespaced = f"{base}/namespaces/{{namespace}}/{resource.plural}"
    collection = namespaced if resource.namespaced else f"{base}/{resource.plural}"
    gvk = {"group": resource.group, "version": version, "kind": resource.kind}
    third = reference.startswith(V3)

    def operation(action: str, *, writes: bool = False, media: tuple[str, ...] = ()) -> Object:
        made: Object = {
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
            "operationId": f"{action}_{resource.key}_{version}",
            "responses": {"200": {"description": "OK"}},
        }
        if writes:
            made["parameters"] = [_query(name, third=third) for name in _WRITING]
        if media and third:
            body = {"$ref": reference}
            made["requestBody"] = {
                "content": {m: {"schema": body if m == "*/*" else {"type": "object"}} for m in media}
            }
        elif media:
            made["consumes"] = list(media)
        return made

    patches = tuple(p for p in _PATCHES if not (resource.custom and "strategic" in p))
    return {
        collection: {
            "get": operation("list"),
            "post": operation("post", writes=True, media=("*/*",)),
            "delete": operation("deletecollection"),
        },
        f"{collection}/{{name}}": {
            "get": operation("get"),
            "put": operation("put", writes=True, media=("*/*",)),
            "patch": operation("patch", writes=True, media=patches),
            "delete": operation("delete", writes=True),
        },
    }


def _query(name: str, *, third: bool) -> Object:
    kind: Object = {"schema": {"type": "string", "uniqueItems": True}} if third else {"type": "string"}
    return {"name": name, "in": "query", **kind}
