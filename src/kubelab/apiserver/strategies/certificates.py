"""CertificateSigningRequests: who asks is written into them, and what they ask for stays.

Source: Kubernetes documentation "Certificates and Certificate Signing Requests".
"""

import base64
import binascii
import re

from cryptography import x509

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Object, Reader
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value, required, unsupported
from kubelab.apiserver.users import CONTROLLERS, REQUESTER

USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
SHORTEST = 600
_SIGNER = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.:]*[A-Za-z0-9])?")


class CertificateRequestStrategy(NamedStrategy):
    def prepare_create(self, obj: Object, store: Reader) -> None:
        super().prepare_create(obj, store)
        if isinstance(spec := obj.get("spec"), dict):
            user = REQUESTER.get() or CONTROLLERS
            for field in ("uid", "extra"):
                spec.pop(field, None)
            spec["username"], spec["groups"] = user.name, list(user.groups)
            if user.uid:
                spec["uid"] = user.uid
            if user.extra:
                spec["extra"] = {name: list(values) for name, values in user.extra}

    def prepare_update(self, obj: Object, old: Object, store: Reader) -> None:
        super().prepare_update(obj, old, store)
        obj["spec"] = old["spec"]

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec = obj.get("spec") or {}
        if old is not None or not isinstance(spec, dict):
            return causes
        if problem := _problem(spec.get("request") or ""):
            causes.append(invalid_value("spec.request", spec.get("request") or "", problem))
        if not spec.get("usages"):
            causes.append(required("spec.usages", "usages must not be empty"))
        for index, usage in enumerate(spec.get("usages") or ()):
            if usage not in USAGES:
                causes.append(unsupported(f"spec.usages[{index}]", usage, USAGES))
        if not spec.get("signerName"):
            causes.append(required("spec.signerName"))
        elif not _SIGNER.fullmatch(spec["signerName"]):
            why = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
            causes.append(invalid_value("spec.signerName", spec["signerName"], why))
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < SHORTEST:
            why = "may not specify a duration less than 600 seconds (10 minutes)"
            causes.append(invalid_value("spec.expirationSeconds", seconds, why))
        return causes


def _problem(request: str) -> str:
    """Why this is no request, empty if it is one."""
    try:
        pem = base64.b64decode(request, validate=True)
        if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
            return "PEM block type must be CERTIFICATE REQUEST"
        signed = x509.load_pem_x509_csr(pem).is_signature_valid
    except (binascii.Error, ValueError) as error:
        return str(error)
    return "" if signed else "its signature does not fit its key"
