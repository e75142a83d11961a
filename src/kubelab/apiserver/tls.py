"""The cluster's own certificate authority.

Owns: the CA, the server certificate and client certificates. Comes in: a directory and names. Goes out: PEM bytes
and an `ssl.SSLContext` that asks clients for a certificate without insisting (tokens are the other way in).
"""

import ipaddress
import os
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = timedelta(days=3650)
_EXTENDED = {"client auth": ExtendedKeyUsageOID.CLIENT_AUTH, "server auth": ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """The CA of one cluster, kept in `directory` (created with mode 0700)."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._key, self._certificate = self._load() or self._create()

    @property
    def certificate(self) -> bytes:
        """The CA certificate, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def client(self, user: str, *, groups: Sequence[str] = ()) -> KeyPair:
        """A certificate that authenticates as `user` (CN) in `groups` (O)."""
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, g) for g in groups]
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        return self._issue(x509.Name(names), usage=ExtendedKeyUsageOID.CLIENT_AUTH, alternatives=())

    def server(self, names: Iterable[str]) -> KeyPair:
        """A serving certificate for DNS names and IP addresses."""
        return self._issue(_common_name("kube-apiserver"), usage=ExtendedKeyUsageOID.SERVER_AUTH, alternatives=names)

    def sign(self, request: bytes, usages: Iterable[str], seconds: int) -> bytes:
        """The certificate that a request (PEM) asks for: its subject, key and names, for these usages of Kubernetes."""
        wanted, names = x509.load_pem_x509_csr(request), set(usages)
        extended = [usage for name, usage in _EXTENDED.items() if name in names]
        signature, encipherment = "digital signature" in names, "key encipherment" in names
        # An extension that allows nothing would forbid the handshake, too.
        use = (
            _key_usage(authority=False, signature=signature, encipherment=encipherment)
            if signature or encipherment
            else None
        )
        builder = self._builder(wanted.subject, wanted.public_key(), timedelta(seconds=seconds), use, extended)
        try:
            found = wanted.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            builder = builder.add_extension(found.value, critical=found.critical)
        except x509.ExtensionNotFound:
            pass
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def server_context(self, names: Iterable[str]) -> ssl.SSLContext:
        """A context that serves for `names` and verifies client certificates of this CA when they are shown."""
        pair = self.server(names)
        chain = self._directory / "server.pem"
        _write(chain, pair.certificate + pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(chain)
        context.load_verify_locations(cadata=self.certificate.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def signing_key(self) -> ec.EllipticCurvePrivateKey:
        """The key that signs service account tokens; made on first use."""
        path = self._directory / "sa.key"
        if path.exists():
            return _private_key(path.read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        _write(path, _key_pem(key))
        return key

    def _load(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
        key, certificate = self._directory / "ca.key", self._directory / "ca.crt"
        if not (key.exists() and certificate.exists()):
            return None
        return _private_key(key.read_bytes()), x509.load_pem_x509_certificate(certificate.read_bytes())

    def _create(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        name, now = _common_name("kubernetes"), datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + _LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(self._directory / "ca.key", _key_pem(key))
        _write(self._directory / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))
        return key, certificate

    def _issue(self, subject: x509.Name, *, usage: x509.ObjectIdentifier, alternatives: Iterable[str]) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(subject, key.public_key(), _LIFETIME, _key_usage(authority=False), [usage])
        names = [_general_name(n) for n in dict.fromkeys(alternatives)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))

    def _builder(
        self, subject: x509.Name, key: CertificatePublicKeyTypes, lifetime: timedelta, use: x509.KeyUsage | None,
        extended: Sequence[x509.ObjectIdentifier],
    ) -> x509.CertificateBuilder:  # fmt: skip
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(extended), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder if use is None else builder.add_extension(use, critical=True)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, authority: bool, signature: bool = True, encipherment: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key file does not hold an elliptic curve key; remove it to have a new one made")
    return key


def _write(path: Path, content: bytes) -> None:
    """Replace in one step, readable by the owner only."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
