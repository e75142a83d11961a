"""The client against a real server on loopback: retries, refusals, tokens, TLS with client certificates."""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from unit.sources.kubernetes.fake_api import FakeAPI

from cilium.sources.kubernetes import client as client_module
from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import ClientConfig, from_kubeconfig
from cilium.sources.kubernetes.errors import ApiError, ConfigError, Unreachable
from cilium.sources.kubernetes.writes import Writes

PODS = "/api/v1/pods"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAUSE", 0.0)


async def test_a_refusal_carries_status_reason_and_message() -> None:
    async with FakeAPI() as api, Client(ClientConfig(server=api.url)) as client:
        api.objects[PODS] = {}
        with pytest.raises(ApiError, match=r"GET /api/v1/pods/x: 404 NotFound: x not found") as caught:
            await client.request("GET", f"{PODS}/x")
        assert (caught.value.status, caught.value.reason) == (404, "NotFound")


async def test_a_proxy_that_speaks_html_is_an_api_error_too() -> None:
    async with FakeAPI() as api, Client(ClientConfig(server=api.url)) as client:
        api.refuse[f"GET {PODS}"] = (502, {"text": "<html>bad gateway</html>"})
        with pytest.raises(ApiError, match="502 Bad Gateway: <html>bad gateway"):
            await client.request("GET", PODS)


async def test_a_busy_server_is_asked_again() -> None:
    async with FakeAPI() as api, Client(ClientConfig(server=api.url)) as client:
        api.refuse[f"GET {PODS}"] = (429, {"headers": {"Retry-After": "0"}})
        assert b"items" in await client.request("GET", PODS)
        assert len(api.requests) == 2


async def test_nobody_there_is_unreachable_after_some_attempts() -> None:
    async with FakeAPI() as api:
        server = api.url
    async with Client(ClientConfig(server=server)) as client:
        with pytest.raises(Unreachable, match=rf"GET {server}/api/v1/pods: .*refused|Connect"):
            await client.request("GET", PODS)


async def test_a_slow_server_is_unreachable_after_the_timeout() -> None:
    async with FakeAPI() as api, Client(ClientConfig(server=api.url), timeout=0.05) as client:
        api.hang = asyncio.Event()
        with pytest.raises(Unreachable):
            await client.request("GET", PODS)
        api.hang.set()


async def test_a_connection_that_died_idle_is_replaced_also_for_writes() -> None:
    async with FakeAPI() as api, Client(ClientConfig(server=api.url)) as client:
        await client.request("GET", PODS)
        await api.stop()
        await api.start()
        assert b"items" in await client.request("GET", PODS)


async def test_a_broken_answer_is_asked_for_again_unless_it_may_have_created_something() -> None:
    async with FakeAPI() as api, Client(ClientConfig(server=api.url)) as client:
        api.abort = {f"GET {PODS}", f"PUT {PODS}/a", f"POST {PODS}"}
        await client.request("GET", PODS)
        assert len(api.requests) == 2
        await api.put(PODS, "a", {"metadata": {"name": "a"}})
        await client.request("PUT", f"{PODS}/a", body=b'{"metadata": {"name": "a"}}')
        assert len(api.requests) == 4
        with pytest.raises(Unreachable, match="POST"):
            await client.request("POST", PODS, body=b'{"metadata": {"name": "b"}}')
        assert len(api.requests) == 5


async def test_a_token_file_that_is_missing_is_named(tmp_path: Path) -> None:
    async with Client(ClientConfig(server="http://localhost:1", token_file=tmp_path / "token")) as client:
        with pytest.raises(ConfigError, match=r"service account token .*No such file"):
            await client.request("GET", PODS)


async def test_the_token_is_read_anew_after_a_401(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    async with FakeAPI() as api, Client(ClientConfig(server=api.url, token_file=token)) as client:
        api.token = "old"
        await client.request("GET", PODS)
        api.token = "new"
        token.write_text("new\n")
        with pytest.raises(ApiError, match="401 Unauthorized"):
            await client.request("GET", PODS)
        await client.request("GET", PODS)
        token.unlink()
        await client.request("GET", PODS)


async def test_writes() -> None:
    nodes = "/apis/cilium.io/v2/ciliumnodes"
    async with FakeAPI() as api, Client(ClientConfig(server=api.url)) as client:
        writes = Writes(client, field_manager="test")
        created = await writes.create(nodes, {"metadata": {"name": "n1"}, "spec": {"a": 1}})
        assert created["spec"] == {"a": 1}
        with pytest.raises(ApiError) as caught:
            await writes.create(nodes, {"metadata": {"name": "n1"}})
        assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
        await writes.patch(nodes, "n1", {"spec": {"a": 2}})
        await writes.patch_status(nodes, "n1", {"status": {"ok": True}})
        assert (await writes.get(nodes, "n1"))["spec"] == {"a": 2}
        await writes.ensure(nodes, "n2", {"metadata": {"name": "n2"}})
        await writes.ensure(nodes, "n2", {"metadata": {"name": "n2"}, "spec": {"b": 1}})
        assert [item["metadata"]["name"] for item in await writes.list(nodes)] == ["n1", "n2"]
        assert await writes.delete(nodes, "n2")
        assert not await writes.delete(nodes, "n2")
        assert await writes.find(nodes, "n2") is None
    assert [kind for kind, _ in api.bodies][2:4] == ["application/merge-patch+json"] * 2
    assert ("PATCH", f"{nodes}/n1/status", {"fieldManager": "test"}) in api.requests
    assert ("PATCH", f"{nodes}/n1", {"fieldManager": "test"}) in api.requests


class Authority:
    """A CA that signs certificates for `localhost` and for clients."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("test CA", self.key, None, ca=True)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        return pem(self._sign(name, key, self.certificate)), key_pem(key)

    def _sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None, *, ca: bool = False
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def server_context(authority: Authority, directory: Path) -> ssl.SSLContext:
    certificate, key = authority.issue("localhost")
    (directory / "server.pem").write_bytes(certificate + key)
    (directory / "ca.pem").write_bytes(pem(authority.certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=directory / "ca.pem")
    context.load_cert_chain(directory / "server.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_tls_with_a_client_certificate_from_a_kubeconfig(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("system:node:n1")
    async with FakeAPI(tls=server_context(authority, tmp_path)) as api:
        kubeconfig = tmp_path / "config"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "lab",
                    "contexts": [{"name": "lab", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": api.url, "certificate-authority": "ca.pem"}}],
                    "users": [
                        {
                            "name": "u",
                            "user": {
                                "client-certificate-data": base64.b64encode(certificate).decode(),
                                "client-key-data": base64.b64encode(key).decode(),
                            },
                        }
                    ],
                }
            )
        )
        async with Client(from_kubeconfig(kubeconfig)) as client:
            assert b"items" in await client.request("GET", PODS)
        async with Client(ClientConfig(server=api.url, ca=pem(authority.certificate))) as client:
            with pytest.raises(Unreachable):
                await client.request("GET", PODS)  # no certificate of ours
        async with Client(ClientConfig(server=api.url, ca=pem(Authority().certificate))) as client:
            with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
                await client.request("GET", PODS)  # not our server
