"""Nobody gets a certificate of the group that no role can take anything from.

Comes in: a new CertificateSigningRequest. Goes out: Forbidden when it asks the signer of clients for system:masters.
Source: Kubernetes documentation "Admission Controllers Reference", CertificateSubjectRestriction.
"""

import base64

from cryptography import x509
from cryptography.x509.oid import NameOID

from kubelab.apiserver.admission.base import Plugin, Write
from kubelab.apiserver.errors import forbidden
from kubelab.apiserver.users import MASTERS

_SIGNER = "kubernetes.io/kube-apiserver-client"


class CertificateSubjectRestriction(Plugin):
    handles = frozenset({"certificatesigningrequests.certificates.k8s.io"})

    def validate(self, write: Write) -> None:
        spec = write.obj["spec"]
        if not write.creates or spec["signerName"] != _SIGNER:
            return
        subject = x509.load_pem_x509_csr(base64.b64decode(spec["request"])).subject
        if MASTERS in (entry.value for entry in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)):
            why = f"use of {_SIGNER} signer with {MASTERS} group is not allowed"
            resource = write.resource
            raise forbidden(group=resource.group, plural=resource.plural, name=write.target, why=why)
