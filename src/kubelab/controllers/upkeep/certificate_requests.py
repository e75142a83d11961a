"""Approved CertificateSigningRequests get their certificate; those that are over go.

In: requests to Kubernetes' own signers, with what `kubectl certificate approve` and `deny` said. Out:
`status.certificate`, or the condition Failed with the reason. Other signers' requests are left to them. Source:
Kubernetes documentation "Certificates and Certificate Signing Requests".
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from kubelab import timestamps
from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.store import Store
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object

REQUESTS = "certificatesigningrequests.certificates.k8s.io"
Sign = Callable[[bytes, Sequence[str], int], bytes]
"""(request, usages, seconds) -> a certificate; PEM."""
YEAR = 365 * 86400
DECIDED, WAITING = 3600.0, 86400.0
"""Seconds after which a request goes that was decided, or that nobody decided."""
_KEYS = {"digital signature", "key encipherment"}
SIGNERS: dict[str, tuple[str, frozenset[str]]] = {
    "kubernetes.io/kube-apiserver-client": ("client auth", frozenset({"client auth", *_KEYS})),
    "kubernetes.io/kube-apiserver-client-kubelet": ("client auth", frozenset({"client auth", *_KEYS})),
    "kubernetes.io/kubelet-serving": ("server auth", frozenset({"server auth", *_KEYS})),
}
"""The usage that a request must have, and those that it may have."""
_OF_KUBELETS = ("kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving")


class CertificateRequestController(Controller):
    name = "certificate-controller"

    def __init__(self, store: Store, *, pods: PodIndex, now: Callable[[], datetime], sign: Sign) -> None:
        super().__init__(store, pods=pods, now=now)
        self._sign = sign

    def watches(self) -> Mapping[str, Mapper]:
        return {REQUESTS: objects.own_key}

    async def reconcile(self, key: Key) -> float | None:
        request = self.store.peek(REQUESTS, key[1])
        if request is None or objects.is_deleting(request):
            return None
        status = request.get("status") or {}
        said = {condition["type"] for condition in status.get("conditions") or ()}
        if "Approved" in said and not said & {"Denied", "Failed"} and not status.get("certificate"):
            await self._issue(request, status)
        patience = DECIDED if said else WAITING
        left = patience - (self.now() - timestamps.parse(request["metadata"]["creationTimestamp"])).total_seconds()
        if left > 0:
            return left
        with contextlib.suppress(NotFound):
            await self.store.delete(REQUESTS, key[1], uid=objects.uid_of(request))
        return None

    async def _issue(self, request: Object, status: Object) -> None:
        spec = request["spec"]
        if spec["signerName"] not in SIGNERS:
            return
        pem = base64.b64decode(spec["request"])
        problem = _problem(spec, x509.load_pem_x509_csr(pem))
        if not problem:
            seconds = min(int(spec.get("expirationSeconds") or YEAR), YEAR)
            certificate = base64.b64encode(self._sign(pem, spec["usages"], seconds)).decode()
            await self.write_status(request, {**status, "certificate": certificate})
            return
        now = timestamps.seconds(self.now())
        failed = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": problem,
                  "lastUpdateTime": now, "lastTransitionTime": now}  # fmt: skip
        await self.write_status(request, {**status, "conditions": [*status["conditions"], failed]})


def _problem(spec: Object, request: x509.CertificateSigningRequest) -> str:
    """Why the signer does not sign this; empty: it does."""
    needed, allowed = SIGNERS[spec["signerName"]]
    if needed not in spec["usages"] or not allowed.issuperset(spec["usages"]):
        return f"invalid usages: {needed!r} and of {', '.join(sorted(_KEYS))} what is needed"
    if spec["signerName"] not in _OF_KUBELETS:
        return ""
    # Each organization is a group of the user, so one more would be one too many.
    if _subject(request, NameOID.ORGANIZATION_NAME) != ["system:nodes"]:
        return "subject organization is not system:nodes"
    if not "".join(_subject(request, NameOID.COMMON_NAME)).startswith("system:node:"):
        return "subject common name does not begin with system:node:"
    return ""


def _subject(request: x509.CertificateSigningRequest, kind: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in request.subject.get_attributes_for_oid(kind)]
