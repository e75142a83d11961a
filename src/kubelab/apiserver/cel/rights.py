"""The `authorizer` of policies and match conditions: may the user of the request do something else too?

An authorizer is a map that grows with each call: `authorizer.group('apps').resource('deployments').check('create')`.
Who decides is a context variable, set around an evaluation. Source: Kubernetes documentation "Validating Admission
Policy".
"""

from contextvars import ContextVar
from typing import Any

from kubelab.apiserver.authorization.attributes import Attributes, Authorizer
from kubelab.apiserver.cel.functions import BOOL, OPAQUE, STRING, method
from kubelab.apiserver.users import AUTHENTICATED, CONTROLLERS, REQUESTER, User, account_groups, account_name

Opaque = dict[str, Any]
AUTHORIZER: ContextVar[Authorizer | None] = ContextVar("authorizer", default=None)


def _with(field: str) -> Any:
    return lambda value, text: {**value, field: text}


def _account(value: Opaque, namespace: str, name: str) -> Opaque:
    return {**value, "account": [namespace, name]}


def _user(value: Opaque) -> User:
    if "account" in value:
        namespace, name = value["account"]
        return User(account_name(namespace, name), (*account_groups(namespace), AUTHENTICATED))
    return REQUESTER.get() or CONTROLLERS


def _check(value: Opaque, verb: str) -> Opaque:
    fields = ("group", "resource", "subresource", "namespace", "name", "path")
    asked = Attributes(_user(value), verb, **{field: str(value.get(field, "")) for field in fields})
    authorizer = AUTHORIZER.get()
    decision = authorizer.decide(asked) if authorizer is not None else None
    return {"allowed": decision.allowed if decision else False, "reason": decision.reason if decision else ""}


FUNCTIONS = (
    *(
        method(field, ((OPAQUE, STRING), OPAQUE, _with(field)))
        for field in ("path", "group", "resource", "subresource", "namespace", "name")
    ),
    method("serviceAccount", ((OPAQUE, STRING, STRING), OPAQUE, _account)),
    method("check", ((OPAQUE, STRING), OPAQUE, _check)),
    method("allowed", ((OPAQUE,), BOOL, lambda value: value["allowed"])),
    method("reason", ((OPAQUE,), STRING, lambda value: value["reason"])),
    method("errored", ((OPAQUE,), BOOL, lambda _: False)),
    method("error", ((OPAQUE,), STRING, lambda _: "")),
)
