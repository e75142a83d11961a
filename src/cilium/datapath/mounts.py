"""File systems of the kernel: bpf, where pins live, and cgroup2, where programs on sockets hang.

In: a directory wanted below the bpf file system. Out: the directory, mounted if need be; the root of cgroup2.
"""

from __future__ import annotations

import os
from pathlib import Path

from cilium.datapath.errors import DatapathError, MissingPrivilege
from cilium.datapath.libbpf.library import ffi, libc
from cilium.datapath.paths import BPF_FILESYSTEM

BPF_FS_MAGIC = 0xCAFE4A11
CGROUP_MOUNTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/run/cilium/cgroupv2"))
"""In the order of preference: systemd's places, then where upstream mounts it by itself."""


def is_bpf_filesystem(path: Path) -> bool:
    """Whether `path` lies on a bpf file system. Raises OSError when it does not exist."""
    buffer = ffi.new("long[32]")
    if libc().statfs(str(path).encode(), buffer) < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno), str(path))
    return int(buffer[0]) & 0xFFFFFFFF == BPF_FS_MAGIC


def cgroup_root(mounts: Path = Path("/proc/self/mounts")) -> Path:
    """Where the root of cgroup2 is mounted. Raises DatapathError when it is nowhere."""
    lines = [line.split() for line in mounts.read_text().splitlines()]
    found = [Path(words[1]) for words in lines if words[2] == "cgroup2"]
    preferred = [path for path in CGROUP_MOUNTS if path in found]
    if not found:
        raise DatapathError("no cgroup2 file system is mounted: mount one (mount -t cgroup2 none DIR), and name DIR in "
                            "cgroup.hostRoot if it is no usual place")  # fmt: skip
    return (preferred or found)[0]


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
