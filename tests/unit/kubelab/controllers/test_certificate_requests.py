"""CertificateSigningRequests: what is refused, who gets a certificate, what it says, when requests go."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from unit.kubelab.controllers.cluster import Cluster

from kubelab.apiserver.errors import ApiError
from kubelab.apiserver.tls import Authority
from kubelab.apiserver.users import REQUESTER, User
from kubelab.controllers.manager import ControllerOptions
from kubelab.controllers.upkeep.certificate_requests import REQUESTS

CLIENT, KUBELET = "kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet"


def request(
    name: str, signer: str = CLIENT, *, groups: tuple[str, ...] = ("devs",), common: str = "", **more: Any
) -> dict[str, Any]:
    """`common`: the name in the subject, where it is not that of the object."""
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, common or name)])
    key = ec.generate_private_key(ec.SECP256R1())
    pem = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    text = base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode()
    spec = {"request": text, "signerName": signer, "usages": ["client auth"], **more}
    return {"metadata": {"name": name}, "spec": spec}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    made = Cluster()
    made._options = ControllerOptions(sign=Authority(tmp_path).sign)
    made.stop()
    made.start()
    return made


async def decide(cluster: Cluster, name: str, word: str) -> dict[str, Any]:
    condition = {"type": word, "status": "True", "reason": "Test"}
    found = cluster.store.peek(REQUESTS, name)
    await cluster.store.update(REQUESTS, {**found, "status": {"conditions": [condition]}}, subresource="approval")
    await cluster.settle()
    status: dict[str, Any] = cluster.store.peek(REQUESTS, name)["status"]
    return status


async def test_who_is_approved_gets_a_certificate_for_what_was_asked(cluster: Cluster) -> None:
    REQUESTER.set(User("ann", ("devs", "system:authenticated")))
    usages = ["client auth", "digital signature"]
    made = await cluster.store.create(REQUESTS, request("ann", expirationSeconds=3600, usages=usages, username="root"))
    assert (made["spec"]["username"], made["spec"]["groups"]) == ("ann", ["devs", "system:authenticated"])
    await cluster.settle()
    assert not cluster.store.peek(REQUESTS, "ann").get("status")
    status = await decide(cluster, "ann", "Approved")
    certificate = x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))
    assert certificate.subject.rfc4514_string() == "CN=ann,O=devs"
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime.total_seconds() == 3600 + 3600, "it begins an hour ago, for clocks that are late"
    extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    changed = {**cluster.store.peek(REQUESTS, "ann"), "spec": request("eve")["spec"]}
    assert (await cluster.store.update(REQUESTS, changed))["spec"] == made["spec"], "what was asked for stays"


async def test_a_kubelets_certificate_is_of_no_other_group(cluster: Cluster) -> None:
    for name, groups in (("node", ("system:nodes",)), ("more", ("system:masters", "system:nodes"))):
        await cluster.store.create(REQUESTS, request(name, KUBELET, groups=groups, common="system:node:n1"))
    assert "certificate" in await decide(cluster, "node", "Approved")
    assert "certificate" not in await decide(cluster, "more", "Approved")


async def test_no_certificate_for_what_is_denied_or_not_the_signers(cluster: Cluster) -> None:
    for body in (request("denied"), request("server", usages=["server auth"]), request("node", KUBELET),
                 request("other", "example.com/mine")):  # fmt: skip
        await cluster.store.create(REQUESTS, body)
    assert "certificate" not in await decide(cluster, "denied", "Denied")
    assert "certificate" not in await decide(cluster, "other", "Approved")
    for name, why in (("server", "invalid usages"), ("node", "system:nodes")):
        status = await decide(cluster, name, "Approved")
        (failed,) = (entry for entry in status["conditions"] if entry["type"] == "Failed")
        assert failed["reason"] == "SignerValidationFailure"
        assert why in failed["message"]
        assert "certificate" not in status


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"request": base64.b64encode(b"nothing").decode()}, "PEM block type must be CERTIFICATE REQUEST"),
        ({"usages": []}, "spec.usages: Required value"),
        ({"usages": ["client"]}, 'spec.usages[0]: Unsupported value: "client"'),
        ({"signerName": "mine"}, "spec.signerName: Invalid value"),
        ({"expirationSeconds": 60}, "less than 600 seconds"),
    ],
)
async def test_bad_requests_are_refused(cluster: Cluster, fault: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError) as refused:
        await cluster.store.create(REQUESTS, request("bad", **fault))
    assert said in str(refused.value)


async def test_requests_go_when_they_are_over(cluster: Cluster) -> None:
    await cluster.store.create(REQUESTS, request("decided"))
    await cluster.store.create(REQUESTS, request("forgotten"))
    await decide(cluster, "decided", "Denied")
    cluster.pass_time(3601)
    await cluster.settle()
    assert cluster.store.peek(REQUESTS, "decided") is None
    assert cluster.store.peek(REQUESTS, "forgotten") is not None
    cluster.pass_time(86400)
    await cluster.settle()
    assert cluster.store.peek(REQUESTS, "forgotten") is None
