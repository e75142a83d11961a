"""Events: what happened to an object, for `kubectl describe` and `kubectl get events`.

In: an object and what happened. Out: core/v1 Event objects; one that says the same again is counted, not repeated.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Literal

from kubelab import timestamps
from kubelab.apiserver.errors import ApiError
from kubelab.apiserver.store import Store
from kubelab.controllers.objects import Object


async def record(
    store: Store,
    obj: Object,
    *,
    kind: Literal["Normal", "Warning"] = "Normal",
    reason: str,
    message: str,
    component: str,
    now: datetime,
) -> None:
    """Record an event. Never fails: an event that cannot be written is nobody's problem."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace") or "default"
    digest = hashlib.sha256(f"{metadata.get('uid')}{kind}{reason}{message}{component}".encode()).hexdigest()[:16]
    name = f"{metadata['name'][:200]}.{digest}"
    try:
        old = store.peek("events", name, namespace=namespace)
        if old is not None:
            change = {"count": old.get("count", 1) + 1, "lastTimestamp": timestamps.seconds(now)}
            await store.patch("events", name, change, namespace=namespace)
            return
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": obj["apiVersion"],
                "kind": obj["kind"],
                "name": metadata["name"],
                **({"namespace": metadata["namespace"]} if metadata.get("namespace") else {}),
                "uid": metadata.get("uid", ""),
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "reason": reason,
            "message": message,
            "type": kind,
            "count": 1,
            "firstTimestamp": timestamps.seconds(now),
            "lastTimestamp": timestamps.seconds(now),
            "source": {"component": component},
            "reportingComponent": component,
            "reportingInstance": "",
        }
        await store.create("events", event, namespace=namespace)
    except ApiError:
        return
