"""The plugins of this server, in the order of the real one: what changes first, quotas last."""

from kubelab.apiserver.admission.base import Chain, Plugin
from kubelab.apiserver.admission.certificate_subject import CertificateSubjectRestriction
from kubelab.apiserver.admission.limit_ranger import LimitRanger
from kubelab.apiserver.admission.node_restriction import NodeRestriction
from kubelab.apiserver.admission.pod_security import PodSecurity
from kubelab.apiserver.admission.priority import PriorityAdmission
from kubelab.apiserver.admission.resource_quota import QuotaAdmission
from kubelab.apiserver.admission.service_account import ServiceAccountAdmission
from kubelab.apiserver.admission.storage_class import StorageClassAdmission
from kubelab.apiserver.authorization.attributes import Authorizer
from kubelab.apiserver.authorization.escalation import Escalation
from kubelab.apiserver.authorization.rbac import RbacAuthorizer


def plugins(rbac: RbacAuthorizer, authorizer: Authorizer, *policies: Plugin) -> Chain:
    """`policies`: those of users, asked before quotas are."""
    return Chain(
        [
            LimitRanger(),
            ServiceAccountAdmission(),
            NodeRestriction(),
            PodSecurity(),
            PriorityAdmission(),
            StorageClassAdmission(),
            Escalation(rbac, authorizer),
            CertificateSubjectRestriction(),
            *policies,
            QuotaAdmission(),
        ]
    )
