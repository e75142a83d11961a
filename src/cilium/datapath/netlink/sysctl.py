"""Kernel parameters below /proc/sys, of the calling thread's network namespace where they are per namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cilium.datapath.errors import DatapathError

ROOT = Path("/proc/sys")


class SysctlError(DatapathError):
    """A parameter cannot be read or written."""


class SysctlPort(Protocol):
    """Parameters by path, e.g. `net/ipv4/conf/eth0.100/rp_filter`: slashes, since names of devices contain dots."""

    def read(self, path: str) -> str:
        """Raises SysctlError."""

    def write(self, path: str, value: int | str) -> bool:
        """Returns whether it changed. Raises SysctlError."""


class Sysctls:
    """`SysctlPort` of the kernel."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def read(self, path: str) -> str:
        """See SysctlPort."""
        try:
            return (self._root / path).read_text().strip()
        except OSError as error:
            raise SysctlError(f"read kernel parameter {path}: {error.strerror}") from None

    def write(self, path: str, value: int | str) -> bool:
        """See SysctlPort. A parameter that has the value already is not written: it may be read-only."""
        wanted = str(value)
        if self.read(path).split() == wanted.split():
            return False
        try:
            (self._root / path).write_text(wanted)
        except OSError as error:
            raise SysctlError(
                f"set kernel parameter {path} to {wanted}: {error.strerror}; "
                "the agent needs /proc/sys/net writable (a privileged container)"
            ) from None
        return True
