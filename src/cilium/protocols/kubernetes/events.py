"""Events of core/v1 as agents write them: a warning about one object.

In: the object, reason and message. Out: the body. Its name is made of what makes it one Event and no other, so that
what is told twice, or by many nodes, is there once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from cilium.tables.names import event_name

COMPONENT = "cilium-agent"
CLUSTER_NAMESPACE = "default"
"""Of Events about objects that have no namespace."""
LONGEST = 1024
"""Characters of a message that the API takes."""


def warning(
    about: Mapping[str, str], *, reason: str, message: str, unique: Iterable[str], node: str, now: datetime
) -> dict[str, Any]:
    """`about`: kind, apiVersion, name, and namespace and uid as far as it has them; what is empty is left out."""
    digest = hashlib.sha256("\n".join(unique).encode()).hexdigest()[:16]
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": event_name(about["name"], digest),
            "namespace": about.get("namespace") or CLUSTER_NAMESPACE,
        },
        "involvedObject": {key: value for key, value in about.items() if value or key == "apiVersion"},
        "type": "Warning",
        "reason": reason,
        "message": message[:LONGEST],
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
