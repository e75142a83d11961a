"""What a request asks for.

Owns: `Target` (which resource, object, subresource a URL names) and `Negotiation` (which form of answer the Accept
header wants). Comes in: method, path, headers. Goes out: frozen values for the handlers.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kubelab.apiserver.errors import NotAcceptable, NotFound
from kubelab.apiserver.resources import Registry, Resource

_UNKNOWN = "the server could not find the requested resource"
Form = Literal["object", "Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList"]


ASKED: ContextVar[str] = ContextVar("asked", default="")
"""The version of the resource that the present request names; "" outside of requests: the stored one."""


@dataclass(frozen=True, slots=True)
class Target:
    """The resource a URL names; `name` "" means the collection."""

    resource: Resource
    version: str
    namespace: str
    name: str
    subresource: str
    rest: str = ""


def parse_target(registry: Registry, *, group: str, version: str, path: str) -> Target:
    """Read what follows /api/v1/ or /apis/<group>/<version>/. Raises NotFound as the real server does."""
    parts = [p for p in path.split("/") if p]
    namespace = ""
    # /namespaces/x/pods is inside a namespace; /namespaces/x and /namespaces/x/status are the namespace itself.
    if len(parts) > 2 and parts[0] == "namespaces" and not (group == "" and parts[2] in ("status", "finalize")):
        namespace, parts = parts[1], parts[2:]
    resource = registry.find(group, version, parts[0]) if parts else None
    if resource is None or bool(namespace) > resource.namespaced:
        raise NotFound(_UNKNOWN)
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    if subresource and resource.subresource(subresource) is None:
        raise NotFound(_UNKNOWN)
    if name and resource.namespaced and not namespace:
        raise NotFound(_UNKNOWN)
    return Target(resource, version, namespace, name, subresource, "/".join(parts[3:]))


@dataclass(frozen=True, slots=True)
class Negotiation:
    """The first form of the Accept header that this server speaks."""

    form: Form = "object"
    content_type: str = "application/json"


@lru_cache(maxsize=256)
def negotiate(accept: str) -> Negotiation:
    """Unknown media types are passed over; the plain object is the last resort of who takes JSON. Raises NotAcceptable
    for who does not."""
    json = False
    for choice in accept.split(","):
        media, *parameters = (part.strip() for part in choice.split(";"))
        if media not in ("application/json", "*/*", "application/*", ""):
            continue
        json = True
        options = dict(p.split("=", 1) for p in parameters if "=" in p)
        form, group, version = options.get("as"), options.get("g"), options.get("v")
        match form, group, version:
            case None, _, _:
                return Negotiation()
            case "Table", "meta.k8s.io", "v1":
                return Negotiation("Table")
            case (("PartialObjectMetadata" | "PartialObjectMetadataList"), "meta.k8s.io", "v1"):
                return Negotiation("PartialObjectMetadata")
            case "APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2":
                return Negotiation(
                    "APIGroupDiscoveryList", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                )
    if not json:
        raise NotAcceptable("only the following media types are accepted: application/json")
    return Negotiation()
