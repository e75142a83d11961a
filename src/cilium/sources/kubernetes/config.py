"""Where the API server is and who we are to it.

In: the pod's service account, a kubeconfig file, or a URL that overrides either's. Out: a `ClientConfig`.
Source: Kubernetes documentation, "Accessing the API from a Pod" and the kubeconfig (v1) reference.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml

from cilium.sources.kubernetes.errors import ConfigError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`token_file` is read anew before it can expire; `token` is for kubeconfigs that carry one."""

    server: str
    """http(s)://host:port, without a slash at the end."""
    ca: bytes = b""
    """PEM; empty takes the system's."""
    client_certificate: bytes = b""
    client_key: bytes = b""
    token: str = ""
    token_file: Path | None = None
    tls_server_name: str = ""
    insecure: bool = False

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, None for http. Raises ConfigError for unusable certificates."""
        if not self.server.startswith("https://"):
            return None
        try:
            context = ssl.create_default_context(cadata=self.ca.decode() if self.ca else None)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise ConfigError(f"the CA certificate for {self.server} is no PEM certificate: {error}") from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_certificate:
            _load_pair(context, self.client_certificate, self.client_key)
        return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Python's ssl takes a client certificate from files only: 0600, gone before anybody could want them."""
    with tempfile.NamedTemporaryFile(prefix="cilium-client-", suffix=".pem") as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError as error:
            raise ConfigError(f"the client certificate and its key do not load: {error}") from error


def resolve(
    *,
    server: str = "",
    kubeconfig: str | Path = "",
    context: str = "",
    service_account: Path = SERVICE_ACCOUNT,
    environ: Mapping[str, str] = os.environ,
) -> ClientConfig:
    """The kubeconfig if one is named, else the pod's service account; `server` overrides the URL of either.

    `context`: of the kubeconfig; empty is its current one.

    Raises ConfigError saying what is missing.
    """
    if server:
        parts = urlsplit(server)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"k8s-api-server: {server!r} is no URL; write https://host:port")
    config = (
        from_kubeconfig(Path(kubeconfig), context)
        if kubeconfig
        else in_cluster(service_account=service_account, environ=environ, server=server)
    )
    return msgspec.structs.replace(config, server=(server or config.server).rstrip("/"))


def in_cluster(
    *, service_account: Path = SERVICE_ACCOUNT, environ: Mapping[str, str] = os.environ, server: str = ""
) -> ClientConfig:
    """As a pod sees the API server. Raises ConfigError."""
    if not server:
        host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise ConfigError(
                "KUBERNETES_SERVICE_HOST is not set, so this is no pod; "
                "name a kubeconfig (k8s-kubeconfig-path) or a URL (k8s-api-server)"
            )
        server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    token_file, ca_file = service_account / "token", service_account / "ca.crt"
    if server.startswith("https://") and not token_file.exists():
        raise ConfigError(
            f"no service account token at {token_file}; is automountServiceAccountToken switched off for this pod?"
        )
    return ClientConfig(
        server=server,
        ca=_read(ca_file, "ca.crt of the service account") if ca_file.exists() else b"",
        token_file=token_file if token_file.exists() else None,
    )


class _Cluster(msgspec.Struct, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""


class _User(msgspec.Struct, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    exec: object = None
    auth_provider: object = None


class _Context(msgspec.Struct):
    cluster: str = ""
    user: str = ""


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: _Cluster


class _NamedUser(msgspec.Struct):
    name: str
    user: _User | None = None


class _NamedContext(msgspec.Struct):
    name: str
    context: _Context


class _Kubeconfig(msgspec.Struct, rename="kebab"):
    current_context: str = ""
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None


def from_kubeconfig(path: Path, context: str = "") -> ClientConfig:
    """A context of a kubeconfig file, without a name the current one. Raises ConfigError."""
    try:
        config = msgspec.convert(yaml.safe_load(_read(path, "kubeconfig")), _Kubeconfig)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"kubeconfig {path}: {error}") from error
    wanted = context or config.current_context
    contexts = {entry.name: entry.context for entry in config.contexts or ()}
    if wanted not in contexts:
        known = ", ".join(sorted(contexts)) or "none"
        raise ConfigError(
            f"kubeconfig {path}: no context {wanted!r}{'' if context else ' (current-context)'}; contexts: {known}"
        )
    chosen = contexts[wanted]
    cluster = {entry.name: entry.cluster for entry in config.clusters or ()}.get(chosen.cluster)
    user = {entry.name: entry.user or _User() for entry in config.users or ()}.get(chosen.user, _User())
    if cluster is None or not cluster.server:
        raise ConfigError(
            f"kubeconfig {path}: context {wanted!r} names cluster {chosen.cluster!r}, which has no server"
        )
    if user.exec is not None or user.auth_provider is not None:
        raise ConfigError(
            f"kubeconfig {path}: user {chosen.user!r} logs in with a helper program, which a node agent cannot; "
            "use a client certificate, a token or a tokenFile"
        )

    def pem(data: str, file: str, field: str) -> bytes:
        if data:
            try:
                return base64.b64decode(data, validate=True)
            except binascii.Error as error:
                raise ConfigError(f"kubeconfig {path}: {field}-data is no base64: {error}") from error
        return _read(path.parent / file, f"{field} of kubeconfig {path}") if file else b""

    return ClientConfig(
        server=cluster.server.rstrip("/"),
        ca=pem(cluster.certificate_authority_data, cluster.certificate_authority, "certificate-authority"),
        client_certificate=pem(user.client_certificate_data, user.client_certificate, "client-certificate"),
        client_key=pem(user.client_key_data, user.client_key, "client-key"),
        token=user.token,
        token_file=path.parent / user.token_file if user.token_file else None,
        tls_server_name=cluster.tls_server_name,
        insecure=cluster.insecure_skip_tls_verify,
    )


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{what}: cannot read {path}: {error.strerror}") from error
