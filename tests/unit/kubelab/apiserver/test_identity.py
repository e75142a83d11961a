"""Who may come in: certificates and tokens."""

import pytest
from cryptography import x509

from kubelab.apiserver.authentication import Authenticator
from kubelab.apiserver.errors import Unauthorized
from kubelab.apiserver.tls import Authority
from kubelab.apiserver.tokens import BoundObject, Tokens


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "pki")


@pytest.fixture
def tokens(authority):
    return Tokens(authority.signing_key())


def test_certificates_are_signed_by_the_authority_and_name_their_owner(authority):
    ca = x509.load_pem_x509_certificate(authority.certificate)
    client = x509.load_pem_x509_certificate(authority.client("system:node:n1", groups=["system:nodes"]).certificate)
    client.verify_directly_issued_by(ca)
    assert client.subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"
    server = x509.load_pem_x509_certificate(authority.server(["10.96.0.1", "fd00::1", "kubernetes"]).certificate)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kubernetes"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.96.0.1", "fd00::1"]


def test_the_authority_survives_a_restart_and_its_keys_are_private(authority, tmp_path):
    again = Authority(tmp_path / "pki")
    assert again.certificate == authority.certificate
    assert again.signing_key().private_numbers() == authority.signing_key().private_numbers()
    assert (tmp_path / "pki" / "ca.key").stat().st_mode & 0o777 == 0o600


async def test_tokens_are_good_while_account_and_pod_live(store, tokens, pod):
    account = await store.create("serviceaccounts", {"metadata": {"name": "sa"}}, namespace="default")
    bound = await store.create("pods", pod(), namespace="default")
    reference = {"pod": BoundObject("web", bound["metadata"]["uid"])}
    token, _ = tokens.issue(account, seconds=600, bound=reference)
    authenticator = Authenticator(tokens, store)

    user = authenticator.authenticate(certificate=None, authorization=f"Bearer {token}")
    assert user.name == "system:serviceaccount:default:sa"
    assert "system:serviceaccounts:default" in user.groups

    await store.delete("pods", "web", namespace="default")
    with pytest.raises(Unauthorized, match="pod default/web"):
        authenticator.authenticate(certificate=None, authorization=f"Bearer {token}")
    free, _ = tokens.issue(account, seconds=600)
    await store.delete("serviceaccounts", "sa", namespace="default")
    with pytest.raises(Unauthorized, match="service account default/sa is gone"):
        authenticator.authenticate(certificate=None, authorization=f"Bearer {free}")


async def test_forged_expired_and_absent_tokens_are_refused(store, tokens, tmp_path):
    account = await store.create("serviceaccounts", {"metadata": {"name": "sa"}}, namespace="default")
    stranger = Tokens(Authority(tmp_path / "other").signing_key())
    forged, _ = stranger.issue(account, seconds=600)
    expired, _ = tokens.issue(account, seconds=-1)
    authenticator = Authenticator(tokens, store)
    for header in ("", "Basic abc", "Bearer", "Bearer a.b.c", "Bearer ?", f"Bearer {forged}", f"Bearer {expired}"):
        with pytest.raises(Unauthorized):
            authenticator.authenticate(certificate=None, authorization=header)


def test_a_certificate_is_a_user_with_groups(store, tokens):
    subject = ((("organizationName", "system:masters"),), (("commonName", "admin"),))
    user = Authenticator(tokens, store).authenticate(certificate={"subject": subject}, authorization="")
    assert (user.name, user.groups) == ("admin", ("system:masters", "system:authenticated"))
