"""What is installed on a node: the compiled objects are in the wheel, so that no node needs a compiler."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from cilium.datapath.paths import OBJECT_DIRECTORY

ROOT = Path(__file__).resolve().parents[3]


def test_the_wheel_holds_the_objects(tmp_path: Path) -> None:
    uv = shutil.which("uv") or str(Path.home() / ".local/bin/uv")
    if not Path(uv).exists():
        pytest.skip("uv is not installed")
    subprocess.run(
        ["make", "-s", "-C", str(ROOT / "bpf"), f"OUT={OBJECT_DIRECTORY}"], check=True, stdout=subprocess.DEVNULL
    )
    subprocess.run([uv, "build", "--wheel", "-q", "-o", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("cilium-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        objects = {f"cilium/datapath/objects/{hook}.bpf.o" for hook in ("lxc", "host", "overlay", "netdev")}
        assert objects <= names
        assert "cilium/datapath/generated/libbpf.py" in names
        assert not [name for name in names if name.endswith((".c", ".d")) or "/.deps/" in name]
        assert archive.read("cilium/datapath/objects/lxc.bpf.o")[:4] == b"\x7fELF"
