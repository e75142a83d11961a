"""Who stands behind a Service.

Comes in: Services and EndpointSlices. Goes out: one ready endpoint, with the node from which it is reached.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubelab.apiserver.errors import Unavailable
from kubelab.apiserver.strategies.base import Reader

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Backend:
    """`node` "": not in the pod network (an address that somebody wrote into an EndpointSlice, an external name)."""

    node: str
    host: str
    port: int


def backend(store: Reader, service: Object, port: str) -> Backend:
    """`port`: a name or number, "" for the only one. Raises Unavailable when nobody is there."""
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    ports = service["spec"].get("ports") or []
    named = [p for p in ports if port in ("", p.get("name"), str(p["port"]))]
    if service["spec"].get("type") == "ExternalName":
        number = named[0]["port"] if named else int(port or 443)
        return Backend("", service["spec"]["externalName"], number)
    if not named or (not port and len(ports) > 1):
        raise Unavailable(f'no service port {port!r} found for service "{name}"')
    found = list(_ready(store, namespace, name, named[0].get("name") or ""))
    if not found:
        raise Unavailable(f'no endpoints available for service "{name}"')
    return random.choice(found)


def _ready(store: Reader, namespace: str, service: str, port: str) -> Iterator[Backend]:
    for piece in store.peek_all("endpointslices.discovery.k8s.io", namespace=namespace):
        if (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != service:
            continue
        numbers = [p["port"] for p in piece.get("ports") or () if (p.get("name") or "") == port and p.get("port")]
        for entry in piece.get("endpoints") or ():
            ready = (entry.get("conditions") or {}).get("ready", True)
            if ready is not False and entry.get("addresses") and numbers:
                yield Backend(entry.get("nodeName") or "", entry["addresses"][0], numbers[0])
