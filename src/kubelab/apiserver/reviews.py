"""Reviews: questions about users and what they may do.

Owns: the answers to SelfSubjectReview, TokenReview, the three access reviews and SelfSubjectRulesReview. Comes in: the
asking user and the body. Goes out: the same object with a status; nothing is stored.
Source: Kubernetes documentation "Authorization Overview".
"""

from collections.abc import Iterable
from typing import Any

from kubelab.apiserver.authentication import Authenticator
from kubelab.apiserver.authorization.attributes import Attributes, Authorizer
from kubelab.apiserver.authorization.rbac import RbacAuthorizer
from kubelab.apiserver.authorization.rules import Rule
from kubelab.apiserver.errors import Cause, Unauthorized, invalid
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.strategies.common import invalid_value
from kubelab.apiserver.users import User

Object = dict[str, Any]


class Reviews:
    def __init__(self, authenticator: Authenticator, authorizer: Authorizer, rbac: RbacAuthorizer) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._rbac = rbac

    def answer(self, resource: Resource, body: Object, user: User, *, namespace: str) -> Object:
        """The reviewed object. Raises Invalid for a body that asks nothing."""
        spec = body.get("spec") or {}
        match resource.kind:
            case "SelfSubjectReview":
                status: Object = {"userInfo": _info(user)}
            case "TokenReview":
                status = self._token(spec)
            case "SelfSubjectRulesReview":
                status = self._rules(user, spec.get("namespace", ""))
            case "SelfSubjectAccessReview":
                status = self._access(resource, spec, user)
            case _:
                if not spec.get("user") and not spec.get("groups"):
                    why = 'Invalid value: "": at least one of user or group must be specified'
                    raise _faulty(resource, Cause("spec.user", "FieldValueInvalid", why))
                if resource.kind == "LocalSubjectAccessReview":
                    _check_namespace(resource, spec, namespace)
                status = self._access(resource, spec, _asked(spec))
        metadata = {**(body.get("metadata") or {}), "creationTimestamp": None}
        reviewed = {"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata}
        return {**reviewed, **({"spec": spec} if spec else {}), "status": status}

    def _token(self, spec: Object) -> Object:
        audiences = tuple(spec.get("audiences") or ())
        try:
            user, shared = self._authenticator.review(spec.get("token", ""), audiences)
        except Unauthorized as error:
            return {"user": {}, "error": f"[invalid bearer token, {error.message}]"}
        return {"authenticated": True, "user": _info(user), "audiences": list(shared)}

    def _rules(self, user: User, namespace: str) -> Object:
        rules = self._rbac.rules(user, namespace)
        return {
            "resourceRules": _distinct(_resource_rule(rule) for rule in rules if rule.resources),
            "nonResourceRules": _distinct(
                {"verbs": list(rule.verbs), "nonResourceURLs": list(rule.urls)} for rule in rules if rule.urls
            ),
            "incomplete": bool(user.node),
        }

    def _access(self, resource: Resource, spec: Object, user: User) -> Object:
        about, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if isinstance(about, dict) == isinstance(path, dict):
            why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            raise _faulty(resource, invalid_value("spec.resourceAttributes", about, why))
        if isinstance(path, dict):
            attributes = Attributes(user, path.get("verb", ""), path=path.get("path", ""))
        else:
            fields = ("verb", "group", "resource", "subresource", "namespace", "name")
            assert isinstance(about, dict)
            attributes = Attributes(user, *(about.get(field) or "" for field in fields))
        decision = self._authorizer.decide(attributes)
        return {"allowed": decision.allowed, **({"reason": decision.reason} if decision.reason else {})}


def _asked(spec: Object) -> User:
    extra = tuple((key, tuple(values)) for key, values in (spec.get("extra") or {}).items())
    return User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "", extra)


def _check_namespace(resource: Resource, spec: Object, namespace: str) -> None:
    about = spec.get("resourceAttributes")
    if about is None:
        cause = invalid_value("spec.nonResourceAttributes", None, "disallowed on this kind of request")
        raise _faulty(resource, cause)
    if about.get("namespace") != namespace:
        why = f"must match metadata.namespace: {namespace}"
        raise _faulty(resource, invalid_value("spec.resourceAttributes.namespace", about.get("namespace"), why))


def _faulty(resource: Resource, cause: Cause) -> Exception:
    return invalid(group=resource.group, kind=resource.kind, name="", causes=[cause])


def _resource_rule(rule: Rule) -> Object:
    shown = {"verbs": list(rule.verbs), "apiGroups": list(rule.groups), "resources": list(rule.resources)}
    return {**shown, "resourceNames": list(rule.names)} if rule.names else shown


def _distinct(rules: Iterable[Object]) -> list[Object]:
    found: list[Object] = []
    for rule in rules:
        if rule not in found:
            found.append(rule)
    return found


def _info(user: User) -> Object:
    extra = {key: list(values) for key, values in user.extra}
    return {
        "username": user.name,
        **({"uid": user.uid} if user.uid else {}),
        "groups": list(user.groups),
        **({"extra": extra} if extra else {}),
    }
