"""Volumes: where a subPath leads, and what is tried again when a part of them could not be written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from kubelab.kubelet.config import KubeletConfig
from kubelab.kubelet.environment import MissingReferenceError
from kubelab.kubelet.volumes import Sources, VolumeError, Volumes

TOKEN = {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}


def pod(*volumes: dict[str, Any], sub: str = "") -> dict[str, Any]:
    mounts = [{"name": volumes[0]["name"], "mountPath": "/data", **({"subPath": sub} if sub else {})}]
    container = {"name": "main", "volumeMounts": mounts}
    spec = {"automountServiceAccountToken": False, "volumes": list(volumes), "containers": [container]}
    return {"metadata": {"name": "p", "namespace": "n"}, "spec": spec}


class Api:
    """What a kubelet is told; `secret` None: there is none."""

    def __init__(self) -> None:
        self.secret: dict[str, bytes] | None = {"key": b"1"}
        self.asked = 0

    async def fetch(self, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
        return self.secret

    async def token(self, pod: dict[str, Any], audience: str | None, seconds: int) -> str:
        self.asked += 1
        return f"token {self.asked}"

    async def nothing(self, *_: object) -> Any:
        raise AssertionError("nobody asks")

    def volumes(self, pod: dict[str, Any], directory: Path) -> Volumes:
        config = KubeletConfig.__new__(KubeletConfig)
        return Volumes(pod, directory, Sources(self.fetch, self.token, config, self.nothing, self.nothing))


async def test_a_volume_that_cannot_be_written_keeps_no_token_from_its_renewal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, described = Api(), pod({"name": "keys", "secret": {"secretName": "keys"}}, TOKEN)
    volumes = api.volumes(described, tmp_path)
    await volumes.prepare([])
    assert not volumes.expiring()
    now = time.time() + 3000
    monkeypatch.setattr(time, "time", lambda: now)
    assert volumes.expiring()
    api.secret = None
    with pytest.raises(MissingReferenceError, match="keys"):
        await volumes.refresh(described, [])
    assert (tmp_path / "token" / "token").read_text() == "token 2"
    assert not volumes.expiring()
    assert (tmp_path / "keys" / "key").read_text() == "1", "what was shown stays"


async def test_a_token_that_was_refused_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api, described = Api(), pod(TOKEN)
    volumes = api.volumes(described, tmp_path)
    await volumes.prepare([])
    now = time.time() + 3000
    monkeypatch.setattr(time, "time", lambda: now)

    async def refused(*_: object) -> str:
        raise VolumeError("failed to fetch token")

    monkeypatch.setattr(volumes, "_sources", Sources(api.fetch, refused, *[api.nothing] * 3))  # type: ignore[arg-type]
    with pytest.raises(VolumeError):
        await volumes.refresh(described, [])
    assert volumes.expiring()


@pytest.mark.parametrize("sub", ["out", "out/made", "loop", "file/below"])
async def test_no_sub_path_leaves_its_volume(tmp_path: Path, sub: str) -> None:
    """Who may write to a volume may put links there."""
    described = pod({"name": "data", "emptyDir": {}}, sub=sub)
    volumes = Api().volumes(described, tmp_path / "volumes")
    await volumes.prepare([])
    data, outside = tmp_path / "volumes" / "data", tmp_path / "outside"
    outside.mkdir()
    (data / "out").symlink_to(outside)
    (data / "loop").symlink_to("loop")
    (data / "file").touch()
    with pytest.raises(VolumeError, match=f'container "main": {sub!r}'):
        volumes.mounts(described["spec"]["containers"][0], {})
    assert not list(outside.iterdir())


async def test_a_sub_path_may_be_a_link_inside(tmp_path: Path) -> None:
    described = pod({"name": "keys", "secret": {"secretName": "keys"}}, sub="key")
    volumes = Api().volumes(described, tmp_path)
    await volumes.prepare([])
    (mount,) = volumes.mounts(described["spec"]["containers"][0], {})
    shown = (tmp_path / "keys" / "..data").readlink()
    assert mount.source == str(tmp_path / "keys" / shown / "key")
