"""TokenRequest: a token for a service account, on demand.

Owns: the subresource `serviceaccounts/token`. Comes in: the account's name and the request. Goes out: the answered
request. Raises NotFound, Invalid, Conflict. Source: Kubernetes documentation "Managing Service Accounts".
"""

from typing import Any

from kubelab import timestamps
from kubelab.apiserver import errors
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Reader
from kubelab.apiserver.strategies.common import invalid_value
from kubelab.apiserver.tokens import ISSUER, BoundObject, Tokens

Object = dict[str, Any]
_GROUP = "authentication.k8s.io"
_MIN, _DEFAULT, _MAX = 600, 3600, 2**32
_KINDS = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


def answer_token_request(store: Reader, tokens: Tokens, body: Object, *, namespace: str, name: str) -> Object:
    """The request with its token."""
    account = store.peek("serviceaccounts", name, namespace=namespace)
    if account is None:
        raise errors.not_found(group="", plural="serviceaccounts", name=name)
    spec = body.get("spec") or {}
    seconds = spec.get("expirationSeconds") or _DEFAULT
    if seconds < _MIN or seconds > _MAX:
        limit = "less than 10 minutes" if seconds < _MIN else "larger than 2^32 seconds"
        why = f"may not specify a duration {limit}"
        raise _faulty(invalid_value("spec.expirationSeconds", seconds, why))
    bound = _bound(store, spec.get("boundObjectRef"), account)
    audiences = [audience for audience in spec.get("audiences") or () if audience]
    token, expiry = tokens.issue(account, seconds=seconds, audiences=audiences, bound=bound)
    stamp = timestamps.seconds(expiry)
    return {
        "kind": "TokenRequest",
        "apiVersion": f"{_GROUP}/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": None},
        "spec": {
            "audiences": audiences or [ISSUER],
            "expirationSeconds": seconds,
            "boundObjectRef": spec.get("boundObjectRef"),
        },
        "status": {"token": token, "expirationTimestamp": stamp},
    }


def _bound(store: Reader, reference: Object | None, account: Object) -> dict[str, BoundObject]:
    """What the token shall die with, as it is now; with a pod comes its node."""
    if not reference:
        return {}
    kind, name = reference.get("kind", ""), reference.get("name", "")
    plural = _KINDS.get(kind)
    if plural is None:
        why = f"cannot bind token for serviceaccount to object: {kind}, {reference.get('apiVersion')}"
        raise _faulty(invalid_value("spec.boundObjectRef", kind, why))
    obj = store.peek(plural, name, namespace="" if kind == "Node" else account["metadata"]["namespace"])
    if obj is None:
        raise errors.not_found(group="", plural=plural, name=name)
    uid = obj["metadata"]["uid"]
    if reference.get("uid") and reference["uid"] != uid:
        why = (
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            f"The object might have been deleted and then recreated"
        )
        raise errors.conflict(group="", plural=plural, name=name, why=why)
    bound = {kind.lower(): BoundObject(name, uid)}
    if kind == "Pod":
        own, mine = obj["spec"].get("serviceAccountName"), account["metadata"]["name"]
        if own != mine:
            why = f"cannot bind token for serviceaccount {mine!r} to pod running with different serviceaccount name."
            raise errors.forbidden(group="", plural="serviceaccounts/token", name=mine, why=why)
        if node := obj["spec"].get("nodeName"):
            record = store.peek("nodes", node)
            bound["node"] = BoundObject(node, record["metadata"]["uid"] if record else "")
    return bound


def _faulty(cause: Cause) -> errors.Invalid:
    return errors.invalid(group=_GROUP, kind="TokenRequest", name="", causes=[cause])
