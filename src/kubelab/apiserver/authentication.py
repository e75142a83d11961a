"""Who is asking, and whether they may.

Owns: `User`, authentication by client certificate or bearer token, and the seam for authorization. Comes in: the TLS
peer certificate, the Authorization header. Goes out: a `User`, or Unauthorized/Forbidden. Today every authenticated
user may do everything; `Authorizer` is where RBAC goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kubelab.apiserver.errors import Unauthorized
from kubelab.apiserver.strategies.base import Reader
from kubelab.apiserver.tokens import Tokens


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Attributes:
    """One request as an authorizer sees it."""

    user: User
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str


class Authorizer(Protocol):
    def authorize(self, attributes: Attributes) -> None:
        """Return, or raise Forbidden."""


class AllowAuthenticated:
    """Whoever proved who they are may do everything."""

    def authorize(self, attributes: Attributes) -> None:
        return None


class Authenticator:
    def __init__(self, tokens: Tokens, store: Reader) -> None:
        self._tokens = tokens
        self._store = store

    def authenticate(self, *, certificate: Mapping[str, Any] | None, authorization: str) -> User:
        """Raises Unauthorized for anonymous requests, unknown tokens and tokens of accounts or pods that are gone."""
        if certificate:
            return _certificate_user(certificate)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("Unauthorized")
        claims = self._tokens.verify(token.strip())
        account = self._store.peek("serviceaccounts", claims.name, namespace=claims.namespace)
        if account is None or account["metadata"]["uid"] != claims.uid:
            raise Unauthorized(f"Unauthorized: service account {claims.namespace}/{claims.name} is gone")
        if claims.pod:
            pod = self._store.peek("pods", claims.pod, namespace=claims.namespace)
            if pod is None or (claims.pod_uid and pod["metadata"]["uid"] != claims.pod_uid):
                raise Unauthorized(f"Unauthorized: pod {claims.namespace}/{claims.pod} of this token is gone")
        return User(
            f"system:serviceaccount:{claims.namespace}:{claims.name}",
            ("system:serviceaccounts", f"system:serviceaccounts:{claims.namespace}", "system:authenticated"),
            claims.uid,
        )


def _certificate_user(certificate: Mapping[str, Any]) -> User:
    """CN is the user, every O a group (the form of `SSLObject.getpeercert`)."""
    pairs: Sequence[tuple[str, str]] = [pair for rdn in certificate.get("subject", ()) for pair in rdn]
    name = next((value for key, value in pairs if key == "commonName"), "")
    if not name:
        raise Unauthorized("Unauthorized: the client certificate has no common name")
    groups = tuple(value for key, value in pairs if key == "organizationName")
    return User(name, (*groups, "system:authenticated"))
