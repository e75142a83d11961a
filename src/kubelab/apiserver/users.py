"""Users: who a request comes from.

Owns: `User`, the groups that the server itself gives, and `REQUESTER`, the user on whose behalf the store is written.
Comes in: names. Goes out: frozen values. In-process controllers have no requester: they are the system.
Source: Kubernetes documentation "Authenticating".
"""

from contextvars import ContextVar
from dataclasses import dataclass

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = "system:anonymous"
MASTERS = "system:masters"
NODES = "system:nodes"
ACCOUNTS = "system:serviceaccounts"
ACCOUNT_PREFIX = "system:serviceaccount:"
NODE_PREFIX = "system:node:"


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def node(self) -> str:
        """The node whose kubelet this is, or ""."""
        return self.name.removeprefix(NODE_PREFIX) if NODES in self.groups and NODE_PREFIX in self.name else ""


CONTROLLERS = User("system:kube-controller-manager", (AUTHENTICATED,))
"""Who writes when nobody asked for it."""
REQUESTER: ContextVar[User | None] = ContextVar("requester", default=None)
WARNINGS: ContextVar[list[str] | None] = ContextVar("warnings", default=None)
"""What the answer to the present request will warn of (Warning headers)."""


def warn(text: str) -> None:
    """Say it to whoever made the present request, once; nobody hears it outside of a request."""
    said = WARNINGS.get()
    if said is not None and text not in said:
        said.append(text)


def account_name(namespace: str, name: str) -> str:
    return f"{ACCOUNT_PREFIX}{namespace}:{name}"


def account_groups(namespace: str) -> tuple[str, ...]:
    return (ACCOUNTS, f"{ACCOUNTS}:{namespace}")


def account_of(user: str) -> tuple[str, str] | None:
    """Namespace and name of the service account that a user name means."""
    namespace, colon, name = user.removeprefix(ACCOUNT_PREFIX).partition(":")
    return (namespace, name) if user.startswith(ACCOUNT_PREFIX) and colon and namespace and name else None
