"""Definitions of lists, such as PodList: what answers to a GET of a collection look like.

Comes in: a resource, the name of its definition. Goes out: a definition that is not stored anywhere.
"""

from kubelab.apiserver.openapi.forms import V2
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.schemas import LIST_META, Schema


def list_name(name: str) -> str:
    return f"{name}List"


def list_definition(resource: Resource, version: str, name: str) -> Schema:
    return {
        "type": "object",
        "description": f"Objects of kind {resource.kind}.",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "items": {"type": "array", "description": "The objects.", "items": {"$ref": V2 + name}},
            "kind": {"type": "string"},
            "metadata": {"$ref": V2 + LIST_META, "description": "What the server says about the list."},
        },
        "x-kubernetes-group-version-kind": [
            {"group": resource.group, "version": version, "kind": resource.list_kind},
        ],
    }
