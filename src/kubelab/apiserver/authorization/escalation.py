"""Nobody grants what they do not hold.

Owns: the check of writes to roles and bindings. Comes in: a write and the user who makes it. Goes out: Forbidden that
lists the missing rules. Whoever may `escalate` a role, or `bind` it, is free of the check.
Source: Kubernetes documentation "Privilege escalation prevention and bootstrapping".
"""

from collections.abc import Iterable

from kubelab.apiserver.admission.base import Plugin, Write
from kubelab.apiserver.authorization.attributes import Attributes, Authorizer
from kubelab.apiserver.authorization.rbac import BINDINGS, CLUSTER_BINDINGS, CLUSTER_ROLES, GROUP, ROLES, RbacAuthorizer
from kubelab.apiserver.authorization.rules import Rule, missing
from kubelab.apiserver.errors import Forbidden, forbidden, not_found
from kubelab.apiserver.users import MASTERS, REQUESTER, User

_WHOLE = (Rule(("*",), ("*",), ("*",)), Rule(("*",), urls=("*",)))


class Escalation(Plugin):
    handles = frozenset({ROLES, CLUSTER_ROLES, BINDINGS, CLUSTER_BINDINGS})

    def __init__(self, rbac: RbacAuthorizer, authorizer: Authorizer) -> None:
        self._rbac = rbac
        self._authorizer = authorizer

    def validate(self, write: Write) -> None:
        user = REQUESTER.get()
        if user is None or MASTERS in user.groups or write.subresource or _only_housekeeping(write):
            return
        if write.resource.key in (ROLES, CLUSTER_ROLES):
            self._role(write, user)
        else:
            self._binding(write, user)

    def _role(self, write: Write, user: User) -> None:
        name = write.obj["metadata"]["name"]
        if self._may(user, "escalate", write.resource.plural, write.namespace, name):
            return
        if write.obj.get("aggregationRule") and missing(self._rbac.rules(user), _WHOLE):
            why = "must have cluster-admin privileges to use the aggregationRule"
            raise forbidden(group=GROUP, plural=write.resource.plural, name=name, why=why)
        self._covered(write, user, [Rule.read(rule) for rule in write.obj.get("rules") or ()])

    def _binding(self, write: Write, user: User) -> None:
        reference = write.obj["roleRef"]
        plural = "roles" if reference.get("kind") == "Role" else "clusterroles"
        if self._may(user, "bind", plural, write.namespace, reference.get("name", "")):
            return
        rules = self._rbac.role_rules(reference, write.namespace)
        if rules is None:
            raise not_found(group=GROUP, plural=plural, name=reference.get("name", ""))
        self._covered(write, user, rules)

    def _covered(self, write: Write, user: User, wanted: Iterable[Rule]) -> None:
        lacking = missing(self._rbac.rules(user, write.namespace), wanted)
        if lacking:
            raise _escalates(write, user, lacking)

    def _may(self, user: User, verb: str, plural: str, namespace: str, name: str) -> bool:
        return self._authorizer.decide(Attributes(user, verb, GROUP, plural, "", namespace, name)).allowed


def _escalates(write: Write, user: User, lacking: list[Rule]) -> Forbidden:
    groups = " ".join(f'"{group}"' for group in user.groups)
    why = (
        f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n'
        + "\n".join(str(rule) for rule in lacking)
    )
    return forbidden(group=GROUP, plural=write.resource.plural, name=write.obj["metadata"]["name"], why=why)


def _only_housekeeping(write: Write) -> bool:
    """An update that touches nothing but owners and finalizers."""
    if write.old is None:
        return False
    stripped = []
    for obj in (write.obj, write.old):
        ignored = ("ownerReferences", "finalizers", "managedFields", "resourceVersion")
        metadata = {k: v for k, v in obj["metadata"].items() if k not in ignored}
        stripped.append({**obj, "metadata": metadata})
    return stripped[0] == stripped[1]
