"""Ways to the API server, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cilium.sources.kubernetes.config import ClientConfig, from_kubeconfig, in_cluster, resolve
from cilium.sources.kubernetes.errors import ConfigError


def account(directory: Path) -> Path:
    (directory / "token").write_text("secret")
    (directory / "ca.crt").write_bytes(b"PEM")
    return directory


def kubeconfig(directory: Path, **changes: object) -> Path:
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1:6443/"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    } | changes
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("host", "url"), [("10.0.0.1", "https://10.0.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")]
)
def test_in_cluster(tmp_path: Path, host: str, url: str) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "6443"}
    config = in_cluster(service_account=account(tmp_path), environ=environ)
    assert (config.server, config.ca, config.token_file) == (url, b"PEM", tmp_path / "token")


def test_a_url_overrides_the_environment_and_the_kubeconfig(tmp_path: Path) -> None:
    config = resolve(server="https://api:1/", service_account=account(tmp_path), environ={})
    assert config.server == "https://api:1"
    config = resolve(server="https://api:1", kubeconfig=kubeconfig(tmp_path))
    assert (config.server, config.token) == ("https://api:1", "t")
    assert resolve(kubeconfig=kubeconfig(tmp_path)).server == "https://10.0.0.1:6443"


def test_no_way_to_the_server_names_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"KUBERNETES_SERVICE_HOST is not set.*k8s-kubeconfig-path.*k8s-api-server"):
        resolve(environ={})
    with pytest.raises(ConfigError, match=r"no service account token at .*token"):
        resolve(environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, service_account=tmp_path)
    with pytest.raises(ConfigError, match=r"'api:6443' is no URL"):
        resolve(server="api:6443")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"current-context": "x"}, r"no context 'x' \(current-context\); contexts: c"),
        ({"clusters": []}, "names cluster 'k', which has no server"),
        ({"users": [{"name": "u", "user": {"exec": {"command": "aws"}}}]}, "helper program"),
        ({"users": [{"name": "u", "user": {"client-key-data": "%"}}]}, "client-key-data is no base64"),
        ({"users": [{"name": "u", "user": {"client-key": "gone.pem"}}]}, "cannot read .*gone.pem"),
        ({"contexts": "text"}, "Expected `array"),
    ],
)
def test_a_broken_kubeconfig_says_where(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_kubeconfig(kubeconfig(tmp_path, **changes))


def test_a_context_is_chosen_by_name(tmp_path: Path) -> None:
    contexts = [{"name": name, "context": {"cluster": "k", "user": "u"}} for name in ("c", "d")]
    path = kubeconfig(tmp_path, **{"contexts": contexts, "current-context": "none"})
    assert resolve(kubeconfig=path, context="d").server == from_kubeconfig(path, "c").server
    with pytest.raises(ConfigError, match="no context 'e'; contexts: c, d"):
        resolve(kubeconfig=path, context="e")


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nothing"):
        from_kubeconfig(tmp_path / "nothing")
    (tmp_path / "bad").write_text("{[")
    with pytest.raises(ConfigError, match=r"kubeconfig .*bad"):
        from_kubeconfig(tmp_path / "bad")


def test_bad_certificates_are_named() -> None:
    with pytest.raises(ConfigError, match=r"CA certificate for https://x"):
        ClientConfig(server="https://x", ca=b"junk").tls()
    with pytest.raises(ConfigError, match=r"client certificate"):
        ClientConfig(server="https://x", client_certificate=b"junk").tls()
    assert ClientConfig(server="http://x").tls() is None
