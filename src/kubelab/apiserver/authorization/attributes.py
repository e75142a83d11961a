"""A request as an authorizer sees it.

Owns: `Attributes`, `Decision`, the reading of both out of method and path, and the words of a refusal. Comes in: a
user, a method, a path, a query. Goes out: frozen values; Forbidden. The path is read by its form alone: whether there
is such a resource is not asked before it is clear that the user may ask.
Source: Kubernetes documentation "Authorization", "Determine the request verb".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from kubelab.apiserver.errors import Forbidden, forbidden
from kubelab.apiserver.users import User

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Attributes:
    """`path` is set for what is no resource, and then nothing else but the verb."""

    user: User
    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: str = ""
    """The field selector of a list or watch."""

    @property
    def qualified(self) -> str:
        """`pods`, `pods/log`: as rules write it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` says why it was allowed, or what went wrong on the way to a refusal."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Grants:
    """What a user may do somewhere: policy rules as roles write them, resources and URLs apart."""

    resources: list[Mapping[str, object]] = field(default_factory=list)
    urls: list[Mapping[str, object]] = field(default_factory=list)


class Authorizer(Protocol):
    def decide(self, attributes: Attributes) -> Decision: ...


def request_attributes(user: User, method: str, path: str, query: Mapping[str, str]) -> Attributes:
    """What a request asks for."""
    parts = [part for part in path.split("/") if part]
    skip = {"api": 2, "apis": 3}.get(parts[0] if parts else "", 0)
    if not skip or len(parts) <= skip:
        return Attributes(user, method.lower(), path=path)
    group = parts[1] if skip == 3 else ""
    rest, namespace = parts[skip:], ""
    verb = _VERBS.get(method, method.lower())
    if rest[0] == "watch" and len(rest) > 1:
        verb, rest = "watch", rest[1:]
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in ("status", "finalize"):
            rest = rest[2:]
    resource, name, subresource = (*rest[:3], "", "")[:3] if len(rest) > 1 else (rest[0], "", "")
    if not name and verb == "get":
        verb = "watch" if query.get("watch") in ("true", "1") else "list"
        name = selected(query.get("fieldSelector", ""), "metadata.name")
    elif not name and verb == "delete":
        verb = "deletecollection"
    fields = query.get("fieldSelector", "") if verb in ("list", "watch") else ""
    return Attributes(user, verb, group, resource, subresource, namespace, name, fields=fields)


def selected(fields: str, path: str) -> str:
    """The one value of a field that a selector leaves, "" for any."""
    for term in fields.split(","):
        key, _, value = term.replace("==", "=").partition("=")
        if key == path and value:
            return value
    return ""


def refusal(attributes: Attributes, reason: str = "") -> Forbidden:
    """In the words of the real server."""
    asked = attributes
    if not asked.resource:
        why = f'User "{asked.user.name}" cannot {asked.verb} path "{asked.path}"'
        return Forbidden(f"forbidden: {why}{': ' + reason if reason else ''}")
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    why = (
        f'User "{asked.user.name}" cannot {asked.verb} resource "{asked.qualified}" '
        f'in API group "{asked.group}" {where}{": " + reason if reason else ""}'
    )
    return forbidden(group=asked.group, plural=asked.resource, name=asked.name, why=why)
