"""Who is asking.

Owns: authentication by client certificate or bearer token. Comes in: the TLS peer certificate, the Authorization
header. Goes out: a `User`, or Unauthorized. What the user may do is decided in `authorization`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from kubelab.apiserver.errors import Unauthorized
from kubelab.apiserver.strategies.base import Reader
from kubelab.apiserver.tokens import ISSUER, BoundObject, ServiceAccountClaims, Tokens
from kubelab.apiserver.users import AUTHENTICATED, User, account_groups, account_name

AUDIENCES = (ISSUER,)
"""For whom a token must be meant to be good at this server."""
_POD_NAME, _POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"
_NODE_NAME, _CREDENTIAL = "authentication.kubernetes.io/node-name", "authentication.kubernetes.io/credential-id"


class Authenticator:
    def __init__(self, tokens: Tokens, store: Reader) -> None:
        self._tokens = tokens
        self._store = store

    @property
    def public_keys(self) -> Mapping[str, Any]:
        """For those who check tokens themselves."""
        return self._tokens.public_keys

    def authenticate(self, *, certificate: Mapping[str, Any] | None, authorization: str) -> User:
        """Raises Unauthorized for anonymous requests and for tokens that are no good (any more)."""
        if certificate:
            return _certificate_user(certificate.get("subject", ()))
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("Unauthorized")
        user, _ = self.review(token.strip(), ())
        return user

    def review(self, token: str, audiences: Sequence[str]) -> tuple[User, Sequence[str]]:
        """The user of a token and for whom of `audiences` (none: this server) it is good. Raises Unauthorized."""
        claims = self._tokens.verify(token)
        wanted = audiences or AUDIENCES
        shared = [audience for audience in wanted if not claims.audiences or audience in claims.audiences]
        if not shared:
            raise Unauthorized(f"token audiences {list(claims.audiences)} is invalid for the target {list(wanted)}")
        namespace = claims.namespace
        account = self._store.peek("serviceaccounts", claims.name, namespace=namespace)
        if account is None or account["metadata"]["uid"] != claims.uid:
            raise Unauthorized(f"service account {namespace}/{claims.name} is gone")
        if claims.legacy is not None:
            self._check_legacy(claims, token)
        for resource, bound in (("pods", claims.pod), ("secrets", claims.secret), ("nodes", claims.node)):
            if bound is not None and not (resource == "nodes" and claims.pod is not None):
                self._check_bound(resource, bound, "" if resource == "nodes" else namespace)
        groups = (*account_groups(namespace), AUTHENTICATED)
        return User(account_name(namespace, claims.name), groups, claims.uid, _extra(claims)), shared

    def _check_bound(self, resource: str, bound: BoundObject, namespace: str) -> None:
        obj = self._store.peek(resource, bound.name, namespace=namespace)
        if obj is None or (bound.uid and obj["metadata"]["uid"] != bound.uid):
            name = f"{namespace}/{bound.name}" if namespace else bound.name
            raise Unauthorized(f"{resource[:-1]} {name} of this token is gone")

    def _check_legacy(self, claims: ServiceAccountClaims, token: str) -> None:
        """A token from a Secret is good while the Secret holds it."""
        secret = self._store.peek("secrets", str(claims.legacy), namespace=claims.namespace)
        if secret is None or not self._tokens.is_in(secret, token):
            raise Unauthorized(f"secret {claims.namespace}/{claims.legacy} of this token is gone")


def _extra(claims: ServiceAccountClaims) -> tuple[tuple[str, tuple[str, ...]], ...]:
    extra = [(_CREDENTIAL, (f"JTI={claims.token_id}",))] if claims.token_id else []
    if claims.node is not None:
        extra.append((_NODE_NAME, (claims.node.name,)))
    if claims.pod is not None:
        extra += [(_POD_NAME, (claims.pod.name,)), (_POD_UID, (claims.pod.uid,))]
    return tuple(extra)


@lru_cache(maxsize=1024)
def _certificate_user(subject: tuple[tuple[tuple[str, str], ...], ...]) -> User:
    """CN is the user, every O a group (the form of `SSLObject.getpeercert`)."""
    pairs: Sequence[tuple[str, str]] = [pair for rdn in subject for pair in rdn]
    name = next((value for key, value in pairs if key == "commonName"), "")
    if not name:
        raise Unauthorized("the client certificate has no common name")
    groups = tuple(value for key, value in pairs if key == "organizationName")
    return User(name, (*groups, AUTHENTICATED))
