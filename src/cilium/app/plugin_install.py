"""Puts the CNI plugins and their configuration where the container runtime looks for them.

Plugins come first and the configuration last, each by rename: a runtime that sees the configuration can add pods.
"""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path

import msgspec
import structlog

log = structlog.get_logger("cni")


def install_plugins(directory: Path) -> None:
    """Writes `cilium-cni`, and `loopback`, which every runtime calls first, where the node has none of its own."""
    _install(directory / "cilium-cni", "cni_plugin.py")
    if not (directory / "loopback").exists():
        _install(directory / "loopback", "loopback_plugin.py")


def _install(path: Path, module: str) -> None:
    """The module's text, run by this machine's own interpreter."""
    interpreter = os.path.realpath(sys.executable)
    _, _, body = files("cilium.app").joinpath(module).read_text().partition("\n")
    _replace(path, f"#!{interpreter} -SEI\n{body}".encode(), 0o755)


def configuration() -> bytes:
    """The network configuration list, CNI 1.0.0."""
    plugin = {"type": "cilium-cni"}
    return msgspec.json.format(
        msgspec.json.encode({"cniVersion": "1.0.0", "name": "cilium", "plugins": [plugin]}), indent=2
    )


def install_configuration(path: Path, *, exclusive: bool) -> None:
    """Writes the list; with `exclusive`, others of the directory are set aside as `*.cilium_bak`."""
    if exclusive:
        for other in path.parent.glob("*.conf*"):
            if other != path and not other.name.endswith(".cilium_bak"):
                other.rename(other.with_name(other.name + ".cilium_bak"))
                log.info("set aside another cni configuration", path=str(other))
    _replace(path, configuration(), 0o644)


def _replace(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.chmod(mode)
    part.rename(path)
