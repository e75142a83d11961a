"""Impersonation: a request on another user's behalf.

Comes in: the authenticated user and the Impersonate-* headers. Goes out: the user to go on with; Forbidden when the
first may not `impersonate` the second. Source: Kubernetes documentation "User Impersonation".
"""

from collections.abc import Iterator
from urllib.parse import unquote

from multidict import CIMultiDictProxy

from kubelab.apiserver.authorization.attributes import Attributes
from kubelab.apiserver.authorization.chain import Chain
from kubelab.apiserver.errors import InternalError
from kubelab.apiserver.users import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User, account_groups, account_of

_USER, _GROUP, _UID, _EXTRA = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "impersonate-extra-"
_AUTHENTICATION = "authentication.k8s.io"


def impersonated(user: User, headers: CIMultiDictProxy[str], authorizer: Chain) -> User:
    """`user` itself without such headers. Raises Forbidden; InternalError for groups or extras without a user."""
    name, uid = headers.get(_USER, ""), headers.get(_UID, "")
    groups = tuple(headers.getall(_GROUP, []))
    extra = tuple(_extra(headers))
    if not name:
        if groups or uid or extra:
            raise InternalError("requested groups, a UID or extra fields to impersonate without impersonating a user")
        return user
    account = account_of(name)
    if account:
        asked = [Attributes(user, "impersonate", "", "serviceaccounts", "", *account)]
    else:
        asked = [Attributes(user, "impersonate", "", "users", name=name)]
    asked += [Attributes(user, "impersonate", "", "groups", name=group) for group in groups]
    if uid:
        asked.append(Attributes(user, "impersonate", _AUTHENTICATION, "uids", name=uid))
    for key, values in extra:
        asked += [Attributes(user, "impersonate", _AUTHENTICATION, "userextras", key, name=value) for value in values]
    for attributes in asked:
        authorizer.check(attributes)
    if account and not groups:
        groups = account_groups(account[0])
    if name == ANONYMOUS:
        groups = groups if UNAUTHENTICATED in groups else (*groups, UNAUTHENTICATED)
    elif AUTHENTICATED not in groups and UNAUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(name, groups, uid, extra)


def _extra(headers: CIMultiDictProxy[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    keys = dict.fromkeys(key.lower() for key in headers if key.lower().startswith(_EXTRA))
    for key in keys:
        yield unquote(key.removeprefix(_EXTRA)), tuple(headers.getall(key))
