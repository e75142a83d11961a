"""The OpenAPI definitions of metrics.k8s.io/v1beta1."""

from __future__ import annotations

from typing import Any

_NAMES = "io.k8s.metrics.pkg.apis.metrics.v1beta1"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_USAGE = {
    "type": "object",
    "description": "CPU and memory that were used.",
    "additionalProperties": {"$ref": f"#/definitions/{_QUANTITY}"},
}


def _definition(kind: str, description: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "required": ["timestamp", "window", *properties],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of the API that the object is of."},
            "kind": {"type": "string", "description": "What the object is."},
            "metadata": {"$ref": f"#/definitions/{_META}.ObjectMeta"},
            "timestamp": {
                "type": "string",
                "format": "date-time",
                "description": "The end of the time over which was measured.",
            },
            "window": {"type": "string", "description": "The length of the time over which was measured."},
            **properties,
        },
        "x-kubernetes-group-version-kind": [{"group": "metrics.k8s.io", "version": "v1beta1", "kind": kind}],
    }


NODE_METRICS: dict[str, Any] = {
    f"{_NAMES}.NodeMetrics": _definition("NodeMetrics", "What a node used.", usage=_USAGE),
}
POD_METRICS: dict[str, Any] = {
    f"{_NAMES}.ContainerMetrics": {
        "type": "object",
        "description": "What a container used.",
        "required": ["name", "usage"],
        "properties": {
            "name": {"type": "string", "description": "The container's name, as its pod has it."},
            "usage": _USAGE,
        },
    },
    f"{_NAMES}.PodMetrics": _definition(
        "PodMetrics",
        "What a pod's containers used.",
        containers={
            "type": "array",
            "description": "All containers that run.",
            "items": {"$ref": f"#/definitions/{_NAMES}.ContainerMetrics"},
        },
    ),
}
