"""The plugins of this server, in the order of the real one: what changes first, quotas last."""

from kubelab.apiserver.admission.base import Chain
from kubelab.apiserver.authorization.attributes import Authorizer
from kubelab.apiserver.authorization.escalation import Escalation
from kubelab.apiserver.authorization.rbac import RbacAuthorizer


def plugins(rbac: RbacAuthorizer, authorizer: Authorizer) -> Chain:
    return Chain([Escalation(rbac, authorizer)])
