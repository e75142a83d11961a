"""The bpf file system, where pins live. In: a directory wanted below it. Out: the directory, mounted if need be."""

from __future__ import annotations

import os
from pathlib import Path

from cilium.datapath.errors import DatapathError, MissingPrivilege
from cilium.datapath.libbpf.library import ffi, libc
from cilium.datapath.paths import BPF_FILESYSTEM

BPF_FS_MAGIC = 0xCAFE4A11


def is_bpf_filesystem(path: Path) -> bool:
    """Whether `path` lies on a bpf file system. Raises OSError when it does not exist."""
    buffer = ffi.new("long[32]")
    if libc().statfs(str(path).encode(), buffer) < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno), str(path))
    return int(buffer[0]) & 0xFFFFFFFF == BPF_FS_MAGIC


def mount_bpf_filesystem(directory: Path) -> None:
    """Mount a bpf file system. Raises OSError."""
    if libc().mount(b"bpf", str(directory).encode(), b"bpf", 0, ffi.NULL) < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno), str(directory))


def ensure_bpf_directory(directory: Path) -> None:
    """Create `directory` on a bpf file system; mount one at /sys/fs/bpf when there is none yet.

    Raises MissingPrivilege, DatapathError.
    """
    try:
        if directory.is_relative_to(BPF_FILESYSTEM) and not is_bpf_filesystem(BPF_FILESYSTEM):
            mount_bpf_filesystem(BPF_FILESYSTEM)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if not is_bpf_filesystem(directory):
            raise DatapathError(
                f"{directory} is on no bpf file system; mount one (mount -t bpf bpf DIR) and name a directory below it"
            )
    except PermissionError as error:
        raise MissingPrivilege(f"prepare {directory}: {error.strerror}; run as root") from None
    except OSError as error:
        raise DatapathError(f"prepare {directory}: {error.strerror}") from None
