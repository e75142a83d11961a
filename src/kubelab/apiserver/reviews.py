"""Reviews: questions about users and what they may do.

Owns: the answers to SelfSubjectReview, TokenReview and the three access reviews. Comes in: the asking user and the
body. Goes out: the same object with a status; nothing is stored.
Source: Kubernetes documentation "Authorization Overview".
"""

from typing import Any

from kubelab.apiserver.authentication import Attributes, Authenticator, Authorizer, User
from kubelab.apiserver.errors import ApiError, BadRequest, Forbidden, Unauthorized
from kubelab.apiserver.resources import Resource

Object = dict[str, Any]


class Reviews:
    def __init__(self, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer

    def answer(self, resource: Resource, body: Object, user: User, *, namespace: str) -> Object:
        """The reviewed object. Raises BadRequest for a body that asks nothing."""
        spec = body.get("spec") or {}
        match resource.kind:
            case "SelfSubjectReview":
                status: Object = {"userInfo": _info(user)}
            case "TokenReview":
                status = self._token(spec)
            case "SelfSubjectAccessReview":
                status = self._access(spec, user, namespace)
            case _:
                asked = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""))
                status = self._access(spec, asked, namespace)
        metadata = {**(body.get("metadata") or {}), "creationTimestamp": None}
        reviewed = {"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata}
        return {**reviewed, **({"spec": spec} if spec else {}), "status": status}

    def _token(self, spec: Object) -> Object:
        try:
            user = self._authenticator.authenticate(certificate=None, authorization=f"Bearer {spec.get('token', '')}")
        except Unauthorized as error:
            return {"authenticated": False, "error": error.message}
        return {"authenticated": True, "user": _info(user)}

    def _access(self, spec: Object, user: User, namespace: str) -> Object:
        about = spec.get("resourceAttributes") or spec.get("nonResourceAttributes")
        if not isinstance(about, dict):
            raise BadRequest("spec: Required value: one of resourceAttributes and nonResourceAttributes")
        attributes = Attributes(
            user=user,
            verb=about.get("verb", ""),
            group=about.get("group", ""),
            resource=about.get("resource", "") or about.get("path", ""),
            subresource=about.get("subresource", ""),
            namespace=namespace or about.get("namespace", ""),
            name=about.get("name", ""),
        )
        try:
            self._authorizer.authorize(attributes)
        except Forbidden as error:
            return {"allowed": False, "reason": error.message}
        except ApiError as error:
            return {"allowed": False, "evaluationError": error.message}
        return {"allowed": True}


def _info(user: User) -> Object:
    return {"username": user.name, "groups": list(user.groups), **({"uid": user.uid} if user.uid else {})}
