"""What a container runtime finds: plugins first, then the configuration, others' set aside."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from cilium.app.plugin_install import install_configuration, install_plugins


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "bin"


def test_the_plugins_run_without_the_package(directory: Path) -> None:
    install_plugins(directory)
    install_plugins(directory)
    assert sorted(path.name for path in directory.iterdir()) == ["cilium-cni", "loopback"]
    for name in ("cilium-cni", "loopback"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o755
        answer = subprocess.run(
            [directory / name],
            env={"CNI_COMMAND": "VERSION"},
            input=b'{"cniVersion": "1.0.0"}',
            capture_output=True,
            check=True,
        )
        assert "1.0.0" in json.loads(answer.stdout)["supportedVersions"]


def test_the_nodes_own_loopback_stays_and_ours_is_renewed(directory: Path) -> None:
    directory.mkdir()
    (directory / "loopback").write_text("theirs")
    (directory / "cilium-cni").write_text("an older version")
    install_plugins(directory)
    assert (directory / "loopback").read_text() == "theirs"
    assert (directory / "cilium-cni").read_text().startswith("#!")


def test_the_configuration_names_our_plugin(tmp_path: Path) -> None:
    path = tmp_path / "net.d" / "05-cilium.conflist"
    install_configuration(path, exclusive=True)
    document = json.loads(path.read_text())
    assert (document["name"], document["plugins"]) == ("cilium", [{"type": "cilium-cni"}])
    assert os.listdir(path.parent) == ["05-cilium.conflist"]


@pytest.mark.parametrize(
    ("exclusive", "expected"),
    [
        (True, ["05-cilium.conflist", "10-flannel.conflist.cilium_bak", "99-old.conf.cilium_bak", "README"]),
        (False, ["05-cilium.conflist", "10-flannel.conflist", "99-old.conf.cilium_bak", "README"]),
    ],
)
def test_configurations_of_others(tmp_path: Path, exclusive: bool, expected: list[str]) -> None:
    for name in ("10-flannel.conflist", "99-old.conf.cilium_bak", "README"):
        (tmp_path / name).write_text("theirs")
    for _ in range(2):
        install_configuration(tmp_path / "05-cilium.conflist", exclusive=exclusive)
        assert sorted(os.listdir(tmp_path)) == expected
